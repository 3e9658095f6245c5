//! JSON schemas of arguments about boards.

use authguardian_proto::board::{MAX_KEY_BYTES, MAX_OPERATIONS, MAX_TTL_SECONDS};
use serde_json::{Value, json};

/// Text without NUL.
const KEY: &str = r"^[^\x00]+$";
const PREFIX: &str = r"^[^\x00]*$";

/// A position as text.
const POSITION: &str = r"^[0-9]{1,18}\.[0-9]{1,18}$";

pub(in crate::core::form) fn key_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("string")),
        ("pattern", json!(KEY)),
        ("maxLength", json!(MAX_KEY_BYTES)),
    ]
}

pub(in crate::core::form) fn prefix_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("string")),
        ("pattern", json!(PREFIX)),
        ("maxLength", json!(MAX_KEY_BYTES)),
    ]
}

pub(in crate::core::form) fn json_schema() -> Vec<(&'static str, Value)> {
    vec![("type", any_type())]
}

fn any_type() -> Value {
    json!(["object", "array", "string", "number", "boolean", "null"])
}

fn revision_schema_value() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX })
}

pub(in crate::core::form) fn revision_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("integer")),
        ("minimum", json!(0)),
        ("maximum", json!(i64::MAX)),
    ]
}

pub(in crate::core::form) fn position_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!(["string", "integer"])),
        ("pattern", json!(POSITION)),
        ("minimum", json!(0)),
        ("maximum", json!(i64::MAX)),
    ]
}

fn key_schema_value() -> Value {
    json!({ "type": "string", "pattern": KEY, "minLength": 1, "maxLength": MAX_KEY_BYTES })
}

pub(in crate::core::form) fn lock_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("object")),
        (
            "properties",
            json!({ "key": key_schema_value(), "fencing_revision": revision_schema_value() }),
        ),
        ("required", json!(["key", "fencing_revision"])),
        ("additionalProperties", json!(false)),
    ]
}

pub(in crate::core::form) fn compares_schema() -> Vec<(&'static str, Value)> {
    let of = |name: &str, schema: Value| {
        json!({
            "type": "object",
            "properties": { "key": key_schema_value(), name: schema },
            "required": ["key", name],
            "additionalProperties": false,
        })
    };
    let items = json!({ "anyOf": [
        of("revision", revision_schema_value()),
        of("fencing_revision", revision_schema_value()),
        of("value", json!({ "type": any_type() })),
        of("exists", json!({ "type": "boolean" })),
    ] });
    list_schema(items)
}

pub(in crate::core::form) fn operations_schema() -> Vec<(&'static str, Value)> {
    let plain = json!({
        "type": "object",
        "properties": { "op": { "enum": ["delete", "get"] }, "key": key_schema_value() },
        "required": ["op", "key"],
        "additionalProperties": false,
    });
    let put = json!({
        "type": "object",
        "properties": {
            "op": { "const": "put" },
            "key": key_schema_value(),
            "value": { "type": any_type() },
            "ttl_seconds": { "type": ["integer", "null"], "minimum": 1, "maximum": MAX_TTL_SECONDS },
        },
        "required": ["op", "key", "value"],
        "additionalProperties": false,
    });
    list_schema(json!({ "anyOf": [put, plain] }))
}

fn list_schema(items: Value) -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("array")),
        ("maxItems", json!(MAX_OPERATIONS)),
        ("items", items),
    ]
}
