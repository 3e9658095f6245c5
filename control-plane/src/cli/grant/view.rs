//! A grant as it is shown.

use std::fmt;

use authguardian_proto::{common::v1::Position, grants::v1::Grant, zone::Zone};
use serde::Serialize;

use crate::{
    cli::{
        output::Row,
        value::{enum_name, non_empty, or_dash, rfc3339, short_time},
    },
    policy::score::Score,
};

#[derive(Debug, Serialize)]
pub(super) struct GrantView {
    pub id: String,
    pub state: String,
    pub agent_id: String,
    pub resource_type: String,
    pub scope: Option<String>,
    pub justification: String,
    pub score: Score,
    pub reasons: Vec<String>,
    pub detail: String,
    pub restrictions: Vec<String>,
    pub policy_version: u64,
    pub policy_ids: Vec<String>,
    pub machine_id: Option<String>,
    pub api_key_id: Option<String>,
    pub zone: Option<&'static str>,
    pub issued_at: Option<String>,
    pub expires_at: Option<String>,
    pub revoked_at: Option<String>,
    pub position: Option<PositionView>,
    pub facts: Option<serde_json::Value>,
}

/// A position in the `grants` stream.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct PositionView {
    epoch: u64,
    revision: u64,
}

impl fmt::Display for PositionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} of epoch {}", self.revision, self.epoch)
    }
}

impl From<Position> for PositionView {
    fn from(position: Position) -> Self {
        Self {
            epoch: position.epoch,
            revision: position.revision,
        }
    }
}

impl From<Grant> for GrantView {
    fn from(grant: Grant) -> Self {
        let score = grant.score.unwrap_or_default();
        Self {
            state: enum_name(grant.state().as_str_name(), "GRANT_STATE_"),
            zone: Zone::from_proto(grant.zone).map(Zone::as_str),
            issued_at: rfc3339(grant.issued_at.as_ref()),
            expires_at: rfc3339(grant.expires_at.as_ref()),
            revoked_at: rfc3339(grant.revoked_at.as_ref()),
            position: grant.position.map(PositionView::from),
            facts: serde_json::from_str(&grant.facts_json).ok(),
            id: grant.id,
            agent_id: grant.agent_id,
            resource_type: grant.resource_type,
            scope: non_empty(grant.scope),
            justification: grant.justification,
            score: Score {
                total: score.total,
                justification: score.justification,
                trust: score.trust,
                risk: score.risk,
            },
            reasons: grant.reasons,
            detail: grant.detail,
            restrictions: grant.restrictions,
            policy_version: grant.policy_version,
            policy_ids: grant.policy_ids,
            machine_id: non_empty(grant.machine_id),
            api_key_id: non_empty(grant.api_key_id),
        }
    }
}

impl Row for GrantView {
    const PLURAL: &'static str = "grants";
    const COLUMNS: &'static [&'static str] = &[
        "ID", "STATE", "AGENT", "RESOURCE", "SCOPE", "SCORE", "ISSUED", "EXPIRES", "REASON",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.state.clone(),
            self.agent_id.clone(),
            self.resource_type.clone(),
            or_dash(self.scope.as_deref().unwrap_or_default()),
            self.score.total.to_string(),
            short_time(self.issued_at.as_deref()),
            short_time(self.expires_at.as_deref()),
            or_dash(self.reasons.first().map(String::as_str).unwrap_or_default()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::grants::v1;

    use super::*;

    #[test]
    fn a_grant_in_json_has_plain_names_and_whole_facts() {
        let grant = Grant {
            id: "grt_x".into(),
            state: v1::GrantState::Active.into(),
            zone: 3,
            score: Some(v1::Score {
                total: 570,
                justification: 600,
                trust: 800,
                risk: 500,
            }),
            facts_json: r#"{"agent_trust":800}"#.into(),
            position: Some(Position {
                epoch: 1,
                revision: 9,
            }),
            ..Grant::default()
        };
        let view = serde_json::to_value(GrantView::from(grant)).unwrap();
        assert_eq!(view["state"], "active");
        assert_eq!(view["zone"], "local_machine");
        assert_eq!(view["score"]["total"], 570);
        assert_eq!(view["facts"]["agent_trust"], 800);
        assert_eq!(view["position"]["revision"], 9);
        assert_eq!(view["scope"], serde_json::Value::Null);
    }
}
