//! `key`: the control plane's own keys, and their rotation.

use std::time::Duration;

use authguardian_proto::{
    identity::v1::{
        ActivateSigningKeyRequest, ActivateSigningKeyResponse, GetCaBundleRequest,
        ListSigningKeysRequest, PrepareSigningKeyRequest, PrepareSigningKeyResponse,
        RetireSigningKeyRequest, SigningKey, SigningKeyPurpose,
        signing_key_admin_service_client::SigningKeyAdminServiceClient,
    },
    ids::SigningKeyId,
};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, fresh_request_id, read},
    failure::Failure,
    output::{Format, Page, Row, note, write_stdout},
    pem::pem,
    value::{enum_name, rfc3339, short_time},
};

const EXAMPLES: &str = "\
Examples:
  control-plane key list
  control-plane key rotate --purpose grant             # no valid token is refused
  control-plane key rotate --purpose session --force   # the old key has leaked
  control-plane key rotate --purpose ca                # machines renew their certificates by themselves
  control-plane key bundle > ca.pem                    # for AUTHGUARDIAN_CA_FILE
  control-plane key prepare --purpose grant            # the same in steps
  control-plane key activate key_…
  control-plane key retire key_… --force

A key is published when it is prepared, and may sign once everybody who checks what it signs can
know it (`identity.key_publication_seconds`). The one before is retired then; what it has signed
is good until it ends by itself: certificates of a retired CA until they can no longer be renewed.
Retiring a CA with `--force` closes the connections of all machines whose certificate is not yet
of the next one, and each of them has to join again.";

/// How often the wait for a publication is told.
const TOLD_EVERY: u32 = 10;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List keys, oldest first, those of the past included
    List {
        /// Only those for this
        #[arg(long, value_enum)]
        purpose: Option<KeyPurpose>,
    },
    /// Make a key and publish it; it does not sign yet
    Prepare {
        #[command(flatten)]
        purpose: PurposeArgs,
        #[command(flatten)]
        request_id: RequestIdArgs,
    },
    /// Let a prepared key sign in place of the active one
    Activate {
        /// `key_…`
        key: SigningKeyId,
        /// At once, although who checks what it signs may not know the key yet
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        request_id: RequestIdArgs,
    },
    /// Give up a prepared key, or refuse what a retired one has signed
    Retire {
        /// `key_…`
        key: SigningKeyId,
        /// Refuse all tokens, or certificates, of a retired key from now on
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        request_id: RequestIdArgs,
    },
    /// Prepare a key, wait until everybody can know it, and activate it
    Rotate {
        #[command(flatten)]
        purpose: PurposeArgs,
        /// Do not wait, and refuse all that the old key has signed from now on
        #[arg(long)]
        force: bool,
    },
    /// Print the certificates of all CAs that count, as PEM
    Bundle,
}

#[derive(Debug, Args)]
struct PurposeArgs {
    /// What it is for
    #[arg(long, value_enum)]
    purpose: KeyPurpose,
}

/// What keys there are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeyPurpose {
    /// Certificates
    Ca,
    /// Grant tokens
    Grant,
    /// Session tokens
    Session,
    /// Checkpoints of the audit log
    Audit,
}

type Client = SigningKeyAdminServiceClient<Authenticated>;

impl KeyArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut client = SigningKeyAdminServiceClient::new(self.client.connect().await?);
        let output = self.client.output;
        match self.verb {
            Verb::List { purpose } => list(client, purpose, output).await,
            Verb::Prepare {
                purpose,
                request_id,
            } => {
                let prepared = prepare(&mut client, &purpose, &request_id.resolve()?).await?;
                output.one(&KeyView::from(prepared.signing_key.unwrap_or_default()))
            }
            Verb::Activate {
                key,
                force,
                request_id,
            } => {
                let id = key.to_string();
                let changed = activate(&mut client, id, force, &request_id.resolve()?).await?;
                let keys = [changed.retired, changed.active];
                output.page(&page(keys.into_iter().flatten()))
            }
            Verb::Retire {
                key,
                force,
                request_id,
            } => {
                let id = key.to_string();
                let retired = retire(&mut client, id, force, &request_id.resolve()?).await?;
                output.one(&KeyView::from(retired))
            }
            Verb::Rotate { purpose, force } => rotate(client, &purpose, force, output).await,
            Verb::Bundle => bundle(client, output).await,
        }
    }
}

impl KeyPurpose {
    fn to_proto(self) -> SigningKeyPurpose {
        match self {
            Self::Ca => SigningKeyPurpose::Ca,
            Self::Grant => SigningKeyPurpose::Grant,
            Self::Session => SigningKeyPurpose::Session,
            Self::Audit => SigningKeyPurpose::Audit,
        }
    }
}

async fn list(
    mut client: Client,
    purpose: Option<KeyPurpose>,
    output: Format,
) -> Result<(), Failure> {
    let purpose = purpose.map_or(SigningKeyPurpose::Unspecified, KeyPurpose::to_proto);
    let request = ListSigningKeysRequest {
        purpose: purpose.into(),
    };
    let listed = read(async || client.list_signing_keys(request).await).await?;
    output.page(&page(listed.signing_keys))
}

