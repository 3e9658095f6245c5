//! `admin-token`: tokens and client certificates of admins.

use std::path::PathBuf;

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
    admin_certificate::NewCertificate,
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
  control-plane admin-token create --name console --role operator --certificate console.pem
  control-plane admin-token list
  control-plane admin-token revoke adm_…

A certificate stands for a token: `--client-certificate console.pem` on any verb. Its key is made
here, and never leaves this machine.";

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
    /// Make a token, shown once, or a certificate, for a role no higher than your own
    Create(CreateArgs),
    /// List tokens and certificates, newest first, without their secrets
    List(PageArgs),
    /// End a token or a certificate at once
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

    /// Make a key and a certificate instead of a token, and write both (PEM) to
    /// this new file
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,

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
    let certificate = args.certificate.as_deref().map(NewCertificate::new);
    let certificate = certificate.transpose()?;
    let certificate_request = certificate.as_ref().map(NewCertificate::request);
    let request = CreateAdminTokenRequest {
        name: args.name,
        role: args.role.to_proto().into(),
        ttl_seconds: args.ttl_seconds,
        request_id: request_id.clone(),
        certificate_request: certificate_request.transpose()?.unwrap_or_default(),
    };
    let made = change(&request_id, async || {
        client.create_admin_token(request.clone()).await
    })
    .await?;
    if let Some(certificate) = certificate {
        certificate.write(&made.certificate_chain)?;
        return output.one(&AdminTokenView::from(made.info.unwrap_or_default()));
    }
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
pub(super) struct CreatedView<'a> {
    pub admin_token: &'a str,
    pub info: AdminTokenView,
}

#[derive(Debug, Serialize)]
pub(super) struct AdminTokenView {
    pub id: String,
    name: String,
    role: String,
    certificate: bool,
    created_at: Option<String>,
    pub expires_at: Option<String>,
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
            certificate: token.certificate,
        }
    }
}

impl Row for AdminTokenView {
    const PLURAL: &'static str = "admin tokens and certificates";
    const COLUMNS: &'static [&'static str] = &[
        "ID", "NAME", "ROLE", "KIND", "CREATED", "EXPIRES", "REVOKED",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.name.clone(),
            self.role.clone(),
            if self.certificate {
                "certificate"
            } else {
                "token"
            }
            .to_owned(),
            short_time(self.created_at.as_deref()),
            short_time(self.expires_at.as_deref()),
            short_time(self.revoked_at.as_deref()),
        ]
    }
}
