//! rmcp with one tool that does nothing, behind the edge's own guard: the same
//! Host check, the same key exchanged for a session of the control plane, the
//! same bounds on the body.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use arc_swap::ArcSwap;
use authguardian_proto::network::Networks;
use axum::{Router, routing::any_service};
use edge_agent::{
    agents::Agents,
    clock::{Ambient, SystemClock},
    config::{Config, Limits},
    core::{Core, Rooms},
    dial::{self, ServerAddress},
    endpoints::Endpoints,
    faces::{Server, Users, guarded},
    freshness::Freshness,
    identity::{self, Store},
    journal::Journal,
    neighbours::Neighbours,
    peers::Peers,
    slices::Slices,
    trust::Trust,
    upstream::{Feed, Follower, Sessions, Upstream},
    verify::Verifier,
    witness::Witness,
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Ready,
    budget::{allocation, spending},
    listen,
    rest::result,
    tell_ready,
};

/// One tool, whatever it is called: it answers as what it is taken for does.
struct Tool;

impl ServerHandler for Tool {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tokens = || {
            let arguments = request.arguments.as_ref();
            let tokens = arguments.and_then(|arguments| arguments.get("tokens"));
            tokens.and_then(Value::as_u64).unwrap_or_default()
        };
        let result = match &*request.name {
            "request_allocation" => serde_json::to_value(allocation(tokens())),
            "report_spending" => serde_json::to_value(spending(tokens())),
            _ => serde_json::to_value(result(request.arguments.is_some())),
        };
        let result = result.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(CallToolResult::structured(result).into())
    }
}

pub(super) async fn serve(server: &ServerAddress, join_token: &str, dir: &Path) -> Result<()> {
    let core = core(server, join_token, dir).await?;
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .with_json_response(true);
    let manager = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(|| Ok(Tool), manager, config);
    let routes = Router::new().route("/mcp", any_service(service));
    let service = guarded(routes, &core, &Config::default());

    let listener = listen().await?;
    let address = listener.local_addr()?;
    tell_ready(&Ready {
        address,
        credentials: None,
    })?;
    let users = Users::new(&Config::default().socket)?;
    let clock = Arc::new(SystemClock);
    let stop = CancellationToken::new();
    Server::new(service, &Limits::default(), users, clock, stop)
        .tcp(listener)
        .await;
    bail!("the trivial server has ended")
}

/// What the guard asks: sessions, and whether they still count.
async fn core(server: &ServerAddress, join_token: &str, dir: &Path) -> Result<Arc<Core>> {
    let identity = identity::join(&Store::open(dir)?, server, &join_token.parse()?).await?;
    let tls = Arc::new(ArcSwap::from_pointee(identity.tls()?));
    let channel = dial::channel(std::slice::from_ref(server), tls);
    let ambient = Ambient::system()?;
    let freshness = Freshness::new(ambient.clock.clone());
    let verifier = Verifier::new(freshness.clone());
    // no session goes on after its end
    let offline = Duration::ZERO;
    let sessions = Sessions::new(channel.clone(), ambient.clone(), freshness.clone(), offline);
    let followers: Vec<Arc<dyn Follower>> = vec![sessions.clone()];
    let feed = Feed::new(ambient.clone(), freshness, identity.machine_id, followers);
    let upstream = Upstream::new(channel.clone(), ambient.clone(), sessions, feed.clone());
    tokio::spawn(feed.clone().run(channel, CancellationToken::new()));
    feed.reached().await;
    let machine = identity.machine_id;
    let now = ambient.clock.since_boot();
    let trust = Trust::new(&identity.trust_domain, identity.authorities())?;
    let shown = Arc::new(ArcSwap::from_pointee(identity.certified_key()?));
    let rooms = Rooms {
        agents: Arc::new(Agents::open(dir.join("agents.json"), now)),
        neighbours: Neighbours::new(machine, &identity.trust_domain, ambient.clock.clone()),
        endpoints: Arc::new(Endpoints::new(Networks::default())?),
        peers: Peers::new(trust, shown),
        here: None,
        slices: Slices::open(dir, ambient.clone())?,
        journal: Journal::open(dir, ambient.clone())?,
        witness: Witness::open(dir, machine, ambient.clone())?,
    };
    Ok(Core::new(upstream, verifier, rooms, machine, ambient))
}
