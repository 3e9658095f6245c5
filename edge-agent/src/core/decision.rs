//! A decision as tools return it.

use authguardian_proto::{
    grants::v1::{Decision, GrantState, Outcome},
    reason::{Problem, Reason},
};
use schemars::JsonSchema;
use serde::Serialize;

pub(super) use crate::clock::rfc3339;

/// What became of a request for permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DecisionResult {
    /// `granted`, `denied`, or `pending` while a person has to approve it.
    pub decision: &'static str,
    /// Id of the grant; denials have one too, so that they can be explained.
    pub grant_id: String,
    /// The token to show to the resource: an EdDSA JWT. Only while granted and active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When the token ends, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Obligations of the holder, such as `read_only`.
    pub restrictions: Vec<String>,
    /// 0.4 justification + 0.3 trust + 0.3 (1000 - risk), 0 to 1000.
    pub score: u32,
    /// What the score was made of.
    pub score_parts: ScoreParts,
    /// Reason codes of a denial, strongest first.
    pub reasons: Vec<String>,
    /// One sentence that explains the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Version of the policy set that decided.
    pub policy_version: u64,
    /// Ids of the policies that determined the outcome.
    pub policy_ids: Vec<String>,
    /// What the grant is now: `active`, `expired`, `revoked` or `denied`. Only from `permission_status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
}

/// What a score was made of, each 0 to 1000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ScoreParts {
    /// How well the request was justified.
    pub justification: u32,
    /// Effective trust in the agent.
    pub trust: u32,
    /// Risk of the resource and the scope.
    pub risk: u32,
}

impl DecisionResult {
    pub(super) fn read(decision: Option<Decision>) -> Result<Self, Problem> {
        let decision = decision.ok_or_else(not_understood)?;
        let outcome = match decision.outcome() {
            Outcome::Granted => "granted",
            Outcome::Denied => "denied",
            Outcome::Pending => "pending",
            Outcome::Unspecified => return Err(not_understood()),
        };
        let score = decision.score.unwrap_or_default();
        Ok(Self {
            decision: outcome,
            grant_id: decision.grant_id,
            token: given(decision.token),
            expires_at: rfc3339(decision.expires_at),
            restrictions: decision.restrictions,
            score: score.total,
            score_parts: ScoreParts {
                justification: score.justification,
                trust: score.trust,
                risk: score.risk,
            },
            reasons: decision.reasons,
            detail: given(decision.detail),
            policy_version: decision.policy_version,
            policy_ids: decision.policy_ids,
            state: None,
        })
    }

    pub(super) fn in_state(mut self, state: GrantState) -> Self {
        self.state = match state {
            GrantState::Unspecified => None,
            GrantState::Active => Some("active"),
            GrantState::Expired => Some("expired"),
            GrantState::Revoked => Some("revoked"),
            GrantState::Denied => Some("denied"),
        };
        self
    }
}

pub(super) fn not_understood() -> Problem {
    Problem::new(
        Reason::Internal,
        "the control plane's answer cannot be understood by this edge",
    )
}

/// Messages have an empty text where there is none.
pub(super) fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use authguardian_proto::grants::v1::Score;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_grant_reads_as_documented() {
        let decision = Decision {
            outcome: Outcome::Granted.into(),
            grant_id: "grt_0000000000000000000007".into(),
            token: "e.y.J".into(),
            expires_at: Some(prost_types::Timestamp {
                seconds: 1_767_225_600,
                nanos: 0,
            }),
            restrictions: vec!["read_only".into()],
            score: Some(Score {
                total: 570,
                justification: 600,
                trust: 800,
                risk: 700,
            }),
            reasons: vec![],
            detail: String::new(),
            policy_version: 1,
            policy_ids: vec!["permit-by-score".into()],
        };
        let result = DecisionResult::read(Some(decision)).unwrap();
        assert_eq!(
            serde_json::to_value(result).unwrap(),
            json!({
                "decision": "granted",
                "grant_id": "grt_0000000000000000000007",
                "token": "e.y.J",
                "expires_at": "2026-01-01T00:00:00Z",
                "restrictions": ["read_only"],
                "score": 570,
                "score_parts": {"justification": 600, "trust": 800, "risk": 700},
                "reasons": [],
                "policy_version": 1,
                "policy_ids": ["permit-by-score"],
            })
        );
    }

    #[test]
    fn a_denial_has_no_token_and_says_why() {
        let decision = Decision {
            outcome: Outcome::Denied.into(),
            reasons: vec!["JUSTIFICATION_REJECTED".into()],
            detail: "the justification scores 0".into(),
            ..Decision::default()
        };
        let result = DecisionResult::read(Some(decision))
            .unwrap()
            .in_state(GrantState::Denied);
        let result = serde_json::to_value(result).unwrap();
        assert_eq!(result.get("token"), None);
        assert_eq!(result["reasons"], json!(["JUSTIFICATION_REJECTED"]));
        assert_eq!(result["state"], "denied");
    }

    #[test]
    fn an_answer_without_an_outcome_is_an_error() {
        assert_eq!(
            DecisionResult::read(None).unwrap_err().reason,
            Reason::Internal
        );
        let empty = DecisionResult::read(Some(Decision::default()));
        assert_eq!(empty.unwrap_err().reason, Reason::Internal);
    }
}
