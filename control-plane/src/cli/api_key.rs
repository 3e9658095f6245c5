//! `api-key`: keys that agents authenticate with. The secret is made here and
//! never leaves this machine: the server gets the public key.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::Duration,
};

use authguardian_proto::{
    credential,
    identity::v1::{
        ApiKey, CreateApiKeyRequest, GetApiKeyRequest, ListApiKeysRequest, RateLimit as PbLimit,
        RevokeApiKeyRequest, UpdateApiKeyRequest, api_key_service_client::ApiKeyServiceClient,
    },
    ids::{AgentId, ApiKeyId},
    network::Network,
    rate::{RateLimit, TOOLS},
    reason::Problem,
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
    public_key,
    value::{or_dash, parse_span, parse_tool_rate, rfc3339, short_time, timestamp},
};

const EXAMPLES: &str = "\
Examples:
  control-plane api-key create --name analytics --agent data_analyst --agent orchestrator --expires-in 90d
  AUTHGUARDIAN_API_KEY=$(control-plane api-key create --name gateway --agent gateway --validator)
  control-plane api-key create --name ci --agent ci --rate 20/40 --tool-rate validate_token=5/10 --allow-network 10.0.0.0/8
  control-plane api-key create --name mine --agent data_analyst --public-key-file public.pem
  control-plane api-key set apk_… --no-rate-limit --any-network
  control-plane api-key show apk_…
  control-plane api-key list
  control-plane api-key revoke apk_…

The key is made here and shown once; the server only ever learns its public half. With a public
key that is there already (`openssl genpkey -algorithm ed25519`), only the key's id is shown.
A rate is written PER_SECOND/BURST; it holds for all machines together. Unless said
otherwise, a new key may make 100 calls a second, 200 at once.";

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
    /// Show one key with its limits
    Show {
        /// `apk_…`
        api_key: ApiKeyId,
    },
    /// Change the limits of a key, at every edge within seconds
    Set(SetArgs),
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

    #[command(flatten)]
    rate: RateArgs,

    /// Network that it may be used from, as CIDR; repeatable; without it, anywhere
    #[arg(long = "allow-network", value_name = "CIDR")]
    networks: Vec<Network>,

    /// Ed25519 public key (PEM) of a key that its holder has made
    #[arg(long, value_name = "FILE")]
    public_key_file: Option<PathBuf>,
}

/// How often a key may be used.
#[derive(Debug, Args)]
struct RateArgs {
    /// Calls a second and calls at once, of all machines together
    #[arg(
        long,
        value_name = "PER_SECOND/BURST",
        conflicts_with = "no_rate_limit"
    )]
    rate: Option<RateLimit>,

    /// No limit of all calls
    #[arg(long)]
    no_rate_limit: bool,

    /// A further limit for one tool; repeatable
    #[arg(long = "tool-rate", value_name = "TOOL=PER_SECOND/BURST", value_parser = parse_tool_rate)]
    tool_rates: Vec<(String, RateLimit)>,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// `apk_…`
    api_key: ApiKeyId,

    #[command(flatten)]
    rate: RateArgs,

    /// Tool that is to have no limit of its own any more; repeatable
    #[arg(long = "no-tool-rate", value_name = "TOOL", value_parser = TOOLS)]
    no_tool_rates: Vec<String>,

    /// Network that it may be used from, as CIDR; repeatable; replaces all there were
    #[arg(
        long = "allow-network",
        value_name = "CIDR",
        conflicts_with = "any_network"
    )]
    networks: Vec<Network>,

    /// It may be used from anywhere
    #[arg(long)]
    any_network: bool,

    #[command(flatten)]
    request_id: RequestIdArgs,
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
            Verb::Show { api_key } => show(client, api_key, output).await,
            Verb::Set(args) => set(client, args, output).await,
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
    let public_key = match &args.public_key_file {
        Some(path) => public_key::read(path)?,
        None => credential::ApiKey::new(ApiKeyId::from_uuid(Uuid::nil()), *seed)
            .public_key()
            .ok_or_else(|| Failure::internal("the crypto library refused the seed"))?,
    };
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
        rate_limit: args.rate.rate.map(limit_message),
        no_rate_limit: args.rate.no_rate_limit,
        tool_rate_limits: tool_messages(args.rate.tool_rates)?,
        allowed_networks: args.networks.iter().map(ToString::to_string).collect(),
    };
    let made = change(&request_id, async || {
        client.create_api_key(request.clone()).await
    })
    .await?;
    let info = ApiKeyView::from(made.api_key.unwrap_or_default());
    if args.public_key_file.is_some() {
        let about = format!("API key for {}", info.agent_ids.join(", "));
        return output.secret(&info.id, &info, &about);
    }
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

async fn show(
    mut client: ApiKeyServiceClient<Authenticated>,
    api_key: ApiKeyId,
    output: Format,
) -> Result<(), Failure> {
    let request = GetApiKeyRequest {
        api_key_id: api_key.to_string(),
    };
    let found = read(async || client.get_api_key(request).await)
        .await
        .map_err(|failure| failure.unknown("api_key_id"))?;
    output.one(&ApiKeyView::from(found.api_key.unwrap_or_default()))
}

async fn set(
    mut client: ApiKeyServiceClient<Authenticated>,
    args: SetArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = UpdateApiKeyRequest {
        api_key_id: args.api_key.to_string(),
        rate_limit: args.rate.rate.map(limit_message),
        no_rate_limit: args.rate.no_rate_limit,
        tool_rate_limits: tool_messages(args.rate.tool_rates)?,
        no_tool_rate_limits: args.no_tool_rates,
        allowed_networks: args.networks.iter().map(ToString::to_string).collect(),
        any_network: args.any_network,
        request_id: request_id.clone(),
    };
    let updated = change(&request_id, async || {
        client.update_api_key(request.clone()).await
    })
    .await
    .map_err(|failure| failure.unknown("api_key_id"))?;
    output.one(&ApiKeyView::from(updated.api_key.unwrap_or_default()))
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

fn limit_message(limit: RateLimit) -> PbLimit {
    PbLimit {
        per_second: limit.per_second,
        burst: limit.burst,
    }
}

fn limit_text(limit: PbLimit) -> String {
    format!("{}/{}", limit.per_second, limit.burst)
}

fn tool_messages(limits: Vec<(String, RateLimit)>) -> Result<HashMap<String, PbLimit>, Failure> {
    let mut messages = HashMap::new();
    for (tool, limit) in limits {
        if messages
            .insert(tool.clone(), limit_message(limit))
            .is_some()
        {
            let detail = format!("`{tool}` is named twice");
            return Err(Problem::invalid("tool_rate", detail).into());
        }
    }
    Ok(messages)
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
    /// `100/200`; `None`: no limit.
    rate_limit: Option<String>,
    tool_rate_limits: BTreeMap<String, String>,
    /// None: anywhere.
    allowed_networks: Vec<String>,
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
            rate_limit: key.rate_limit.map(limit_text),
            tool_rate_limits: key
                .tool_rate_limits
                .iter()
                .map(|(tool, limit)| (tool.clone(), limit_text(*limit)))
                .collect(),
            allowed_networks: key.allowed_networks,
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
        "RATE",
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
            or_dash(self.rate_limit.as_deref().unwrap_or_default()),
            short_time(self.created_at.as_deref()),
            short_time(self.expires_at.as_deref()),
            short_time(self.revoked_at.as_deref()),
        ]
    }
}