async fn bundle(mut client: Client, output: Format) -> Result<(), Failure> {
    let found = read(async || client.get_ca_bundle(GetCaBundleRequest {}).await).await?;
    let certificates: String = found
        .ca_certificates_der
        .iter()
        .map(|der| pem(der))
        .collect();
    match output {
        Format::Table => write_stdout(&certificates),
        _ => output.one(&BundleView {
            ca_certificates: certificates,
        }),
    }
}

async fn rotate(
    mut client: Client,
    purpose: &PurposeArgs,
    force: bool,
    output: Format,
) -> Result<(), Failure> {
    let prepared = prepare(&mut client, purpose, &fresh_request_id()?).await?;
    let id = prepared.signing_key.unwrap_or_default().id;
    note(&format!("prepared `{id}`"))?;
    if !force {
        wait_for_publication(&id, prepared.publication_seconds_left).await?;
    }
    let changed = activate(&mut client, id, force, &fresh_request_id()?).await?;
    let mut retired = changed.retired;
    if let Some(old) = retired.take_if(|_| force) {
        note(&format!(
            "retiring `{}` with all that it has signed",
            old.id
        ))?;
        retired = Some(retire(&mut client, old.id, true, &fresh_request_id()?).await?);
    }
    output.page(&page([retired, changed.active].into_iter().flatten()))
}

/// Whoever interrupts it leaves a prepared key, which can be activated later.
async fn wait_for_publication(id: &str, seconds: u32) -> Result<(), Failure> {
    for left in (1..=seconds).rev() {
        if left == seconds || left % TOLD_EVERY == 0 {
            note(&format!(
                "activating `{id}` in {left} s, when everybody can know it"
            ))?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn prepare(
    client: &mut Client,
    purpose: &PurposeArgs,
    request_id: &str,
) -> Result<PrepareSigningKeyResponse, Failure> {
    let request = PrepareSigningKeyRequest {
        purpose: purpose.purpose.to_proto().into(),
        request_id: request_id.to_owned(),
    };
    change(request_id, async || {
        client.prepare_signing_key(request.clone()).await
    })
    .await
}

async fn activate(
    client: &mut Client,
    key_id: String,
    force: bool,
    request_id: &str,
) -> Result<ActivateSigningKeyResponse, Failure> {
    let request = ActivateSigningKeyRequest {
        key_id,
        force,
        request_id: request_id.to_owned(),
    };
    change(request_id, async || {
        client.activate_signing_key(request.clone()).await
    })
    .await
}

async fn retire(
    client: &mut Client,
    key_id: String,
    force: bool,
    request_id: &str,
) -> Result<SigningKey, Failure> {
    let request = RetireSigningKeyRequest {
        key_id,
        force,
        request_id: request_id.to_owned(),
    };
    let retired = change(request_id, async || {
        client.retire_signing_key(request.clone()).await
    })
    .await?;
    Ok(retired.signing_key.unwrap_or_default())
}

fn page(keys: impl IntoIterator<Item = SigningKey>) -> Page<KeyView> {
    Page {
        items: keys.into_iter().map(KeyView::from).collect(),
        next_page_token: None,
    }
}

#[derive(Debug, Serialize)]
struct BundleView {
    /// PEM, one after the other.
    ca_certificates: String,
}

#[derive(Debug, Serialize)]
struct KeyView {
    id: String,
    purpose: String,
    state: String,
    created_at: Option<String>,
    activated_at: Option<String>,
    retired_at: Option<String>,
    accepted_until: Option<String>,
    dropped_at: Option<String>,
}

impl From<SigningKey> for KeyView {
    fn from(key: SigningKey) -> Self {
        Self {
            purpose: enum_name(key.purpose().as_str_name(), "SIGNING_KEY_PURPOSE_"),
            state: enum_name(key.state().as_str_name(), "SIGNING_KEY_STATE_"),
            created_at: rfc3339(key.created_at.as_ref()),
            activated_at: rfc3339(key.activated_at.as_ref()),
            retired_at: rfc3339(key.retired_at.as_ref()),
            accepted_until: rfc3339(key.accepted_until.as_ref()),
            dropped_at: rfc3339(key.dropped_at.as_ref()),
            id: key.id,
        }
    }
}

impl Row for KeyView {
    const PLURAL: &'static str = "keys";
    const COLUMNS: &'static [&'static str] = &[
        "ID",
        "PURPOSE",
        "STATE",
        "PREPARED",
        "ACTIVATED",
        "RETIRED",
        "ACCEPTED UNTIL",
        "DROPPED",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.purpose.clone(),
            self.state.clone(),
            short_time(self.created_at.as_deref()),
            short_time(self.activated_at.as_deref()),
            short_time(self.retired_at.as_deref()),
            short_time(self.accepted_until.as_deref()),
            short_time(self.dropped_at.as_deref()),
        ]
    }
}
