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

mod auth;
mod events;
mod guard;
mod health;
mod openapi;
mod problem;
mod rest;
mod serve;
mod socket;
pub mod stdio;
mod streamable_http;
mod ticket;

pub use guard::Guard;
pub use health::Health;
pub use serve::{CertificateError, CertificateFiles, Server};
pub use socket::{Users, bind_unix};

/// Makes what answers MCP: one for each session, and one for each request where
/// the revision has no sessions. The faces are the same whatever stands behind
/// them.
pub trait MakeHandler<H>: Fn(Arc<Core>) -> H + Clone + Send + Sync + 'static {}

impl<H, F: Fn(Arc<Core>) -> H + Clone + Send + Sync + 'static> MakeHandler<H> for F {}

/// Every route of the HTTP faces, on TCP and on the Unix socket.
pub fn router<H: ServerHandler>(
    core: &Arc<Core>,
    make: impl MakeHandler<H>,
    health: Health,
    config: &Config,
    stop: &CancellationToken,
) -> Router {
    let shown = config.faces;
    let mcp = || {
        let face = streamable_http::Face::start(core.clone(), make, stop.clone());
        any(streamable_http::serve::<H>).with_state(face)
    };
    let call_tool = || post(rest::call_tool).with_state(core.clone());
    let read_resource = || get(rest::read_resource).with_state(core.clone());
    let events = || {
        let (core, stop) = (core.clone(), stop.clone());
        get(events::serve).with_state(events::Face { core, stop })
    };
    let routes = Router::new()
        .route("/mcp", face("streamable_http", shown.streamable_http, mcp))
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
        .route("/livez", get(health::live))
        .route(
            "/openapi.json",
            get(openapi::serve).with_state(openapi::Document::new(shown)),
        )
        .route("/readyz", get(health::ready).with_state(health))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method);
    guarded(routes, core, config)
}

/// A route of the face with this key in `[faces]`; off, it says so.
fn face(key: &'static str, is_on: bool, route: impl FnOnce() -> MethodRouter) -> MethodRouter {
    if is_on {
        return route();
    }
    any(move || async move { problem::face_is_off(key) })
}

/// Puts the guard around routes, as their one outer layer.
pub fn guarded(routes: Router, core: &Arc<Core>, config: &Config) -> Router {
    let guard = Arc::new(Guard::new(core.clone(), config));
    routes.layer(from_fn_with_state(guard, guard::check))
}
