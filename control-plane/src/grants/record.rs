//! A grant, or a denial, as it is on record.

use authguardian_proto::{
    grant_token::{GrantClaims, Rev},
    ids::{AgentId, ApiKeyId, GrantId, MachineId, ResourceTypeName},
    zone::Zone,
};
use time::OffsetDateTime;

use crate::{events::Position, policy::score::Score};

/// What a grant is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// Its token is good.
    Active,
    /// Its time is over.
    Expired,
    /// It was ended before its time.
    Revoked,
    /// It was never given.
    Denied,
}

impl GrantState {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Denied => "denied",
        }
    }
}

/// Everything that is on record about one decision.
#[derive(Debug, Clone)]
pub struct GrantRecord {
    /// Its id.
    pub id: GrantId,
    /// Whether it was given.
    pub granted: bool,
    /// Whose.
    pub agent_id: AgentId,
    /// For what.
    pub resource_type: ResourceTypeName,
    /// What exactly; `None`: not said.
    pub scope: Option<String>,
    /// As the agent wrote it.
    pub justification: String,
    /// The machine that it was asked through.
    pub machine_id: MachineId,
    /// The key that asked.
    pub api_key_id: ApiKeyId,
    /// Where the call came from.
    pub zone: Zone,
    /// How it was scored.
    pub score: Score,
    /// Reason codes of a denial.
    pub reasons: Vec<String>,
    /// One sentence for people.
    pub detail: String,
    /// Obligations of the holder.
    pub restrictions: Vec<String>,
    /// Which policy set decided.
    pub policy_version: i64,
    /// Ids of the policies that determined it.
    pub policy_ids: Vec<String>,
    /// Every input of the decision.
    pub facts: String,
    /// Where in the `grants` stream it was issued; 0 for a denial.
    pub position: Position,
    /// How old a checker's knowledge of revocations may be.
    pub max_staleness_ms: i32,
    /// First decision.
    pub issued_at: OffsetDateTime,
    /// When the newest token was issued, where it was renewed.
    pub renewed_at: Option<OffsetDateTime>,
    /// When the newest token ends; `None` for a denial.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was ended, by itself or by a predicate.
    pub revoked_at: Option<OffsetDateTime>,
}

impl GrantRecord {
    /// What it is at a time.
    pub fn state(&self, now: OffsetDateTime) -> GrantState {
        match self.expires_at {
            _ if !self.granted => GrantState::Denied,
            _ if self.revoked_at.is_some() => GrantState::Revoked,
            Some(end) if end > now => GrantState::Active,
            _ => GrantState::Expired,
        }
    }

    /// What its token says. The position is always that of the first issue: a
    /// renewal must not slip past a predicate revocation that came between.
    pub fn claims(&self, trust_domain: &str, issued: i64, expires: i64) -> GrantClaims {
        GrantClaims {
            iss: format!("https://{trust_domain}"),
            aud: self.resource_type.clone(),
            sub: self.agent_id.clone(),
            jti: self.id,
            scope: self.scope.clone(),
            restrictions: self.restrictions.clone(),
            machine: self.machine_id,
            zone: self.zone,
            rev: Rev {
                epoch: self.position.epoch.unsigned_abs(),
                revision: self.position.revision.unsigned_abs(),
            },
            policies: self.policy_ids.clone(),
            iat: issued,
            nbf: issued,
            exp: expires,
            max_staleness: u64::from(self.max_staleness_ms.unsigned_abs()),
        }
    }
}
