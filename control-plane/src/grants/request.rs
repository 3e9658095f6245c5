//! Asking for a permission: facts → score → policies.

mod batch;
mod record;

use std::sync::Arc;

use authguardian_proto::{
    ids::{AgentId, GrantId, ResourceTypeName},
    reason::{Problem, Reason},
};
pub(super) use batch::Operation;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{GrantRecord, GrantState, Grants, MAX_JUSTIFICATION, MAX_SCOPE};
use crate::{
    audit::Context,
    error::{Error, Result},
    identity::Session,
    policy::score::Score,
};

const METHOD: &str = "grants.request_permission";

/// What an agent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ask {
    /// On whose behalf.
    pub agent_id: AgentId,
    /// For what.
    pub resource_type: ResourceTypeName,
    /// Why.
    pub justification: String,
    /// What exactly; `None`: not said, which counts as broad.
    pub scope: Option<String>,
    /// For how long; `None`: as its type says.
    pub ttl_seconds: Option<u32>,
}

impl Ask {
    /// Checks the form.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` or `TOO_LARGE`, naming the field.
    pub fn check(&self) -> Result<()> {
        if self.justification.trim().is_empty() {
            return Err(Error::invalid(
                "justification",
                format!("expected 1 to {MAX_JUSTIFICATION} characters"),
            ));
        }
        if self.justification.chars().count() > MAX_JUSTIFICATION {
            return Err(too_large("justification", MAX_JUSTIFICATION));
        }
        if self.justification.contains('\0') {
            return Err(Error::invalid("justification", "expected text without NUL"));
        }
        let scope = self.scope.as_deref().unwrap_or_default();
        if scope.chars().count() > MAX_SCOPE {
            return Err(too_large("scope", MAX_SCOPE));
        }
        if scope.chars().any(char::is_control) {
            return Err(Error::invalid(
                "scope",
                "expected text without control characters",
            ));
        }
        Ok(())
    }
}

/// What an agent is answered.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What is on record.
    pub record: GrantRecord,
    /// What the grant is now.
    pub state: GrantState,
    /// The token; `None` unless the grant is active.
    pub token: Option<String>,
    /// When that token ends.
    pub expires_at: Option<OffsetDateTime>,
}

impl Grants {
    /// Judges a request. A denial is a result.
    ///
    /// # Errors
    /// `AGENT_MISMATCH`, `UNKNOWN_RESOURCE_TYPE`, `TTL_TOO_LONG`,
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`, and those of key and machine.
    pub async fn request(
        &self,
        context: Context,
        session: Arc<Session>,
        ask: Ask,
    ) -> Result<Decision> {
        ask.check()?;
        session.speaks_for(&ask.agent_id)?;
        let key = context.request_key(&self.ambient, METHOD, &ask)?;
        let id = GrantId::from_uuid(self.ambient.uuid());
        let told = self
            .requests
            .call(batch::Request {
                context,
                session,
                ask,
                key,
                id,
            })
            .await?;
        self.decision(told.record, told.issued, told.expires)
    }

    /// The answer for a record, with the token of the given times (seconds
    /// since 1970) while it is active.
    pub(super) fn decision(
        &self,
        record: GrantRecord,
        issued: i64,
        expires: Option<i64>,
    ) -> Result<Decision> {
        let now = self.ambient.clock.now();
        let state = record.state(now);
        let token = match (state, expires) {
            // a renewal may have outlived the token that this request was given
            (GrantState::Active, Some(expires)) if expires > now.unix_timestamp() => {
                Some(self.sign(&record, issued, expires)?)
            }
            _ => None,
        };
        let expires_at =
            expires.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        Ok(Decision {
            record,
            state,
            token,
            expires_at,
        })
    }
}

/// A record, and the times of the token that this request was given first.
pub(super) struct Told {
    pub(super) record: GrantRecord,
    pub(super) issued: i64,
    pub(super) expires: Option<i64>,
}

/// What is kept for repeats: never the token itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptOutcome {
    pub(super) grant_id: GrantId,
    pub(super) issued: i64,
    pub(super) expires: Option<i64>,
    /// Why a renewal was denied; the grant's own row says why it was itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) denial: Option<Denial>,
}

/// A denial that has no row of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Denial {
    pub(super) reasons: Vec<String>,
    pub(super) detail: String,
    pub(super) score: Score,
    pub(super) policy_ids: Vec<String>,
    pub(super) policy_version: i64,
}

fn too_large(field: &str, limit: usize) -> Error {
    Problem::new(
        Reason::TooLarge,
        format!("expected {limit} characters at most"),
    )
    .at(field)
    .into()
}
