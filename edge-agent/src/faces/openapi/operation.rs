//! One operation: a method on a path.

use authguardian_proto::reason::Code;
use serde_json::{Map, Value, json};

use super::failure;

/// What a caller has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing: nothing in it depends on who asks.
    Open,
    /// Nothing: the credential is in the body.
    Login,
    /// An API key or a session token.
    Credential,
    /// An API key, a session token, or a ticket in the URL.
    Stream,
}

/// An operation, before it is JSON.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) id: String,
    pub(super) tag: &'static str,
    pub(super) summary: String,
    pub(super) description: String,
    pub(super) access: Access,
    pub(super) parameters: Vec<Value>,
    /// Schema of the JSON body.
    pub(super) body: Option<Value>,
    /// Whether a call without one is refused.
    pub(super) needs_body: bool,
    /// Statuses of answers that are no failures, with their content.
    pub(super) answers: Vec<(u16, Value)>,
    /// What it can fail with beyond what all of its access can.
    pub(super) failures: &'static [Code],
}

impl Operation {
    /// One that takes nothing and is described by its summary.
    pub(super) fn new(
        method: &'static str,
        path: impl Into<String>,
        id: impl Into<String>,
    ) -> Self {
        Self {
            method,
            path: path.into(),
            id: id.into(),
            tag: "",
            summary: String::new(),
            description: String::new(),
            access: Access::Credential,
            parameters: Vec::new(),
            body: None,
            needs_body: true,
            answers: Vec::new(),
            failures: &[],
        }
    }

    /// Its operation object.
    pub(super) fn to_json(&self) -> Value {
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "responses": self.responses(),
        });
        if !self.description.is_empty() {
            operation["description"] = json!(self.description);
        }
        match self.access {
            Access::Open | Access::Login => operation["security"] = json!([]),
            Access::Stream => {
                operation["security"] = json!([{ "credential": [] }, { "ticket": [] }]);
            }
            Access::Credential => {}
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = json!(self.parameters);
        }
        if let Some(schema) = &self.body {
            operation["requestBody"] = json!({
                "required": self.needs_body,
                "content": { "application/json": { "schema": schema } },
            });
        }
        operation
    }

    fn responses(&self) -> Map<String, Value> {
        let failures = failure::statuses(self.access != Access::Open, self.failures)
            .into_iter()
            .map(|status| (status.to_string(), failure::reference(status)));
        let answers = self
            .answers
            .iter()
            .map(|(status, answer)| (status.to_string(), answer.clone()));
        answers.chain(failures).collect()
    }
}

/// An answer of JSON of this schema.
pub(super) fn json_answer(description: &str, schema: &Value) -> Value {
    json!({
        "description": description,
        "content": { "application/json": { "schema": schema } },
    })
}

/// A reference to a shared schema.
pub(super) fn schema_reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}
