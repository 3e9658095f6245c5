//! What `dev` fills the system with: four agents, an API key for them, an
//! admin token, and a join token for the edge. All of it is made once.

use authguardian_proto::{
    credential,
    ids::{AgentId, ApiKeyId, MachineName},
    network::Networks,
    rate::RateLimits,
    reason::Reason,
};
use time::Duration;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::directory::Directory;
use crate::{
    app::App,
    audit::Context,
    cli::{
        failure::Failure,
        files::{read_private, remove_file, write_private},
    },
    identity::{Role, api_key::NewApiKey, join::NewJoinToken},
    registry::PutAgent,
};

/// The edge's machine.
const MACHINE: &str = "dev";
/// Longer than any first start takes.
const JOIN_TOKEN_TTL: Duration = Duration::hours(1);
/// The most keys that are looked through for ours.
const KEYS: i64 = 1000;

/// Id, trust and description.
const AGENTS: [(&str, u32, &str); 4] = [
    ("orchestrator", 900, "plans the work of the others"),
    ("risk_assessor", 850, "judges risks"),
    ("data_analyst", 800, "reads figures"),
    ("strategy_advisor", 700, "writes proposals"),
];

/// Credentials of the demo.
pub(super) struct Demo {
    /// `agk_…`, for the four agents, with the validator right.
    pub api_key: Zeroizing<String>,
    /// `aga_…`, role admin.
    pub admin_token: Zeroizing<String>,
    /// `agj_…`; `None` once the edge has joined.
    pub join_token: Option<Zeroizing<String>>,
}

/// Finds what an earlier start made, and makes the rest.
pub(super) async fn prepare(app: &App, directory: &Directory) -> Result<Demo, Failure> {
    register_agents(app).await?;
    Ok(Demo {
        api_key: api_key(app, directory).await?,
        admin_token: admin_token(app, directory).await?,
        join_token: join_token(app, directory).await?,
    })
}

/// Agents that are there keep what an operator made of them.
async fn register_agents(app: &App) -> Result<(), Failure> {
    for (id, trust, description) in AGENTS {
        let id = agent_id(id)?;
        match app.agents.get(&id).await {
            Ok(_) => {}
            Err(error) if error.reason() == Reason::UnknownAgent => {
                let put = PutAgent {
                    id,
                    trust,
                    description: description.to_owned(),
                };
                app.agents.put(Context::system(), put).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn api_key(app: &App, directory: &Directory) -> Result<Zeroizing<String>, Failure> {
    let path = directory.api_key();
    if let Some(text) = read_private(&path)?
        && let Ok(key) = text.parse::<credential::ApiKey>()
        && is_good(app, key.id()).await?
    {
        return Ok(text);
    }
    let seed = Zeroizing::new(app.ambient.entropy.bytes::<32>());
    let public_key = credential::ApiKey::new(ApiKeyId::from_uuid(Uuid::nil()), *seed)
        .public_key()
        .ok_or_else(|| Failure::internal("the crypto library refused the seed"))?;
    let new = NewApiKey {
        name: "demo".to_owned(),
        public_key,
        agent_ids: AGENTS
            .iter()
            .map(|(id, ..)| agent_id(id))
            .collect::<Result<_, _>>()?,
        validator: true,
        expires_at: None,
        rate_limits: RateLimits::default(),
        allowed_networks: Networks::default(),
    };
    let made = app.identity.create_api_key(Context::system(), new).await?;
    let text = credential::ApiKey::new(made.id, *seed).expose();
    write_private(&path, &text)?;
    Ok(text)
}

/// Whether the key is registered and not revoked.
async fn is_good(app: &App, id: ApiKeyId) -> Result<bool, Failure> {
    let keys = app.identity.list_api_keys(None, KEYS).await?;
    Ok(keys
        .iter()
        .any(|key| key.id == id && key.check(app.ambient.clock.now()).is_ok()))
}

async fn admin_token(app: &App, directory: &Directory) -> Result<Zeroizing<String>, Failure> {
    let path = directory.admin_token();
    if let Some(text) = read_private(&path)?
        && let Ok(token) = text.parse::<credential::AdminToken>()
        && app.identity.authenticate_admin(&token).await.is_ok()
    {
        return Ok(text);
    }
    let (text, _) = app
        .identity
        .create_admin_token(Context::system(), "demo", Role::Admin, None)
        .await?;
    let text = text.ok_or_else(|| Failure::internal("the admin token was made, but not told"))?;
    write_private(&path, &text)?;
    Ok(text)
}

/// A token that was made but whose use is not sure is kept and shown again:
/// the same edge key gets the same machine.
async fn join_token(
    app: &App,
    directory: &Directory,
) -> Result<Option<Zeroizing<String>>, Failure> {
    let path = directory.join_token();
    if app.identity.find_machine(MACHINE).await.is_ok() {
        return read_private(&path);
    }
    remove_file(&path)?;
    let name: MachineName = MACHINE
        .parse()
        .map_err(|error| Failure::internal(format!("{error}")))?;
    let new = NewJoinToken {
        ttl: JOIN_TOKEN_TTL,
        ..NewJoinToken::of(name)
    };
    let (text, _) = app
        .identity
        .create_join_token(Context::system(), new)
        .await?;
    let text = text.ok_or_else(|| Failure::internal("the join token was made, but not told"))?;
    write_private(&path, &text)?;
    Ok(Some(text))
}

fn agent_id(text: &str) -> Result<AgentId, Failure> {
    text.parse()
        .map_err(|error| Failure::internal(format!("{error}")))
}
