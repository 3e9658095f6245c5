//! What the bodies of `/auth` have in them: one table each, from which they are
//! read and the published schema is made.

use authguardian_proto::{
    ids::ApiKeyId,
    reason::{Problem, Reason},
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value, json};

use super::super::{json, rest};

/// One field; all are required.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    name: &'static str,
    kind: Kind,
    description: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    ApiKeyId,
    /// Exactly so many bytes, as base64 of either alphabet, padded or not.
    Bytes(usize),
}

const API_KEY_ID: Field = Field {
    name: "api_key_id",
    kind: Kind::ApiKeyId,
    description: "Id of the API key, `apk_…`",
};

/// Of `POST /auth/challenge`.
pub(crate) const CHALLENGE: &[Field] = &[API_KEY_ID];

pub(super) const NONCE: Field = Field {
    name: "nonce",
    kind: Kind::Bytes(32),
    description: "The nonce of the challenge, base64",
};

pub(super) const SIGNATURE: Field = Field {
    name: "signature",
    kind: Kind::Bytes(64),
    description: "The key's Ed25519 signature of the challenge's `message`, base64",
};

/// Of `POST /auth/session`.
pub(crate) const PROOF: &[Field] = &[API_KEY_ID, NONCE, SIGNATURE];

const PADDED_OR_NOT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDED_OR_NOT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDED_OR_NOT);

impl Field {
    fn schema(&self) -> Value {
        let pattern = match self.kind {
            Kind::ApiKeyId => ApiKeyId::PATTERN.to_owned(),
            Kind::Bytes(count) => base64_pattern(count),
        };
        json!({"type": "string", "description": self.description, "pattern": pattern})
    }

    /// The bytes of a field that has some.
    pub(super) fn bytes(&self, body: &Map<String, Value>) -> Result<Vec<u8>, Problem> {
        let Kind::Bytes(count) = self.kind else {
            return Ok(Vec::new());
        };
        let text = text(body, self.name)?.trim();
        let engine = if text.contains(['-', '_']) {
            URL_SAFE
        } else {
            PLAIN
        };
        engine
            .decode(text)
            .ok()
            .filter(|bytes| bytes.len() == count)
            .ok_or_else(|| Problem::invalid(self.name, format!("expected base64 of {count} bytes")))
    }
}

/// The JSON Schema of a body.
pub(crate) fn schema(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| (field.name.to_owned(), field.schema()))
        .collect();
    let required: Vec<&str> = fields.iter().map(|field| field.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The body's fields: these, and no others.
pub(crate) fn read(body: &[u8], expected: &[Field]) -> Result<Map<String, Value>, Problem> {
    json::check(body).map_err(|error| rest::malformed(&error))?;
    let fields = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => {
            return Err(Problem::new(
                Reason::InvalidArgument,
                "expected a JSON object",
            ));
        }
        Err(error) => return Err(rest::malformed(&error)),
    };
    let is_unknown = |name: &&String| !expected.iter().any(|field| field.name == **name);
    if let Some(unknown) = fields.keys().find(is_unknown) {
        let name: String = unknown.chars().take(64).collect();
        let names: Vec<&str> = expected.iter().map(|field| field.name).collect();
        let detail = match names.as_slice() {
            [] => "there is no such field; expected none".to_owned(),
            names => format!("there is no such field; expected `{}`", names.join("`, `")),
        };
        return Err(Problem::invalid(name, detail));
    }
    Ok(fields)
}

/// The field that every body has.
pub(super) fn api_key_id(body: &Map<String, Value>) -> Result<ApiKeyId, Problem> {
    text(body, API_KEY_ID.name)?
        .parse()
        .map_err(|error: authguardian_proto::ids::ParseIdError| {
            Problem::invalid(API_KEY_ID.name, error.to_string())
        })
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<&'a str, Problem> {
    match body.get(name) {
        None | Some(Value::Null) => Err(Problem::invalid(name, "is required")),
        Some(value) => value
            .as_str()
            .ok_or_else(|| Problem::invalid(name, "expected a string")),
    }
}

/// The bits that the last digit has too many are zero.
fn base64_pattern(count: usize) -> String {
    let (last, padding) = match count % 3 {
        1 => ("[AQgw]", "(?:==)?"),
        2 => ("[AEIMQUYcgkosw048]", "=?"),
        _ => ("", ""),
    };
    let free = (count * 8).div_ceil(6) - usize::from(!last.is_empty());
    format!("^(?:[A-Za-z0-9+/]{{{free}}}|[A-Za-z0-9_-]{{{free}}}){last}{padding}$")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(text: &str, count: usize) -> Result<Vec<u8>, Problem> {
        let body = json!({ "nonce": text });
        let kind = Kind::Bytes(count);
        Field { kind, ..NONCE }.bytes(body.as_object().unwrap())
    }

    #[test]
    fn base64_is_read_in_both_alphabets_padded_or_not() {
        let wanted = vec![0xfb, 0xff, 0xbf, 0x01];
        for text in ["+/+/AQ==", "+/+/AQ", "-_-_AQ==", "-_-_AQ", " -_-_AQ\n"] {
            assert_eq!(bytes_of(text, 4).unwrap(), wanted, "{text}");
        }
        for (text, count) in [("+_+_AQ", 4), ("AQ", 4), ("", 4), ("é", 4), ("AQI", 1)] {
            let problem = bytes_of(text, count).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("nonce"), "{text}");
        }
    }

    #[test]
    fn a_body_has_the_expected_fields_and_no_others() {
        assert!(read(b"{\"api_key_id\": 7}", CHALLENGE).is_ok());
        for (body, field) in [
            (&b"{\"api_key\": \"x\"}"[..], Some("api_key")),
            (b"[]", None),
            (b"{", None),
            (b"", None),
        ] {
            let problem = read(body, CHALLENGE).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidArgument);
            assert_eq!(problem.field.as_deref(), field);
        }
        let of_another_kind = json!({ "api_key_id": 7 });
        let problem = api_key_id(of_another_kind.as_object().unwrap()).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("api_key_id"));
        assert!(api_key_id(&Map::new()).is_err());
    }
}
