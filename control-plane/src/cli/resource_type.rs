//! `resource-type`: what grants are given for.

use authguardian_proto::{
    ids::ResourceTypeName,
    policy::v1::{
        GetResourceTypeRequest, ListResourceTypesRequest, PutResourceTypeRequest, ResourceType,
        resource_type_service_client::ResourceTypeServiceClient,
    },
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    output::{Format, Row},
    page::PageArgs,
    value::{or_dash, parse_score},
};

const EXAMPLES: &str = "\
Examples:
  control-plane resource-type put CRM_API --base-risk 0.4 --restriction read_only --restriction max_records:100
  control-plane resource-type show SAP_API -o yaml
  control-plane resource-type list

Risk is an integer 0 to 1000 or a decimal 0.0 to 1.0 with a point.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ResourceTypeArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a resource type, or replace it
    Put(PutArgs),
    /// Show one resource type
    Show {
        /// Which one
        name: ResourceTypeName,
    },
    /// List resource types by name
    List(PageArgs),
}

#[derive(Debug, Args)]
struct PutArgs {
    /// Which one
    name: ResourceTypeName,

    /// 0 to 1000, or 0.0 to 1.0 with a point
    #[arg(long, value_name = "RISK", value_parser = parse_score)]
    base_risk: u32,

    /// Obligation of each grant's holder; repeatable
    #[arg(long = "restriction", value_name = "TEXT")]
    restrictions: Vec<String>,

    /// Seconds that a grant lives when nothing is asked for
    #[arg(long, value_name = "N", default_value_t = 300)]
    default_ttl_seconds: u32,

    /// Seconds that no grant outlives, renewals included
    #[arg(long, value_name = "N", default_value_t = 3600)]
    max_ttl_seconds: u32,

    /// For people
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    description: String,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

impl ResourceTypeArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut client = ResourceTypeServiceClient::new(self.client.connect().await?);
        let output = self.client.output;
        match self.verb {
            Verb::Put(args) => put(client, args, output).await,
            Verb::Show { name } => {
                let request = GetResourceTypeRequest {
                    name: name.to_string(),
                };
                let found = read(async || client.get_resource_type(request).await).await?;
                output.one(&ResourceTypeView::from(
                    found.resource_type.unwrap_or_default(),
                ))
            }
            Verb::List(args) => list(client, &args, output).await,
        }
    }
}

async fn put(
    mut client: ResourceTypeServiceClient<Authenticated>,
    args: PutArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = PutResourceTypeRequest {
        resource_type: Some(ResourceType {
            name: args.name.to_string(),
            base_risk: args.base_risk,
            restrictions: args.restrictions,
            default_ttl_seconds: args.default_ttl_seconds,
            max_ttl_seconds: args.max_ttl_seconds,
            description: args.description,
        }),
        request_id: request_id.clone(),
    };
    let put = change(&request_id, async || {
        client.put_resource_type(request.clone()).await
    })
    .await?;
    output.one(&ResourceTypeView::from(
        put.resource_type.unwrap_or_default(),
    ))
}

async fn list(
    client: ResourceTypeServiceClient<Authenticated>,
    args: &PageArgs,
    output: Format,
) -> Result<(), Failure> {
    let get = async |page_size, page_token| {
        let request = ListResourceTypesRequest {
            page_size,
            page_token,
        };
        let page = read(async || client.clone().list_resource_types(request).await).await?;
        Ok((
            page.resource_types
                .into_iter()
                .map(ResourceTypeView::from)
                .collect(),
            page.next_page_token,
        ))
    };
    args.show(output, get).await
}

#[derive(Debug, Serialize)]
struct ResourceTypeView {
    name: String,
    base_risk: u32,
    restrictions: Vec<String>,
    default_ttl_seconds: u32,
    max_ttl_seconds: u32,
    description: String,
}

impl From<ResourceType> for ResourceTypeView {
    fn from(resource: ResourceType) -> Self {
        Self {
            name: resource.name,
            base_risk: resource.base_risk,
            restrictions: resource.restrictions,
            default_ttl_seconds: resource.default_ttl_seconds,
            max_ttl_seconds: resource.max_ttl_seconds,
            description: resource.description,
        }
    }
}

impl Row for ResourceTypeView {
    const PLURAL: &'static str = "resource types";
    const COLUMNS: &'static [&'static str] = &["NAME", "RISK", "TTL", "MAX TTL", "RESTRICTIONS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.base_risk.to_string(),
            format!("{}s", self.default_ttl_seconds),
            format!("{}s", self.max_ttl_seconds),
            or_dash(&self.restrictions.join(",")),
        ]
    }
}
