//! What the audit log is told of calls that end at this edge.

use std::borrow::Cow;

use authguardian_proto::{
    ids::{AgentId, ApiKeyId},
    reason::{Code, Problem, Reason},
    zone::Zone,
};

use super::{Caller, Core, Peer};
use crate::journal::{Call, Outcome};

impl Core {
    /// Notes what came of a caller's call that did not reach the control
    /// plane, which writes down by itself what does; `agent` is whom it was
    /// for.
    pub fn note(
        &self,
        caller: &Caller,
        action: impl Into<Cow<'static, str>>,
        agent: Option<AgentId>,
        outcome: Outcome,
        reason: Option<Reason>,
    ) {
        self.journal.note(Call {
            action: action.into(),
            outcome,
            reason,
            api_key_id: Some(caller.api_key_id()),
            claimed: None,
            agent_id: agent,
            zone: caller.peer.zone(),
            client: caller.peer.address(),
        });
    }

    /// Notes what the log has to have of a call: that it was refused for an
    /// agent or a zone, of which the control plane does not hear, and, from
    /// beyond every configured network, that it was made at all.
    pub(super) fn note_outcome(
        &self,
        caller: &Caller,
        action: impl FnOnce() -> String,
        agent: impl FnOnce() -> Option<AgentId>,
        problem: Option<&Problem>,
    ) {
        let reason = problem.map(|problem| problem.reason);
        let is_refused = matches!(reason, Some(Reason::AgentMismatch | Reason::ZoneForbids));
        if !is_refused && caller.peer.zone() != Zone::External {
            return;
        }
        let outcome = match reason {
            None => Outcome::Ok,
            Some(reason) if is_refusal(reason) => Outcome::Refused,
            Some(_) => Outcome::Failed,
        };
        self.note(caller, action(), agent(), outcome, reason);
    }

    /// Notes that somebody was refused who has proved nothing; `claimed` is
    /// the key that was named. What fails for other reasons is no refusal, and
    /// not noted.
    pub fn note_refusal(
        &self,
        peer: &Peer,
        action: impl Into<Cow<'static, str>>,
        claimed: Option<ApiKeyId>,
        problem: &Problem,
    ) {
        if !is_refusal(problem.reason) {
            return;
        }
        self.journal.note(Call {
            action: action.into(),
            outcome: Outcome::Refused,
            reason: Some(problem.reason),
            api_key_id: None,
            claimed,
            agent_id: None,
            zone: peer.zone(),
            client: peer.address(),
        });
    }
}

/// Whether a reason says that the caller has no right to what was asked, or
/// has used it up.
pub(super) fn is_refusal(reason: Reason) -> bool {
    matches!(
        reason.code(),
        Code::Unauthenticated | Code::PermissionDenied | Code::RateLimited
    )
}
