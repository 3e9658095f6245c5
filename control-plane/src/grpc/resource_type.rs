//! `ResourceTypeService`.

use authguardian_proto::{
    ids::ResourceTypeName,
    policy::v1::{
        GetResourceTypeRequest, GetResourceTypeResponse, ListResourceTypesRequest,
        ListResourceTypesResponse, PutResourceTypeRequest, PutResourceTypeResponse, ResourceType,
        resource_type_service_server::ResourceTypeService,
    },
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, parse, parse_optional},
};
use crate::{
    error::Error,
    policy::{
        self, Policies,
        resource_type::{DEFAULT_MAX_TTL_SECONDS, DEFAULT_TTL_SECONDS},
    },
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct ResourceTypes(pub Policies);

#[tonic::async_trait]
impl ResourceTypeService for ResourceTypes {
    async fn put_resource_type(
        &self,
        request: Request<PutResourceTypeRequest>,
    ) -> Result<Response<PutResourceTypeResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let new = read(request.into_inner().resource_type)?;
        let resource_type = self.0.put_resource_type(context, new).await?;
        Ok(Response::new(PutResourceTypeResponse {
            resource_type: Some(message_of(resource_type)),
        }))
    }

    async fn get_resource_type(
        &self,
        request: Request<GetResourceTypeRequest>,
    ) -> Result<Response<GetResourceTypeResponse>, Status> {
        let name = parse("name", &request.into_inner().name)?;
        let resource_type = self.0.resource_type(&name).await?;
        Ok(Response::new(GetResourceTypeResponse {
            resource_type: Some(message_of(resource_type)),
        }))
    }

    async fn list_resource_types(
        &self,
        request: Request<ListResourceTypesRequest>,
    ) -> Result<Response<ListResourceTypesResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let after: Option<ResourceTypeName> = parse_optional("page_token", &message.page_token)?;
        let types = self
            .0
            .list_resource_types(after.as_ref(), i64::from(size))
            .await?;
        Ok(Response::new(ListResourceTypesResponse {
            next_page_token: next_page_token(&types, size, |found| found.name.to_string()),
            resource_types: types.into_iter().map(message_of).collect(),
        }))
    }
}

fn read(message: Option<ResourceType>) -> Result<policy::ResourceType, Error> {
    let message =
        message.ok_or_else(|| Error::invalid("resource_type", "expected a resource type"))?;
    Ok(policy::ResourceType {
        name: parse("resource_type.name", &message.name)?,
        base_risk: message.base_risk,
        restrictions: message.restrictions,
        default_ttl_seconds: or_default(message.default_ttl_seconds, DEFAULT_TTL_SECONDS),
        max_ttl_seconds: or_default(message.max_ttl_seconds, DEFAULT_MAX_TTL_SECONDS),
        description: message.description,
    })
}

const fn or_default(given: u32, default: u32) -> u32 {
    if given == 0 { default } else { given }
}

fn message_of(found: policy::ResourceType) -> ResourceType {
    ResourceType {
        name: found.name.to_string(),
        base_risk: found.base_risk,
        restrictions: found.restrictions,
        default_ttl_seconds: found.default_ttl_seconds,
        max_ttl_seconds: found.max_ttl_seconds,
        description: found.description,
    }
}
