//! How clients reach the edge. All faces stand behind one guard and end in
//! `mcp` or `core`.

use std::sync::Arc;

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{MethodRouter, any, get, post},
};
use rmcp::ServerHandler;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, core::Core};
use bound::Bound;
use guard::Guard;

mod agents;
mod auth;
mod bound;
mod conversation;
mod events;
mod guard;
mod health;
mod json;
mod openapi;
mod peer;
mod problem;
mod rest;
mod serve;
mod sessions;
mod socket;
mod sse;
pub mod stdio;
mod streamable_http;
mod ticket;
mod websocket;

pub use agents::agents_router;
pub use health::Health;
pub use peer::{PeerFace, peer_router};
pub use serve::{CertificateError, CertificateFiles, Server};
pub use socket::{Users, bind_unix};

/// Makes what answers MCP: one for each session, and one for each request where
/// the revision has no sessions. The faces are the same whatever stands behind
/// them.
pub trait MakeHandler<H>: Fn(Arc<Core>) -> H + Clone + Send + Sync + 'static {}

impl<H, F: Fn(Arc<Core>) -> H + Clone + Send + Sync + 'static> MakeHandler<H> for F {}

/// The routes of each listener.
pub struct Routers {
    /// All faces, on TCP and on the Unix socket.
    pub http: Router,
    /// WebSocket alone.
    pub websocket: Router,
}

/// Every route of the HTTP faces; both routers share sessions and bounds.
pub fn routers<H: ServerHandler>(
    core: &Arc<Core>,
    make: impl MakeHandler<H>,
    health: Health,
    config: &Config,
    stop: &CancellationToken,
) -> Routers {
    let shown = config.faces;
    let requests = Bound::of_requests(&config.limits);
    let sessions = Bound::of_sessions(&config.limits);
    let guard = Arc::new(Guard::new(core.clone(), config, requests.clone()));
    let mcp = || {
        let (core, make, sessions) = (core.clone(), make.clone(), sessions.clone());
        let idle = config.limits.session_idle();
        let face = streamable_http::Face::start(core, make, sessions, idle, stop.clone());
        any(streamable_http::serve::<H>).with_state(face)
    };
    let sse = sse::Face::new(
        core.clone(),
        make.clone(),
        sessions.clone(),
        requests.clone(),
        stop.clone(),
    );
    let websocket = websocket::Face::new(
        core.clone(),
        make.clone(),
        sessions.clone(),
        requests,
        &config.limits,
        stop.clone(),
    );
    let open_sse = || get(sse::open).with_state(sse.clone());
    let post_message = || post(sse::post).with_state(sse.clone());
    let open_websocket = || get(websocket::open).with_state(websocket.clone());
    let call_tool = || post(rest::call_tool).with_state(core.clone());
    let read_resource = || get(rest::read_resource).with_state(core.clone());
    let events = || {
        let (core, sessions, stop) = (core.clone(), sessions.clone(), stop.clone());
        get(events::serve).with_state(events::Face {
            core,
            sessions,
            stop,
        })
    };
    let http = Router::new()
        .route("/mcp", face("streamable_http", shown.streamable_http, mcp))
        .route("/sse", face("sse", shown.sse, open_sse))
        .route("/messages", face("sse", shown.sse, post_message))
        .route("/ws", face("websocket", shown.websocket, open_websocket))
        .route("/mcp/tools/{name}", face("rest", shown.rest, call_tool))
        .route(
            "/mcp/resources/{*uri}",
            face("rest", shown.rest, read_resource),
        )
        .route("/events", face("events", shown.events, events))
        .route(
            "/auth/challenge",
            post(auth::challenge).with_state(core.clone()),
        )
        .route(
            "/auth/session",
            post(auth::open)
                .get(auth::read)
                .delete(auth::end)
                .with_state(core.clone()),
        )
        .route(
            "/auth/session/renew",
            post(auth::renew).with_state(core.clone()),
        )
        .route("/auth/ticket", post(ticket::make).with_state(core.clone()))
        .route(
            "/agents/{agent}/mcp",
            any(agents::call).with_state(core.clone()),
        )
        .route("/livez", get(health::live))
        .route(
            "/openapi.json",
            get(openapi::serve).with_state(openapi::Document::new(shown)),
        )
        .route("/readyz", get(health::ready).with_state(health));
    let alone = Router::new()
        .route("/", open_websocket())
        .route("/ws", open_websocket());
    Routers {
        http: behind(http, &guard),
        websocket: behind(alone, &guard),
    }
}

/// A route of the face with this key in `[faces]`; off, it says so.
fn face(key: &'static str, is_on: bool, route: impl FnOnce() -> MethodRouter) -> MethodRouter {
    if is_on {
        return route();
    }
    any(move || async move { problem::face_is_off(key) })
}

/// Other routes behind a guard of their own.
pub fn guarded(routes: Router, core: &Arc<Core>, config: &Config) -> Router {
    let requests = Bound::of_requests(&config.limits);
    behind(
        routes,
        &Arc::new(Guard::new(core.clone(), config, requests)),
    )
}

/// Puts a guard around routes, as their one outer layer.
fn behind(routes: Router, guard: &Arc<Guard>) -> Router {
    routes
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(from_fn_with_state(guard.clone(), guard::check))
}
