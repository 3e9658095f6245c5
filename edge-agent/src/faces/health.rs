//! `/livez` and `/readyz`: for supervisors and for `edge-agent status`.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use authguardian_proto::ids::MachineId;

use crate::{
    upstream::Feed,
    witness::{Status, Witness},
};

/// What readiness is judged by.
#[derive(Clone)]
pub struct Health {
    /// Whether the control plane is heard.
    pub feed: Feed,
    /// What is kept of the audit log.
    pub witness: Arc<Witness>,
    /// This machine.
    pub machine_id: MachineId,
    /// Its name.
    pub machine_name: String,
    /// What it trusts.
    pub trust_domain: String,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Readiness {
    /// Whether it answers fully: the control plane is heard, and takes this machine's calls.
    ready: bool,
    /// Of this edge.
    version: &'static str,
    /// This machine.
    machine_id: String,
    /// Its name.
    machine_name: String,
    /// What it trusts.
    trust_domain: String,
    /// What runs side by side in this process: connections, sessions, streams and
    /// its own work.
    tasks: usize,
    /// Age of what is known of the control plane's streams, milliseconds; missing: nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    staleness_ms: Option<u64>,
    /// Why the control plane refuses all calls of this machine; missing: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
    /// What this machine has kept of the audit log, as a witness of it, and whether what it is told goes on from that; missing: nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_log: Option<Status>,
}

/// The process runs.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// The control plane is heard, and takes this machine's calls: `200`, else `503`.
pub(super) async fn ready(State(health): State<Health>) -> (StatusCode, Json<Readiness>) {
    let refused = health.feed.standing().check().err();
    let ready = refused.is_none() && health.feed.freshness().is_fresh();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let readiness = Readiness {
        ready,
        version: env!("CARGO_PKG_VERSION"),
        tasks: tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        machine_id: health.machine_id.to_string(),
        machine_name: health.machine_name,
        trust_domain: health.trust_domain,
        staleness_ms: health.feed.freshness().age().map(whole_millis),
        refused: refused.map(|problem| problem.reason.as_str()),
        audit_log: health.witness.status(),
    };
    (status, Json(readiness))
}

fn whole_millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}
