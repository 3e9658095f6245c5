//! What edges of other machines find here, over mutual TLS: this machine's agents
//! as the control plane has signed them, and gossip.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    ids::MachineId,
    reason::{Problem, Reason},
};
use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;

use super::{bound::Bound, problem};
use crate::{
    config::Config,
    core::Gossip,
    gossip::MAX_MESSAGE,
    neighbours::Neighbours,
    trust::{PeerMachine, Trust},
};

/// What other edges are answered from.
#[derive(Clone)]
pub struct PeerFace {
    /// This machine.
    pub machine_id: MachineId,
    /// Knows what others are told.
    pub neighbours: Arc<Neighbours>,
    /// Knows who may take part.
    pub trust: Arc<Trust>,
    /// Talks with them; `None`: it is off.
    pub gossip: Option<Arc<Gossip>>,
}

/// Stands before every route.
struct Door {
    trust: Arc<Trust>,
    requests: Arc<Bound<MachineId>>,
}

/// The answer to `GET /records`.
#[derive(Debug, Serialize)]
struct Records<'a> {
    /// Whose agents.
    machine_id: String,
    /// The control plane's word on each of them.
    records: &'a [Arc<str>],
}

/// Every route of the listener for other edges, `further` ones among them. Each request
/// carries the machine that it is of, as [`PeerMachine`].
pub fn peer_router(face: PeerFace, config: &Config, further: Router) -> Router {
    let door = Arc::new(Door {
        trust: face.trust.clone(),
        requests: Bound::of_machines(&config.limits),
    });
    let mut routes = Router::new();
    if let Some(gossip) = face.gossip.clone() {
        let within = config.limits.body_timeout();
        let hear = Hear { gossip, within };
        routes = routes.route("/gossip", post(talk).with_state(hear));
    }
    routes
        .route("/records", get(records).with_state(face))
        .merge(further)
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(from_fn_with_state(door, enter))
}

/// Lets machines in that may take part, as many requests of each as there is
/// room for.
async fn enter(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let Some(&PeerMachine(machine)) = request.extensions().get() else {
        let detail = "the certificate of a machine of the trust domain is needed";
        return problem::respond(&Problem::new(Reason::Unauthenticated, detail));
    };
    // a connection may be older than the news
    if let Err(refused) = door.trust.check(machine) {
        tracing::warn!(%machine, reason = %refused.reason, "a machine that may take part no more was refused");
        return problem::respond(&refused);
    }
    let places = door.requests.enter();
    let places = places.and_then(|all| Ok((all, door.requests.enter_with(machine)?)));
    match places {
        Ok(_places) => next.run(request).await,
        Err(full) => problem::respond(&full),
    }
}

async fn records(State(face): State<PeerFace>) -> Response {
    let told = face.neighbours.told().borrow().clone();
    Json(Records {
        machine_id: face.machine_id.to_string(),
        records: &told.records,
    })
    .into_response()
}

/// What `POST /gossip` works with.
#[derive(Clone)]
struct Hear {
    gossip: Arc<Gossip>,
    /// For a body to arrive.
    within: Duration,
}

async fn talk(
    State(hear): State<Hear>,
    Extension(PeerMachine(from)): Extension<PeerMachine>,
    body: Body,
) -> Response {
    let body = match whole(body, MAX_MESSAGE, hear.within).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    match hear.gossip.answer(from, body).await {
        Ok(answer) => Json(answer).into_response(),
        Err(problem) => problem::respond(&problem),
    }
}

/// The whole body of another edge's request.
pub(super) async fn whole(body: Body, limit: usize, within: Duration) -> Result<Bytes, Response> {
    let reading = Limited::new(body, limit).collect();
    let refused = |status, reason, detail: String| {
        problem::respond_with(status, &Problem::new(reason, detail))
    };
    match tokio::time::timeout(within, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            Reason::TooLarge,
            format!("the body is longer than {limit} bytes"),
        )),
        Ok(Err(_)) => Err(refused(
            StatusCode::BAD_REQUEST,
            Reason::InvalidArgument,
            "the body cannot be read".to_owned(),
        )),
        Err(_) => Err(refused(
            StatusCode::REQUEST_TIMEOUT,
            Reason::InvalidArgument,
            "the body took too long".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;
