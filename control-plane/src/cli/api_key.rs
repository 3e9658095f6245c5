//! `api-key`: keys that agents authenticate with. The secret is made here and
//! never leaves this machine: the server gets the public key.

use std::time::Duration;

use authguardian_proto::{
    credential,
    identity::v1::{
        ApiKey, CreateApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest,
        api_key_service_client::ApiKeyServiceClient,
    },
    ids::{AgentId, ApiKeyId},
};
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    ambient,
    client::{Authenticated, ClientArgs, RequestIdArgs, change, fresh_request_id, read},
    failure::Failure,
    output::{Format, Row},
    page::PageArgs,
    value::{parse_span, rfc3339, short_time, timestamp},
};

const EXAMPLES: &str = "\
Examples:
  control-plane api-key create --name analytics --agent data_analyst --agent orchestrator --expires-in 90d
  AUTHGUARDIAN_API_KEY=$(control-plane api-key create --name gateway --agent gateway --validator)
  control-plane api-key list
  control-plane api-key revoke apk_…

The key is made here and shown once; the server only ever learns its public half.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ApiKeyArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key for one agent or several; it is shown once
    Create(CreateArgs),
    /// List keys, newest first
    List(PageArgs),
    /// End a key and its sessions at once
    Revoke(RevokeArgs),
}

/// No `--request-id`: the secret is made anew by each run, so that a run
/// cannot be a repeat of another one.
#[derive(Debug, Args)]
struct CreateArgs {
    /// For people
    #[arg(long)]
    name: String,

    /// Agent that it may speak for; repeatable
    #[arg(long = "agent", value_name = "ID", required = true)]
    agents: Vec<AgentId>,

    /// May also check tokens of other agents
    #[arg(long)]
    validator: bool,

    /// How long it lives, such as `12h` or `90d`; without it, for ever
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires_in: Option<Duration>,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// `apk_…`
    api_key: ApiKeyId,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

impl ApiKeyArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = ApiKeyServiceClient::new(self.client.connect().await?);
        let output = self.client.output;
        match self.verb {
            Verb::Create(args) => create(client, args, output).await,
            Verb::List(args) => list(client, &args, output).await,
            Verb::Revoke(args) => revoke(client, args, output).await,
        }
    }
}

async fn create(
    mut client: ApiKeyServiceClient<Authenticated>,
    args: CreateArgs,
    output: Format,
) -> Result<(), Failure> {
    let ambient = ambient()?;
    let seed = Zeroizing::new(ambient.entropy.bytes::<32>());
    let public_key = credential::ApiKey::new(ApiKeyId::from_uuid(Uuid::nil()), *seed)
        .public_key()
        .ok_or_else(|| Failure::internal("the crypto library refused the seed"))?;
    let request_id = fresh_request_id()?;
    let request = CreateApiKeyRequest {
        name: args.name,
        public_key: public_key.to_vec(),
        agent_ids: args.agents.iter().map(ToString::to_string).collect(),
        validator: args.validator,
        expires_at: args
            .expires_in
            .map(|span| timestamp(ambient.clock.now() + span)),
        request_id: request_id.clone(),
    };
    let made = change(&request_id, async || {
        client.create_api_key(request.clone()).await
    })
    .await?;
    let info = ApiKeyView::from(made.api_key.unwrap_or_default());
    let id: ApiKeyId = info
        .id
        .parse()
        .map_err(|_| Failure::internal("the server answered with an id that is none"))?;
    let text = credential::ApiKey::new(id, *seed).expose();
    let about = format!(
        "API key `{}` for {}; it is not shown again",
        info.id,
        info.agent_ids.join(", ")
    );
    output.secret(
        &text,
        &CreatedView {
            api_key: &text,
            info,
        },
        &about,
    )
}

async fn list(
    client: ApiKeyServiceClient<Authenticated>,
    args: &PageArgs,
    output: Format,
) -> Result<(), Failure> {
    let get = async |page_size, page_token| {
        let request = ListApiKeysRequest {
            page_size,
            page_token,
        };
        let page = read(async || client.clone().list_api_keys(request).await).await?;
        Ok((
            page.api_keys.into_iter().map(ApiKeyView::from).collect(),
            page.next_page_token,
        ))
    };
    args.show(output, get).await
}

async fn revoke(
    mut client: ApiKeyServiceClient<Authenticated>,
    args: RevokeArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = RevokeApiKeyRequest {
        api_key_id: args.api_key.to_string(),
        request_id: request_id.clone(),
    };
    let revoked = change(&request_id, async || {
        client.revoke_api_key(request.clone()).await
    })
    .await
    .map_err(|failure| failure.unknown("api_key_id"))?;
    output.one(&ApiKeyView::from(revoked.api_key.unwrap_or_default()))
}

#[derive(Serialize)]
struct CreatedView<'a> {
    api_key: &'a str,
    info: ApiKeyView,
}

#[derive(Debug, Serialize)]
struct ApiKeyView {
    id: String,
    name: String,
    agent_ids: Vec<String>,
    validator: bool,
    created_at: Option<String>,
    expires_at: Option<String>,
    revoked_at: Option<String>,
}

impl From<ApiKey> for ApiKeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            created_at: rfc3339(key.created_at.as_ref()),
            expires_at: rfc3339(key.expires_at.as_ref()),
            revoked_at: rfc3339(key.revoked_at.as_ref()),
            id: key.id,
            name: key.name,
            agent_ids: key.agent_ids,
            validator: key.validator,
        }
    }
}

impl Row for ApiKeyView {
    const PLURAL: &'static str = "API keys";
    const COLUMNS: &'static [&'static str] = &[
        "ID",
        "NAME",
        "AGENTS",
        "VALIDATOR",
        "CREATED",
        "EXPIRES",
        "REVOKED",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.name.clone(),
            self.agent_ids.join(","),
            self.validator.to_string(),
            short_time(self.created_at.as_deref()),
            short_time(self.expires_at.as_deref()),
            short_time(self.revoked_at.as_deref()),
        ]
    }
}
