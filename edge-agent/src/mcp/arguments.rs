//! The arguments of a call as they were written. What `rmcp` reads of a message
//! has the digits of every number, but writes exponents in its own way.

use std::sync::Arc;

use rmcp::{RoleServer, model::CallToolRequestParams, service::RequestContext};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use crate::core::exact;

/// What only calls have that carry values of boards, however else they are written.
const OF_BOARDS: &[u8] = b"blackboard_";

/// Arguments of a call, as an extension of its message.
#[derive(Debug, Clone)]
pub struct ExactArguments(Arc<Map<String, Value>>);

impl ExactArguments {
    /// Reads the arguments of a message whose text is JSON without a name that
    /// stands twice; `None` for one that carries no value of a board.
    pub fn of_message(text: &[u8]) -> Option<Self> {
        let is_of_boards = text
            .windows(OF_BOARDS.len())
            .any(|window| window == OF_BOARDS);
        is_of_boards.then_some(())?;
        let message = serde_json::from_slice::<Message<'_>>(text).ok()?;
        match exact(message.params?.arguments?.get()) {
            Ok(Value::Object(arguments)) => Some(Self(Arc::new(arguments))),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// The arguments of a call: as they were written where that is known.
pub(super) fn arguments(
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Map<String, Value> {
    let of_request = context.extensions.get::<http::request::Parts>();
    let exact = of_request
        .and_then(|parts| parts.extensions.get::<ExactArguments>())
        .or_else(|| context.extensions.get::<ExactArguments>());
    match exact {
        Some(ExactArguments(exact)) => Map::clone(exact),
        None => request.arguments.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_boards_are_read_as_they_were_written() {
        let text =
            br#"{"params":{"name":"blackboard_write","arguments":{"value": [1e400, 1.10]}}}"#;
        let ExactArguments(read) = ExactArguments::of_message(text).unwrap();
        assert_eq!(
            Value::Object(Map::clone(&read)).to_string(),
            r#"{"value":[1e400,1.10]}"#
        );
        for other in [
            &br#"{"params":{"name":"revoke_token","arguments":{"token":"a"}}}"#[..],
            br#"{"params":{"name":"blackboard_read"}}"#,
            br#"{"params":{"name":"blackboard_read","arguments":[]}}"#,
            b"blackboard_",
        ] {
            assert!(ExactArguments::of_message(other).is_none());
        }
    }
}
