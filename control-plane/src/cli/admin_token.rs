//! `admin-token`: tokens of admins.

use authguardian_proto::{
    identity::v1::{
        AdminToken, CreateAdminTokenRequest, ListAdminTokensRequest, RevokeAdminTokenRequest, Role,
        admin_token_service_client::AdminTokenServiceClient,
    },
    ids::AdminTokenId,
};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    join_token::secret_is_lost,
    output::{Format, Row},
    page::PageArgs,
    value::{enum_name, rfc3339, short_time},
};

const EXAMPLES: &str = "\
Examples:
  control-plane admin-token create --name dashboards --role viewer --ttl-seconds 2592000
  control-plane admin-token list
  control-plane admin-token revoke adm_…";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AdminTokenArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token for a role no higher than your own; it is shown once
    Create(CreateArgs),
    /// List tokens, newest first, without their secrets
    List(PageArgs),
    /// End a token at once
    Revoke(RevokeArgs),
}

/// What an admin may do; each role may do all that the ones before it may.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Reads
    Viewer,
    /// Decides pending requests
    Approver,
    /// Runs the system: machines, agents, revocations
    Operator,
    /// Owns it: keys, policies, admin tokens
    Admin,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// For people
    #[arg(long)]
    name: String,

    /// What it may do
    #[arg(long, value_enum)]
    role: RoleArg,

    /// Seconds until it ends
    #[arg(long, value_name = "N", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(60..=31_536_000))]
    ttl_seconds: u32,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// `adm_…`
    admin_token: AdminTokenId,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

impl AdminTokenArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = AdminTokenServiceClient::new(self.client.connect().await?);
        let output = self.client.output;
        match self.verb {
            Verb::Create(args) => create(client, args, output).await,
            Verb::List(args) => list(client, &args, output).await,
            Verb::Revoke(args) => revoke(client, args, output).await,
        }
    }
}

impl RoleArg {
    fn to_proto(self) -> Role {
        match self {
            Self::Viewer => Role::Viewer,
            Self::Approver => Role::Approver,
            Self::Operator => Role::Operator,
            Self::Admin => Role::Admin,
        }
    }
}

async fn create(
    mut client: AdminTokenServiceClient<Authenticated>,
    args: CreateArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = CreateAdminTokenRequest {
        name: args.name,
        role: args.role.to_proto().into(),
        ttl_seconds: args.ttl_seconds,
        request_id: request_id.clone(),
    };
    let made = change(&request_id, async || {
        client.create_admin_token(request.clone()).await
    })
    .await?;
    if made.admin_token.is_empty() {
        return Err(secret_is_lost("admin token").into());
    }
    let info = AdminTokenView::from(made.info.unwrap_or_default());
    let about = format!(
        "admin token `{}`, role {}, good until {}; it is not shown again",
        info.id,
        info.role,
        short_time(info.expires_at.as_deref())
    );
    let whole = CreatedView {
        admin_token: &made.admin_token,
        info,
    };
    output.secret(&made.admin_token, &whole, &about)
}

async fn list(
    client: AdminTokenServiceClient<Authenticated>,
    args: &PageArgs,
    output: Format,
) -> Result<(), Failure> {
    let get = async |page_size, page_token| {
        let request = ListAdminTokensRequest {
            page_size,
            page_token,
        };
        let page = read(async || client.clone().list_admin_tokens(request).await).await?;
        Ok((
            page.admin_tokens
                .into_iter()
                .map(AdminTokenView::from)
                .collect(),
            page.next_page_token,
        ))
    };
    args.show(output, get).await
}

async fn revoke(
    mut client: AdminTokenServiceClient<Authenticated>,
    args: RevokeArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = RevokeAdminTokenRequest {
        admin_token_id: args.admin_token.to_string(),
        request_id: request_id.clone(),
    };
    let revoked = change(&request_id, async || {
        client.revoke_admin_token(request.clone()).await
    })
    .await
    .map_err(|failure| failure.unknown("admin_token_id"))?;
    output.one(&AdminTokenView::from(
        revoked.admin_token.unwrap_or_default(),
    ))
}

#[derive(Serialize)]
struct CreatedView<'a> {
    admin_token: &'a str,
    info: AdminTokenView,
}

#[derive(Debug, Serialize)]
struct AdminTokenView {
    id: String,
    name: String,
    role: String,
    created_at: Option<String>,
    expires_at: Option<String>,
    revoked_at: Option<String>,
}

impl From<AdminToken> for AdminTokenView {
    fn from(token: AdminToken) -> Self {
        Self {
            role: enum_name(token.role().as_str_name(), "ROLE_"),
            created_at: rfc3339(token.created_at.as_ref()),
            expires_at: rfc3339(token.expires_at.as_ref()),
            revoked_at: rfc3339(token.revoked_at.as_ref()),
            id: token.id,
            name: token.name,
        }
    }
}

impl Row for AdminTokenView {
    const PLURAL: &'static str = "admin tokens";
    const COLUMNS: &'static [&'static str] =
        &["ID", "NAME", "ROLE", "CREATED", "EXPIRES", "REVOKED"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.name.clone(),
            self.role.clone(),
            short_time(self.created_at.as_deref()),
            short_time(self.expires_at.as_deref()),
            short_time(self.revoked_at.as_deref()),
        ]
    }
}
