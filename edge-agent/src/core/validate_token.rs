//! `validate_token`: whether a token is good right now.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    grants::v1::{Consistency, ValidateTokenRequest, ValidateTokenResponse},
    ids::{AgentId, ResourceTypeName},
    reason::{Problem, Reason},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Caller, Core,
    decision::{given, rfc3339},
    form::{Field, Form, Kind},
    request_permission::{RESOURCE_TYPE, resource_type},
};
use crate::{
    freshness::BOUND,
    verify::{Check, Decided, Known},
};

/// How long a token of an unknown key waits for the keys to be read again.
const KEYS_PATIENCE: Duration = Duration::from_secs(3);

/// How long an answer that was in time may take to be sent.
const SENDING: Duration = Duration::from_millis(250);

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
        let resource_type = resource_type(form)?;
        let token = form.text("token").unwrap_or_default();
        if form.text("consistency") == Some("strong") {
            let request = request(token, &agent_id, &resource_type, Consistency::Strong);
            let asking = self.upstream.validate_token(caller.login(), request);
            return self.ask(caller, asking).await;
        }
        match self.check(token, &agent_id, &resource_type).await {
            Check::Decided(decided) => {
                if let Some(good_until) = decided.good_until {
                    caller.answer().set(good_until + SENDING);
                }
                Ok(found(&decided))
            }
            // no key of ours has signed it
            Check::UnknownKey => Ok(found(&Decided {
                refused: Some(Reason::TokenForeignKey),
                known: None,
                staleness: self.upstream.feed().freshness().age(),
                good_until: None,
            })),
            Check::TooOld(known) => {
                let request = request(token, &agent_id, &resource_type, Consistency::Bounded);
                let asking = self.upstream.validate_token_soon(caller.login(), request);
                match self.ask(caller, asking).await {
                    Err(problem) if problem.reason == Reason::Unavailable => Ok(self.stale(known)),
                    outcome => outcome,
                }
            }
        }
    }

    /// What the control plane says; nothing here tells how old that is but the
    /// time since it was asked.
    async fn ask(
        &self,
        caller: &Caller,
        asking: impl Future<Output = Result<ValidateTokenResponse, Problem>>,
    ) -> Result<ValidateTokenResult, Problem> {
        let good_until = self.ambient.clock.since_boot() + BOUND;
        let response = asking.await?;
        if response.valid {
            if self.ambient.clock.since_boot() > good_until {
                return Err(Problem::new(
                    Reason::Unavailable,
                    "the control plane's answer came too late to count on",
                ));
            }
            caller.answer().set(good_until + SENDING);
        }
        Ok(told(response))
    }

    /// Checks a token with what is known here, the public keys read again
    /// where the token names one that is not among them.
    async fn check(
        &self,
        token: &str,
        agent_id: &AgentId,
        resource_type: &ResourceTypeName,
    ) -> Check {
        match self.verifier.check(token, agent_id, resource_type) {
            Check::UnknownKey => {
                let read = self.verifier.keys().read_again();
                // in vain: the keys that are known have to do
                let _ = tokio::time::timeout(KEYS_PATIENCE, read).await;
                self.verifier.check(token, agent_id, resource_type)
            }
            check => check,
        }
    }

    /// Nobody can say whether the token is still good, so it is not.
    fn stale(&self, known: Arc<Known>) -> ValidateTokenResult {
        found(&Decided {
            refused: Some(Reason::Stale),
            known: Some(known),
            staleness: self.upstream.feed().freshness().age(),
            good_until: None,
        })
    }
}

fn request(
    token: &str,
    agent_id: &AgentId,
    resource_type: &ResourceTypeName,
    consistency: Consistency,
) -> ValidateTokenRequest {
    ValidateTokenRequest {
        token: token.to_owned(),
        agent_id: agent_id.to_string(),
        resource_type: resource_type.to_string(),
        consistency: consistency.into(),
    }
}

/// What the control plane has told.
fn told(response: ValidateTokenResponse) -> ValidateTokenResult {
    ValidateTokenResult {
        valid: response.valid,
        reason: given(response.reason),
        grant_id: given(response.grant_id),
        expires_at: rfc3339(response.expires_at),
        restrictions: response.valid.then_some(response.restrictions),
        scope: given(response.scope),
        staleness_ms: response.staleness_ms,
    }
}

/// What was found here.
fn found(decided: &Decided) -> ValidateTokenResult {
    let valid = decided.refused.is_none();
    let known = decided.known.as_deref();
    ValidateTokenResult {
        valid,
        reason: decided.refused.map(|reason| reason.to_string()),
        grant_id: known.map(|known| known.grant_id.to_string()),
        expires_at: known.and_then(|known| {
            rfc3339(Some(prost_types::Timestamp {
                seconds: known.expires,
                nanos: 0,
            }))
        }),
        restrictions: known
            .filter(|_| valid)
            .map(|known| known.terms.restrictions.clone()),
        scope: known.and_then(|known| known.scope.as_deref().map(str::to_owned)),
        staleness_ms: decided.staleness.map_or(u64::MAX, |staleness| {
            u64::try_from(staleness.as_millis()).unwrap_or(u64::MAX)
        }),
    }
}
