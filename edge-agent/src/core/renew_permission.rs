//! `renew_permission`: extending a grant.

use authguardian_proto::{grants::v1::RenewPermissionRequest, reason::Problem};

use super::{
    Caller, Core, DecisionResult,
    form::{Field, Form, Kind},
    name_request_id, request_id,
    request_permission::{REQUEST_ID, TTL_SECONDS},
};

pub(super) const FIELDS: &[Field] = &[
    Field::required("token", Kind::Token, "Token of the grant to extend"),
    TTL_SECONDS,
    REQUEST_ID,
];

impl Core {
    pub(super) async fn renew_permission(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<DecisionResult, Problem> {
        let request_id = request_id(form, &self.ambient);
        let request = RenewPermissionRequest {
            token: form.message_text("token"),
            ttl_seconds: form.message_number("ttl_seconds"),
            request_id: request_id.clone(),
        };
        let response = self
            .upstream
            .renew_permission(caller.login(), request)
            .await
            .map_err(|problem| name_request_id(problem, &request_id))?;
        DecisionResult::read(response.decision)
    }
}
