//! `request_permission`: asking for a grant.

use authguardian_proto::{
    grants::v1::RequestPermissionRequest,
    ids::ResourceTypeName,
    reason::{Problem, Reason},
};

use super::{
    Caller, Core, DecisionResult,
    form::{Field, Form, Kind},
    name_request_id, request_id,
};

pub(super) const RESOURCE_TYPE: Field = Field::required(
    "resource_type",
    Kind::Text(134),
    "Name of the resource type, such as `SAP_API`, `FINANCIAL_API`, `EXTERNAL_SERVICE` or `DATA_EXPORT`; \
     operators can add others. To call a registered agent: `agent:` and its id",
);

pub(super) const TTL_SECONDS: Field = Field::optional(
    "ttl_seconds",
    Kind::Whole(1, u32::MAX),
    "How long the grant is needed, seconds; default and maximum are the resource type's, usually 300 and 3600",
);

pub(super) const WAIT_SECONDS: Field = Field::optional(
    "wait_seconds",
    Kind::Whole(0, 60),
    "How long to wait for a pending decision, seconds; default 0",
);

pub(super) const REQUEST_ID: Field = Field::optional(
    "request_id",
    Kind::Request,
    "Your own id of this request, 1 to 128 printable characters; repeating a call with the same id returns the \
     first outcome instead of doing it twice",
);

pub(super) const FIELDS: &[Field] = &[
    Field::required(
        "agent_id",
        Kind::Agent,
        "Agent on whose behalf permission is asked; the API key must speak for it",
    ),
    RESOURCE_TYPE,
    Field::required(
        "justification",
        Kind::Text(2000),
        "Why access is needed: the task and what exactly it needs, 1 to 2,000 characters; vague or \
         instruction-like text scores low",
    ),
    Field::optional(
        "scope",
        Kind::Text(500),
        "What exactly, such as `read:invoices:q4`; no scope, `*` and write verbs raise the risk",
    ),
    TTL_SECONDS,
    WAIT_SECONDS,
    REQUEST_ID,
];

impl Core {
    pub(super) async fn request_permission(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<DecisionResult, Problem> {
        let agent_id = form.agent()?;
        caller.speaks_for(&agent_id)?;
        let resource_type = resource_type(form)?;
        let request_id = request_id(form, &self.ambient);
        let request = RequestPermissionRequest {
            agent_id: agent_id.to_string(),
            resource_type: resource_type.to_string(),
            justification: form.message_text("justification"),
            scope: form.message_text("scope"),
            ttl_seconds: form.message_number("ttl_seconds"),
            request_id: request_id.clone(),
        };
        let response = self
            .upstream
            .request_permission(caller.login(), request)
            .await
            .map_err(|problem| name_request_id(problem, &request_id))?;
        DecisionResult::read(response.decision)
    }
}

/// A name that no resource type can have is a type that does not exist.
pub(super) fn resource_type(form: &Form) -> Result<ResourceTypeName, Problem> {
    form.message_text("resource_type").parse().map_err(|_| {
        let detail = format!(
            "there is no such resource type; names have {}",
            ResourceTypeName::EXPECTED
        );
        Problem::new(Reason::UnknownResourceType, detail).at("resource_type")
    })
}
