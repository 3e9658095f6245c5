//! What the bridge has to know about JSON-RPC messages, and no more.

use serde_json::{Value, json};

/// Where 2026-07-28 puts the version into every request.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Wants an answer.
    Request,
    /// Wants none.
    Notification,
    /// An answer to the server.
    Answer,
}

pub(super) fn kind(message: &Value) -> Kind {
    match (message.get("method"), message.get("id")) {
        (Some(_), Some(_)) => Kind::Request,
        (Some(_), None) => Kind::Notification,
        (None, _) => Kind::Answer,
    }
}

pub(super) fn method(message: &Value) -> &str {
    message
        .get("method")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The version that a request of the revision without sessions carries.
pub(super) fn version(message: &Value) -> Option<&str> {
    message.get("params")?.get("_meta")?.get(VERSION)?.as_str()
}

/// What the `Mcp-Name` header repeats (SEP-2243).
pub(super) fn name(message: &Value) -> Option<&str> {
    let key = match method(message) {
        "tools/call" | "prompts/get" => "name",
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => "uri",
        _ => return None,
    };
    message.get("params")?.get(key)?.as_str()
}

/// Whether `message` answers the request `id`.
pub(super) fn answers(message: &Value, id: &Value) -> bool {
    message.get("method").is_none() && message.get("id") == Some(id)
}

/// A JSON-RPC error in a line.
pub(super) fn error(id: &Value, code: i32, message: &str, data: Option<Value>) -> String {
    let mut error = json!({ "code": code, "message": message });
    if let (Some(data), Some(object)) = (data, error.as_object_mut()) {
        object.insert("data".to_owned(), data);
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
}

/// JSON text in one line: outside of strings line ends mean nothing, and
/// inside they are always escaped.
pub(super) fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(kind(&json!({"method": "ping", "id": 0})), Kind::Request);
        assert_eq!(
            kind(&json!({"method": "notifications/initialized"})),
            Kind::Notification
        );
        assert_eq!(kind(&json!({"id": 1, "result": {}})), Kind::Answer);
        assert!(answers(&json!({"id": "a", "result": {}}), &json!("a")));
        assert!(!answers(&json!({"id": "a", "method": "ping"}), &json!("a")));
    }

    #[test]
    fn headers_of_the_revision_without_sessions_come_from_the_body() {
        let call = json!({"method": "tools/call", "params": {"name": "t", "_meta": {VERSION: "2026-07-28"}}});
        assert_eq!(
            (version(&call), name(&call)),
            (Some("2026-07-28"), Some("t"))
        );
        assert_eq!(name(&json!({"method": "tools/list"})), None);
    }
}
