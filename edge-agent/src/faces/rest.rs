//! Tools and resources as plain REST: the same results and errors as MCP,
//! without its envelope.

use std::sync::Arc;

use authguardian_proto::reason::{Problem, Reason};
use axum::{
    Extension,
    body::Bytes,
    extract::{OriginalUri, Path, State},
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use super::{json, problem};
use crate::core::{Caller, Core, Readable, Told, Tool, exact};

const RESOURCES: &str = "/mcp/resources/";

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `POST /mcp/tools/{name}`: the body is the tool's arguments.
pub(super) async fn call_tool(
    State(core): State<Arc<Core>>,
    Path(name): Path<String>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let Some(tool) = Tool::parse(&name) else {
        return problem::not_found(format!("there is no tool `{name}`"));
    };
    let outcome = match arguments(&body) {
        Ok(arguments) => core.call(&caller, tool, arguments).await,
        Err(problem) => Err(problem),
    };
    respond(outcome)
}

/// `GET /mcp/resources/{uri}`, percent-encoded or as it is.
pub(super) async fn read_resource(
    State(core): State<Arc<Core>>,
    Path(decoded): Path<String>,
    OriginalUri(request): OriginalUri,
    Extension(caller): Extension<Caller>,
) -> Response {
    let uri = named(request.path(), &decoded);
    let Some(what) = Readable::parse(&uri) else {
        let uri: String = uri.chars().take(64).collect();
        return problem::not_found(format!("there is no resource `{uri}`"));
    };
    respond(core.read(&caller, &what).await)
}

fn respond(outcome: Result<Told, Problem>) -> Response {
    match outcome {
        Ok(told) => ([(CONTENT_TYPE, JSON)], told.into_text()).into_response(),
        Err(problem) => problem::respond(&problem),
    }
}

/// No body means no arguments.
fn arguments(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    json::check(body).map_err(|error| malformed(&error))?;
    let text = std::str::from_utf8(body).unwrap_or_default();
    match exact(text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err(Problem::new(
            Reason::InvalidArgument,
            "expected a JSON object with the tool's arguments",
        )),
        Err(error) => Err(malformed(&error)),
    }
}

/// What is wrong with JSON text, and where.
pub(super) fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(
        Reason::InvalidArgument,
        format!("the body is not JSON: {error}"),
    )
}

/// The URI in a path: as it is where it was not encoded, so that what it encodes
/// itself is decoded once; else as the path decodes to.
fn named(path: &str, decoded: &str) -> String {
    match path.split_once(RESOURCES) {
        Some((_, raw)) if raw.contains(":/") => whole_uri(raw),
        _ => whole_uri(decoded),
    }
}

/// Clients and proxies like to merge the two slashes of an unencoded URI.
fn whole_uri(path: &str) -> String {
    match path.split_once(":/") {
        Some((scheme, rest)) if !rest.starts_with('/') => format!("{scheme}://{rest}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_slash_is_put_back() {
        assert_eq!(whole_uri("grants:/active"), "grants://active");
        assert_eq!(whole_uri("grants://active"), "grants://active");
        assert_eq!(whole_uri("grants"), "grants");
    }

    #[test]
    fn what_a_uri_encodes_itself_is_decoded_once() {
        for (path, decoded) in [
            (
                "/mcp/resources/blackboard%3A%2F%2Fstrong%2Fa%2520b",
                "blackboard://strong/a%20b",
            ),
            (
                "/mcp/resources/blackboard://strong/a%20b",
                "blackboard://strong/a b",
            ),
            (
                "/mcp/resources/blackboard:/strong/a%20b",
                "blackboard:/strong/a b",
            ),
        ] {
            assert_eq!(named(path, decoded), "blackboard://strong/a%20b", "{path}");
        }
        assert_eq!(
            named("/mcp/resources/grants%3A%2F%2Factive", "grants://active"),
            "grants://active"
        );
    }

    #[test]
    fn a_malformed_body_is_located() {
        let problem = arguments(b"{\"a\": }").unwrap_err();
        assert_eq!(problem.reason, Reason::InvalidArgument);
        assert!(
            problem.detail.contains("line 1 column 7"),
            "{}",
            problem.detail
        );
        assert!(arguments(b"[1]").is_err());
        assert!(arguments(b" \n").unwrap().is_empty());
    }
}
