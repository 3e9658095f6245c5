//! Errors as MCP carries them.

use authguardian_proto::reason::Problem;
use rmcp::ErrorData;
use serde_json::{Value, json};

/// A resource that cannot be read now; there is no `isError` for resources.
pub(super) fn failed(problem: &Problem) -> ErrorData {
    ErrorData::internal_error(problem.detail.clone(), Some(problem_json(problem)))
}

/// The structured form: `{reason, detail, field}`, and when to try again.
pub(super) fn problem_json(problem: &Problem) -> Value {
    let mut value = json!({ "reason": problem.reason.as_str(), "detail": problem.detail });
    if let (Some(field), Some(object)) = (&problem.field, value.as_object_mut()) {
        object.insert("field".to_owned(), json!(field));
    }
    if let (Some(seconds), Some(object)) = (problem.retry_after_seconds, value.as_object_mut()) {
        object.insert("retry_after_seconds".to_owned(), json!(seconds));
    }
    value
}

#[cfg(test)]
mod tests {
    use authguardian_proto::reason::Reason;

    use super::*;

    #[test]
    fn a_problem_has_a_field_only_where_one_is_at_fault() {
        let problem = Problem::new(Reason::Unavailable, "later");
        assert_eq!(
            problem_json(&problem),
            json!({"reason": "UNAVAILABLE", "detail": "later"})
        );
        assert_eq!(problem_json(&problem.at("token"))["field"], "token");
        let limited = Problem::rate_limited("too often", std::time::Duration::from_secs(2));
        assert_eq!(
            problem_json(&limited),
            json!({"reason": "RATE_LIMITED", "detail": "too often", "retry_after_seconds": 2})
        );
    }
}
