//! What can go wrong, as responses that all operations share: made from the
//! table of reasons.

use authguardian_proto::reason::{Code, Reason};
use serde_json::{Map, Value, json};

use super::super::problem::Details;
use crate::core::schema_of;

/// What every guarded operation can fail with: form, size, credential, limits,
/// the control plane, ourselves.
const OF_GUARDED: [Code; 8] = [
    Code::InvalidArgument,
    Code::TooLarge,
    Code::Unauthenticated,
    Code::PermissionDenied,
    Code::RateLimited,
    Code::ResourceExhausted,
    Code::Unavailable,
    Code::Internal,
];

/// What even open operations can: a foreign `Host`, `Origin` or address.
const OF_OPEN: [Code; 2] = [Code::PermissionDenied, Code::Internal];

/// The body did not arrive in time.
const TIMED_OUT: u16 = 408;

/// The name in the path does not exist.
const NO_SUCH_NAME: u16 = 404;

/// The statuses of an operation's failures, in order.
pub(super) fn statuses(guarded: bool, also: &[Code]) -> Vec<u16> {
    let (common, timed_out): (&[Code], _) = if guarded {
        (&OF_GUARDED, Some(TIMED_OUT))
    } else {
        (&OF_OPEN, None)
    };
    let codes = common.iter().chain(also).map(|code| code.http());
    let mut statuses: Vec<u16> = codes.chain(timed_out).collect();
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

/// A reference to the shared response.
pub(super) fn reference(status: u16) -> Value {
    json!({ "$ref": format!("#/components/responses/{}", name(status)) })
}

/// The shared responses, one for each status.
pub(super) fn responses() -> Map<String, Value> {
    let mut statuses: Vec<u16> = Reason::ALL
        .iter()
        .map(|reason| reason.code().http())
        .collect();
    statuses.push(TIMED_OUT);
    statuses.sort_unstable();
    statuses.dedup();
    statuses
        .into_iter()
        .map(|status| (name(status), response(status)))
        .collect()
}

/// The schema of every problem.
pub(super) fn problem() -> Value {
    let mut schema = schema_of::<Details<'_>>();
    if let Some(reason) = schema
        .get_mut("properties")
        .and_then(|all| all.get_mut("reason"))
    {
        let all: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        reason["enum"] = json!(all);
    }
    Value::Object(schema)
}

fn response(status: u16) -> Value {
    let reasons: Vec<&str> = reasons(status).map(Reason::as_str).collect();
    let mut response = json!({
        "description": describe(status),
        "content": { "application/problem+json": { "schema": {
            "allOf": [{ "$ref": "#/components/schemas/Problem" }],
            "properties": { "status": { "const": status }, "reason": { "enum": reasons } },
        }}},
    });
    if let Some((header, schema)) = header(status) {
        response["headers"] = json!({ header: { "required": true, "schema": schema } });
    }
    response
}

/// The reasons that are told with a status; HTTP's own statuses say more than
/// the reason does.
fn reasons(status: u16) -> impl Iterator<Item = Reason> {
    let of_http = [NO_SUCH_NAME, TIMED_OUT].contains(&status);
    Reason::ALL.iter().copied().filter(move |reason| {
        reason.code().http() == status || (of_http && *reason == Reason::InvalidArgument)
    })
}

fn header(status: u16) -> Option<(&'static str, Value)> {
    match status {
        401 => Some(("WWW-Authenticate", json!({ "type": "string" }))),
        429 | 503 => Some((
            "Retry-After",
            json!({ "type": "integer", "minimum": 1, "description": "Seconds" }),
        )),
        _ => None,
    }
}

fn describe(status: u16) -> &'static str {
    match status {
        400 => "The request is not of its form; `field` names what is at fault.",
        401 => "No credential, or one that no longer counts.",
        403 => "The credential, or where the call comes from, does not allow it.",
        404 => "What was named does not exist, or not for this caller.",
        408 => "The body did not arrive in time.",
        409 => "It collides with what is there, or what is there is in another state.",
        410 => "A position that can no longer be served.",
        413 => "The body, or a part of it, is over its bound.",
        429 => "Too many calls, or a bound of the system is reached; wait, then try again.",
        503 => "Not now; a retry is safe.",
        504 => "It may or may not have happened; a retry with the same `request_id` tells.",
        _ => "The edge's own fault; its log has the cause.",
    }
}

/// `429` → `TooManyRequests`.
fn name(status: u16) -> String {
    let words = axum::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error");
    words.chars().filter(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_with_its_status() {
        let responses = responses();
        for reason in Reason::ALL {
            let response = &responses[&name(reason.code().http())];
            let told = &response["content"]["application/problem+json"]["schema"]["properties"]["reason"]
                ["enum"];
            assert!(told.as_array().unwrap().contains(&json!(reason.as_str())));
        }
        assert_eq!(responses["RequestTimeout"]["description"], describe(408));
    }

    #[test]
    fn an_open_operation_fails_for_few_reasons() {
        assert_eq!(statuses(false, &[]), [403, 500]);
        assert_eq!(
            statuses(true, &[Code::NotFound]),
            [400, 401, 403, 404, 408, 413, 429, 500, 503]
        );
    }
}
