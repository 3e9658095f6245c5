//! `validate_token`: whether a token is good right now.

use authguardian_proto::{
    grants::v1::{Consistency, ValidateTokenRequest},
    reason::Problem,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Caller, Core,
    decision::{given, rfc3339},
    form::{Field, Form, Kind},
    request_permission::{RESOURCE_TYPE, resource_type},
};

pub(super) const FIELDS: &[Field] = &[
    Field::required("token", Kind::Token, "The token that was shown"),
    Field::required(
        "agent_id",
        Kind::Agent,
        "Agent that the token has to be for; asking about other agents' tokens takes the validator right",
    ),
    RESOURCE_TYPE,
    Field::optional(
        "consistency",
        Kind::OneOf(&["bounded", "strong"]),
        "`bounded` (default): no staler than the token allows; `strong`: proved at the control plane now",
    ),
];

/// Whether a token is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ValidateTokenResult {
    /// Whether the token is good right now for this agent and resource type.
    pub valid: bool,
    /// Why it is not, such as `GRANT_REVOKED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Id of the grant; missing when the token cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<String>,
    /// When the token ends, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Obligations of the holder, such as `read_only`; only of a valid token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restrictions: Option<Vec<String>>,
    /// What exactly the token allows; missing when no scope was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Age of what the answer rests on, milliseconds.
    pub staleness_ms: u64,
}

impl Core {
    pub(super) async fn validate_token(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<ValidateTokenResult, Problem> {
        let agent_id = form.agent()?;
        caller.may_validate_for(&agent_id)?;
        let consistency = match form.text("consistency") {
            Some("strong") => Consistency::Strong,
            _ => Consistency::Bounded,
        };
        let request = ValidateTokenRequest {
            token: form.message_text("token"),
            agent_id: agent_id.to_string(),
            resource_type: resource_type(form)?.to_string(),
            consistency: consistency.into(),
        };
        let response = self
            .upstream
            .validate_token(caller.login(), request)
            .await?;
        Ok(ValidateTokenResult {
            valid: response.valid,
            reason: given(response.reason),
            grant_id: given(response.grant_id),
            expires_at: rfc3339(response.expires_at),
            restrictions: response.valid.then_some(response.restrictions),
            scope: given(response.scope),
            staleness_ms: response.staleness_ms,
        })
    }
}
