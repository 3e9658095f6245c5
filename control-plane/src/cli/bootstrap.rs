//! `bootstrap`: the first admin, by whoever owns this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use authguardian_proto::{
    credential::AdminToken,
    identity::v1::{
        CreateFirstAdminRequest, CreateFirstAdminResponse,
        bootstrap_service_client::BootstrapServiceClient,
    },
    ids::AdminTokenId,
    reason::{Problem, Reason},
};
use clap::Args;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    admin_token::{AdminTokenView, CreatedView},
    ambient,
    client::{RequestIdArgs, change, innermost},
    failure::Failure,
    output::{Format, note},
    pem::pem,
    value::short_time,
};

const EXAMPLES: &str = "\
Examples:
  control-plane bootstrap --socket /run/authguardian/admin.sock
  AUTHGUARDIAN_ADMIN_TOKEN=$(control-plane bootstrap --socket /run/authguardian/admin.sock --ca-file-out ca.pem)

On a machine of the control plane, as root or as the user that it runs as, with `listen.admin_socket`
set. It works only while there is no good credential of role admin; that token makes all others.";

/// How long one attempt may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BootstrapArgs {
    /// `listen.admin_socket` of the control plane
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,

    /// For people
    #[arg(long, default_value = "first admin")]
    name: String,

    /// Seconds until the token ends
    #[arg(long, value_name = "N", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(60..=31_536_000))]
    ttl_seconds: u32,

    /// Write the CA certificate that operator verbs need (`--ca-file`) here, too
    #[arg(long, value_name = "FILE")]
    ca_file_out: Option<PathBuf>,

    #[command(flatten)]
    request_id: RequestIdArgs,

    /// How the result is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

impl BootstrapArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let secret = Zeroizing::new(ambient()?.entropy.bytes::<32>());
        let hash = AdminToken::new(AdminTokenId::from_uuid(Uuid::nil()), *secret).hash();
        let mut client = BootstrapServiceClient::new(connect(&self.socket).await?);
        let request_id = self.request_id.resolve()?;
        let request = CreateFirstAdminRequest {
            name: self.name,
            secret_hash: hash.to_vec(),
            ttl_seconds: self.ttl_seconds,
            request_id: request_id.clone(),
        };
        let made = change(&request_id, async || {
            client.create_first_admin(request.clone()).await
        })
        .await?;
        show(made, &secret, self.ca_file_out.as_deref(), self.output)
    }
}

/// Writes the CA certificates where wanted, and the token.
fn show(
    made: CreateFirstAdminResponse,
    secret: &[u8; 32],
    ca_file: Option<&Path>,
    output: Format,
) -> Result<(), Failure> {
    let info = made.info.unwrap_or_default();
    let id: AdminTokenId = info
        .id
        .parse()
        .map_err(|error| Failure::internal(format!("the answer is unreadable: {error}")))?;
    let token = AdminToken::new(id, *secret).expose();
    let info = AdminTokenView::from(info);
    let about = format!(
        "admin token `{}`, role admin, good until {}; it is not shown again",
        info.id,
        short_time(info.expires_at.as_deref())
    );
    output.secret(
        &token,
        &CreatedView {
            admin_token: &token,
            info,
        },
        &about,
    )?;
    // the token is told by now, whatever becomes of the file
    if let Some(path) = ca_file {
        let text: String = made.ca_certificates.iter().map(|der| pem(der)).collect();
        fs::write(path, text).map_err(|error| {
            let detail = format!("cannot write `{}`: {error}", path.display());
            Problem::invalid("ca_file_out", detail)
        })?;
        note(&format!("the CA certificate is in `{}`", path.display()))?;
    }
    Ok(())
}

async fn connect(socket: &Path) -> Result<Channel, Failure> {
    let unusable = || Problem::invalid("socket", "expected the path of a Unix socket");
    let path = socket.to_str().ok_or_else(unusable)?;
    let endpoint = Endpoint::from_shared(format!("unix:{path}"))
        .map_err(|_| unusable())?
        .timeout(CALL_TIMEOUT);
    Ok(endpoint.connect().await.map_err(|error| {
        tracing::debug!(?error, "connecting failed");
        Problem::new(
            Reason::Unavailable,
            format!("cannot connect to `{path}`: {}", innermost(&error)),
        )
    })?)
}
