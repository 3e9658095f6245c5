//! A call that ended at this edge.

use std::{borrow::Cow, net::IpAddr};

use authguardian_proto::{
    ids::{AgentId, ApiKeyId},
    reason::Reason,
    zone::Zone,
};

use super::record::Kind;

/// A call that ended at this edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// What: `tool.<name>`, `login.session` …
    pub action: Cow<'static, str>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why not.
    pub reason: Option<Reason>,
    /// The key that was proved.
    pub api_key_id: Option<ApiKeyId>,
    /// The key that was only named.
    pub claimed: Option<ApiKeyId>,
    /// The agent that it was for, as the caller said.
    pub agent_id: Option<AgentId>,
    /// Where it came from.
    pub zone: Zone,
    /// The client; `None` for the Unix socket.
    pub client: Option<IpAddr>,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done.
    Ok,
    /// Judged, and denied.
    Denied,
    /// Not even tried: no right to.
    Refused,
    /// Tried, and failed.
    Failed,
}

/// A call as it is counted; `None`: one of the many that did not fit.
pub(super) type Noted = Option<Call>;

impl Outcome {
    /// The stable name.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// As it is written.
pub(super) fn kind(noted: &Noted) -> Kind {
    let Some(call) = noted else {
        return Kind {
            action: "call.refuse".to_owned(),
            outcome: Outcome::Refused.as_str().to_owned(),
            reason: Reason::ResourceExhausted.as_str().to_owned(),
            ..Kind::default()
        };
    };
    let text = |id: Option<ApiKeyId>| id.map(|id| id.to_string()).unwrap_or_default();
    let agent = call.agent_id.as_ref().map(ToString::to_string);
    Kind {
        action: call.action.clone().into_owned(),
        outcome: call.outcome.as_str().to_owned(),
        reason: call.reason.map_or("", Reason::as_str).to_owned(),
        key: text(call.api_key_id),
        claimed: text(call.claimed),
        agent: agent.unwrap_or_default(),
        zone: call.zone.as_str().to_owned(),
        client: call.client.map(|ip| ip.to_string()).unwrap_or_default(),
    }
}
