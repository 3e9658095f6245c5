//! `permission_status`: what became of a request.

use authguardian_proto::{grants::v1::GetPermissionRequest, reason::Problem};

use super::{
    Caller, Core, DecisionResult,
    form::{Field, Form, Kind},
    request_permission::WAIT_SECONDS,
};

pub(super) const FIELDS: &[Field] = &[
    Field::required(
        "grant_id",
        Kind::Grant,
        "Id of the grant or denial, `grt_…`",
    ),
    WAIT_SECONDS,
];

impl Core {
    pub(super) async fn permission_status(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<DecisionResult, Problem> {
        let request = GetPermissionRequest {
            grant_id: form.message_text("grant_id"),
        };
        let response = self
            .upstream
            .get_permission(caller.login(), request)
            .await?;
        let state = response.state();
        Ok(DecisionResult::read(response.decision)?.in_state(state))
    }
}
