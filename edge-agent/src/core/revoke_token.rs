//! `revoke_token`: ending a grant before its time.

use authguardian_proto::{grants::v1::RevokeTokenRequest, reason::Problem};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Caller, Core,
    form::{Field, Form, Kind},
    name_request_id, request_id,
    request_permission::REQUEST_ID,
};

pub(super) const FIELDS: &[Field] = &[
    Field::required("token", Kind::Token, "Token of the grant to end"),
    REQUEST_ID,
];

/// A grant that was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RevokeTokenResult {
    /// Always true: a revocation that failed is an error.
    pub revoked: bool,
    /// Id of the grant.
    pub grant_id: String,
    /// Where in the stream of grant changes the revocation stands.
    pub revision: u64,
}

impl Core {
    pub(super) async fn revoke_token(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<RevokeTokenResult, Problem> {
        let request_id = request_id(form, &self.ambient);
        let request = RevokeTokenRequest {
            token: form.message_text("token"),
            request_id: request_id.clone(),
        };
        let response = self
            .upstream
            .revoke_token(caller.login(), request)
            .await
            .map_err(|problem| name_request_id(problem, &request_id))?;
        // before the stream brings it: whoever is told of it finds it in force here
        if let Ok(grant_id) = response.grant_id.parse() {
            let until = self.verifier.end_of(form.text("token").unwrap_or_default());
            self.verifier.end(grant_id, until);
        }
        Ok(RevokeTokenResult {
            revoked: true,
            grant_id: response.grant_id,
            revision: response.position.map_or(0, |position| position.revision),
        })
    }
}
