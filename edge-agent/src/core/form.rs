//! What a tool takes: one table per tool, from which arguments are checked and
//! the published JSON Schema is made, so that both always agree.

use std::collections::BTreeMap;

use authguardian_proto::{
    blackboard::v1::{Compare, LockHeld, Operation},
    capability::{self, Capability, CapabilityQuery, MAX_ATTRIBUTES, MAX_CAPABILITIES},
    common::v1::Position,
    endpoint::Endpoint,
    grant_token::MAX_TOKEN_LEN,
    ids::{AgentId, BoardName, GrantId, MachineId, RequestId, ReservationId, TaskId},
    reason::{Problem, Reason},
};
use serde_json::{Map, Value, json};

mod amount;
mod boards;

pub use boards::{check_key, check_prefix};

/// One argument of a tool.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Whether a call without it is refused.
    pub required: bool,
    /// What it may be.
    pub kind: Kind,
    /// What it means, for people and models.
    pub description: &'static str,
}

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An [`AgentId`].
    Agent,
    /// A [`GrantId`].
    Grant,
    /// A grant token of 1 to [`MAX_TOKEN_LEN`] characters; what it says is not looked at here.
    Token,
    /// A [`RequestId`].
    Request,
    /// 1 to so many characters (Unicode scalar values), not all of them blank, none of them NUL.
    Text(usize),
    /// A whole number from … to …, both included.
    Whole(u32, u32),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// True or false.
    Flag,
    /// A [`MachineId`].
    Machine,
    /// An [`Endpoint`].
    Endpoint,
    /// Capabilities: each `name`, `name@version`, or an object with `name`, `version` and `attributes`.
    Capabilities,
    /// A [`CapabilityQuery`].
    CapabilityQuery,
    /// Labels: an object of texts.
    Labels,
    /// A board's name.
    Board,
    /// A key of a board: 1 to 512 bytes of text without NUL.
    Key,
    /// What keys begin with; it may be empty.
    Prefix,
    /// Any JSON of up to 256 KiB; null is a value as any other.
    Json,
    /// A revision of a board, or 0.
    Revision,
    /// A revision of a board's present epoch, or `epoch.revision`.
    Position,
    /// A lock that has to be held: an object with `key` and `fencing_revision`.
    LockHeld,
    /// What a transaction rests on.
    Compares,
    /// What a transaction does.
    Operations,
    /// A [`TaskId`].
    Task,
    /// A [`ReservationId`].
    Reservation,
    /// An amount of a budget, at least so much.
    Amount(u64),
}

/// A token has something in it, for schemas.
const NOT_BLANK: &str = r"[^\s\x85]";

/// Text has something in it, and no NUL, for schemas.
const TEXT: &str = r"^[^\x00]*[^\s\x00\x85][^\x00]*$";

/// Of capabilities, for schemas, which cannot say how long all parts are together.
const NAME: &str = "[A-Za-z0-9_-]+(?:[./:][A-Za-z0-9_-]+){0,7}";
const VERSION: &str = "[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,30}[A-Za-z0-9])?";

/// Of labels and attributes, for schemas.
const KEY: &str = "^[A-Za-z0-9._/-]{1,63}$";
const VALUE: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

/// What a regular expression can tell of an endpoint, for schemas: which addresses are
/// refused it cannot.
const ENDPOINT: &str = r"^https?://[^\s?#@\\]+$";

/// The arguments of one call, checked against their table.
#[derive(Debug)]
pub(super) struct Form(Map<String, Value>);

/// A transaction's `compare`, `then` and `else`.
pub(super) type Parts = (Vec<Compare>, Vec<Operation>, Vec<Operation>);

impl Field {
    /// An argument that every call has.
    pub const fn required(name: &'static str, kind: Kind, description: &'static str) -> Self {
        Self {
            name,
            required: true,
            kind,
            description,
        }
    }

    /// An argument that may be missing or null.
    pub const fn optional(name: &'static str, kind: Kind, description: &'static str) -> Self {
        Self {
            name,
            required: false,
            kind,
            description,
        }
    }

    /// The JSON Schema (2020-12) of this argument.
    fn schema(&self) -> Value {
        let mut schema = self.kind.schema();
        schema.insert("description".to_owned(), json!(self.description));
        if !self.required {
            allow_null(&mut schema);
        }
        Value::Object(schema)
    }

    fn check(&self, value: &Value) -> Result<(), Problem> {
        match self.kind {
            Kind::Whole(min, max) => return self.check_whole(value, min, max),
            Kind::Flag if value.is_boolean() => return Ok(()),
            Kind::Flag => return Err(Problem::invalid(self.name, "expected true or false")),
            Kind::Capabilities => return read_capabilities(self.name, value).map(drop),
            Kind::Labels => return read_labels(self.name, value).map(drop),
            Kind::Json => return boards::read_value(self.name, value).map(drop),
            Kind::Revision => return boards::read_revision(self.name, value).map(drop),
            Kind::Position => return boards::read_position(self.name, value).map(drop),
            Kind::LockHeld => return boards::read_lock(self.name, value).map(drop),
            Kind::Compares => return boards::read_compares(self.name, value).map(drop),
            Kind::Operations => return boards::read_operations(self.name, value).map(drop),
            Kind::Amount(least) => return amount::read_amount(self.name, value, least).map(drop),
            _ => {}
        }
        match value.as_str() {
            Some(text) => self.check_text(text),
            None => Err(Problem::invalid(self.name, "expected a string")),
        }
    }

    fn check_whole(&self, value: &Value, min: u32, max: u32) -> Result<(), Problem> {
        match whole(value) {
            Some(number) if (min..=max).contains(&number) => Ok(()),
            _ => Err(Problem::invalid(
                self.name,
                format!("expected a whole number from {min} to {max}"),
            )),
        }
    }

    fn check_text(&self, text: &str) -> Result<(), Problem> {
        let name = self.name;
        match self.kind {
            Kind::Agent => parse::<AgentId>(name, text),
            Kind::Grant => parse::<GrantId>(name, text),
            Kind::Request => parse::<RequestId>(name, text),
            Kind::Token => bounded(name, text, MAX_TOKEN_LEN),
            Kind::Text(_) if text.contains('\0') => {
                Err(Problem::invalid(name, "expected text without NUL"))
            }
            Kind::Text(max) => bounded(name, text, max),
            Kind::OneOf(words) if words.contains(&text) => Ok(()),
            Kind::OneOf(words) => Err(Problem::invalid(
                name,
                format!("expected one of `{}`", words.join("`, `")),
            )),
            Kind::Machine => parse::<MachineId>(name, text),
            Kind::Endpoint => parse::<Endpoint>(name, text),
            Kind::CapabilityQuery => parse::<CapabilityQuery>(name, text),
            Kind::Board => boards::check_board(name, text),
            Kind::Key => boards::check_key(name, text),
            Kind::Prefix => boards::check_prefix(name, text),
            Kind::Task => parse::<TaskId>(name, text),
            Kind::Reservation => parse::<ReservationId>(name, text),
            Kind::Whole(..)
            | Kind::Flag
            | Kind::Capabilities
            | Kind::Labels
            | Kind::Json
            | Kind::Revision
            | Kind::Position
            | Kind::LockHeld
            | Kind::Compares
            | Kind::Operations
            | Kind::Amount(_) => Ok(()),
        }
    }
}

impl Kind {
    /// What its schema says of the value alone.
    fn schema(self) -> Map<String, Value> {
        let text = |pattern: &str| vec![("type", json!("string")), ("pattern", json!(pattern))];
        let bounded = |pattern: &str, max: usize| {
            let mut schema = text(pattern);
            schema.push(("maxLength", json!(max)));
            schema
        };
        let keywords = match self {
            Self::Agent => text(AgentId::PATTERN),
            Self::Grant => text(GrantId::PATTERN),
            Self::Request => text(RequestId::PATTERN),
            Self::Token => bounded(NOT_BLANK, MAX_TOKEN_LEN),
            Self::Text(max) => bounded(TEXT, max),
            Self::Whole(min, max) => vec![
                ("type", json!("integer")),
                ("minimum", json!(min)),
                ("maximum", json!(max)),
            ],
            Self::OneOf(words) => vec![("type", json!("string")), ("enum", json!(words))],
            Self::Flag => vec![("type", json!("boolean"))],
            Self::Machine => text(MachineId::PATTERN),
            Self::Endpoint => {
                let mut schema = bounded(ENDPOINT, 512);
                schema.push(("format", json!("uri")));
                schema
            }
            Self::CapabilityQuery => bounded(
                &format!(r"^(?:\*|{NAME}(?:@{VERSION})?|{NAME}[./:]\*|{NAME}@{VERSION}\.\*)$"),
                162,
            ),
            Self::Capabilities => vec![
                ("type", json!("array")),
                ("maxItems", json!(MAX_CAPABILITIES)),
                ("uniqueItems", json!(true)),
                ("items", capability_schema()),
            ],
            Self::Labels => pairs_schema(128),
            Self::Board => text(BoardName::PATTERN),
            Self::Key => boards::key_schema(),
            Self::Prefix => boards::prefix_schema(),
            Self::Json => boards::json_schema(),
            Self::Revision => boards::revision_schema(),
            Self::Position => boards::position_schema(),
            Self::LockHeld => boards::lock_schema(),
            Self::Compares => boards::compares_schema(),
            Self::Operations => boards::operations_schema(),
            Self::Task => text(TaskId::PATTERN),
            Self::Reservation => text(ReservationId::PATTERN),
            Self::Amount(least) => amount::amount_schema(least),
        };
        keywords
            .into_iter()
            .map(|(keyword, value)| (keyword.to_owned(), value))
            .collect()
    }
}

fn capability_schema() -> Value {
    let attributes: Map<String, Value> = pairs_schema(256)
        .into_iter()
        .map(|(keyword, value)| (keyword.to_owned(), value))
        .collect();
    json!({
        "anyOf": [
            {
                "type": "string",
                "pattern": format!("^{NAME}(?:@{VERSION})?$"),
                "maxLength": 161,
                "description": "`name` or `name@version`",
            },
            {
                "type": "object",
                "properties": {
                    "name": { "type": "string", "pattern": format!("^{NAME}$"), "maxLength": 128 },
                    "version": { "type": ["string", "null"], "pattern": format!("^(?:{VERSION})?$") },
                    "attributes": attributes,
                },
                "required": ["name"],
                "additionalProperties": false,
            },
        ],
    })
}

fn pairs_schema(longest: usize) -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("object")),
        ("maxProperties", json!(MAX_ATTRIBUTES)),
        ("propertyNames", json!({ "pattern": KEY })),
        (
            "additionalProperties",
            json!({ "type": "string", "pattern": VALUE, "maxLength": longest }),
        ),
    ]
}

/// Reads capabilities in either form.
fn read_capabilities(name: &str, value: &Value) -> Result<Vec<Capability>, Problem> {
    let Some(items) = value.as_array() else {
        return Err(Problem::invalid(name, "expected a list"));
    };
    let mut messages = Vec::with_capacity(items.len().min(MAX_CAPABILITIES + 1));
    for (index, item) in items.iter().take(MAX_CAPABILITIES + 1).enumerate() {
        let at = format!("{name}[{index}]");
        let read = match item {
            Value::String(text) => {
                text.parse()
                    .map_err(|error: capability::ParseCapabilityError| {
                        Problem::invalid(&at, error.to_string())
                    })?
            }
            Value::Object(_) => serde_json::from_value::<GivenCapability>(item.clone())
                .map(Capability::from)
                .map_err(|_| {
                    let detail = "expected an object with `name`, and where it applies `version` (both text) and `attributes` (an object of texts)";
                    Problem::invalid(&at, detail)
                })?,
            _ => {
                let detail = "expected `name`, `name@version`, or an object with `name`";
                return Err(Problem::invalid(&at, detail));
            }
        };
        messages.push(read.to_message());
    }
    capability::from_messages(messages)
}

/// The long form.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenCapability {
    name: String,
    version: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

impl From<GivenCapability> for Capability {
    fn from(given: GivenCapability) -> Self {
        Self {
            name: given.name,
            version: given.version,
            attributes: given.attributes,
        }
    }
}

fn read_labels(name: &str, value: &Value) -> Result<BTreeMap<String, String>, Problem> {
    let labels = serde_json::from_value(value.clone())
        .map_err(|_| Problem::invalid(name, "expected an object of texts"))?;
    capability::check_labels(&labels)?;
    Ok(labels)
}

/// A null stands for an argument that is not given.
fn allow_null(schema: &mut Map<String, Value>) {
    match schema.get_mut("type") {
        Some(Value::Array(kinds)) => kinds.push(json!("null")),
        Some(kind) => *kind = json!([kind, "null"]),
        None => {}
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(Value::Null);
    }
}

/// The JSON Schema of a table, for `tools/list`.
pub(super) fn schema(fields: &[Field]) -> Map<String, Value> {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| (field.name.to_owned(), field.schema()))
        .collect();
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("required".to_owned(), json!(required));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

impl Form {
    /// Checks arguments: unknown names first, then each in the table's order.
    pub(super) fn read(
        fields: &[Field],
        mut arguments: Map<String, Value>,
    ) -> Result<Self, Problem> {
        if let Some(unknown) = arguments
            .keys()
            .find(|name| !fields.iter().any(|field| field.name == *name))
        {
            let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            let detail = format!(
                "there is no such argument; expected `{}`",
                known.join("`, `")
            );
            return Err(Problem::invalid(shortened(unknown), detail));
        }
        let may_be_null = |name: &str| {
            fields
                .iter()
                .any(|field| field.name == name && field.kind == Kind::Json)
        };
        arguments.retain(|name, value| !value.is_null() || may_be_null(name));
        for field in fields {
            match arguments.get(field.name) {
                Some(value) => field.check(value)?,
                None if field.required => return Err(Problem::invalid(field.name, "is required")),
                None => {}
            }
        }
        Ok(Self(arguments))
    }

    /// A text argument; `None` when it was not given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A text argument, empty when it was not given, as messages have it.
    pub(super) fn message_text(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }

    /// A whole number, zero when it was not given, as messages have it.
    pub(super) fn message_number(&self, name: &str) -> u32 {
        self.0.get(name).and_then(whole).unwrap_or_default()
    }

    /// A whole number; `None` when it was not given.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.0.get(name).and_then(whole)
    }

    /// Whether it was given as true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.0
            .get(name)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    /// Capabilities; none when they were not given.
    pub(super) fn capabilities(&self, name: &str) -> Result<Vec<Capability>, Problem> {
        match self.0.get(name) {
            Some(value) => read_capabilities(name, value),
            None => Ok(Vec::new()),
        }
    }

    /// Labels; none when they were not given.
    pub(super) fn labels(&self, name: &str) -> Result<BTreeMap<String, String>, Problem> {
        match self.0.get(name) {
            Some(value) => read_labels(name, value),
            None => Ok(BTreeMap::new()),
        }
    }

    /// A value for a board, as text.
    pub(super) fn json(&self, name: &str) -> Result<String, Problem> {
        match self.0.get(name) {
            Some(value) => boards::read_value(name, value),
            None => Err(Problem::invalid(name, "is required")),
        }
    }

    /// A revision; `None` when it was not given.
    pub(super) fn revision(&self, name: &str) -> Result<Option<u64>, Problem> {
        let given = self.0.get(name);
        given
            .map(|value| boards::read_revision(name, value))
            .transpose()
    }

    /// A position; `None` when it was not given.
    pub(super) fn position(&self, name: &str) -> Result<Option<Position>, Problem> {
        let given = self.0.get(name);
        given
            .map(|value| boards::read_position(name, value))
            .transpose()
    }

    /// A lock that has to be held; `None` when it was not given.
    pub(super) fn lock_held(&self, name: &str) -> Result<Option<LockHeld>, Problem> {
        let given = self.0.get(name);
        given
            .map(|value| boards::read_lock(name, value))
            .transpose()
    }

    /// A transaction's `compare`, `then` and `else`; none where they were not given.
    pub(super) fn transaction(&self) -> Result<Parts, Problem> {
        let operations = |name: &str| match self.0.get(name) {
            Some(value) => boards::read_operations(name, value),
            None => Ok(Vec::new()),
        };
        let compare = match self.0.get("compare") {
            Some(value) => boards::read_compares("compare", value)?,
            None => Vec::new(),
        };
        let (then, otherwise) = (operations("then")?, operations("else")?);
        boards::check_together(&compare, [&then, &otherwise])?;
        Ok((compare, then, otherwise))
    }

    /// An amount of a budget.
    pub(super) fn amount(&self, name: &str, least: u64) -> Result<u64, Problem> {
        match self.0.get(name) {
            Some(value) => amount::read_amount(name, value, least),
            None => Err(Problem::invalid(name, "is required")),
        }
    }

    /// Text of another form; `None` when it was not given.
    pub(super) fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|error: T::Err| Problem::invalid(name, error.to_string()))
            })
            .transpose()
    }

    /// The agent in the required field `agent_id`.
    pub(super) fn agent(&self) -> Result<AgentId, Problem> {
        self.message_text("agent_id")
            .parse()
            .map_err(|_| Problem::invalid("agent_id", AgentId::EXPECTED))
    }
}

/// JSON has one kind of number: 300.0 is as whole as 300.
fn whole(value: &Value) -> Option<u32> {
    if let Some(number) = value.as_u64() {
        return u32::try_from(number).ok();
    }
    let number = value.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be whole and in range"
    )]
    let whole = (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number))
        .then_some(number as u32);
    whole
}

fn parse<T: std::str::FromStr>(name: &str, text: &str) -> Result<(), Problem>
where
    T::Err: std::fmt::Display,
{
    text.parse::<T>()
        .map(|_| ())
        .map_err(|error| Problem::invalid(name, error.to_string()))
}

fn bounded(name: &str, text: &str, max: usize) -> Result<(), Problem> {
    if text.chars().all(is_blank) {
        return Err(Problem::invalid(
            name,
            format!("expected 1 to {max} characters, not all of them blank"),
        ));
    }
    let count = text.chars().count();
    if count > max {
        let detail = format!("has {count} characters, expected at most {max}");
        return Err(Problem::new(Reason::TooLarge, detail).at(name));
    }
    Ok(())
}

/// What is white space in Unicode, or to the regular expressions of ECMA-262
/// that schemas have.
fn is_blank(char: char) -> bool {
    char.is_whitespace() || char == '\u{feff}'
}

/// A caller's own text in an error is kept short.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        Field::required("agent_id", Kind::Agent, "who"),
        Field::required("why", Kind::Text(5), "why"),
        Field::optional("seconds", Kind::Whole(1, 60), "how long"),
        Field::optional("mode", Kind::OneOf(&["a", "b"]), "how"),
        Field::optional("token", Kind::Token, "what"),
    ];

    fn refused(arguments: &Value) -> (Reason, String) {
        let problem = Form::read(FIELDS, arguments.as_object().unwrap().clone()).unwrap_err();
        (problem.reason, problem.field.unwrap())
    }

    #[test]
    fn what_fits_is_read() {
        let arguments = json!({"agent_id": "a", "why": "äöüßé", "seconds": 60.0, "mode": null});
        let form = Form::read(FIELDS, arguments.as_object().unwrap().clone()).unwrap();
        assert_eq!(form.agent().unwrap().as_str(), "a");
        assert_eq!(form.message_number("seconds"), 60);
        assert_eq!(form.text("mode"), None);
        assert_eq!(form.message_text("mode"), "");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_field() {
        let invalid = |field: &str| (Reason::InvalidArgument, field.to_owned());
        assert_eq!(refused(&json!({"agent_id": "a"})), invalid("why"));
        assert_eq!(
            refused(&json!({"agent_id": "a", "why": null})),
            invalid("why")
        );
        assert_eq!(
            refused(&json!({"agent_id": "a", "why": " "})),
            invalid("why")
        );
        assert_eq!(
            refused(&json!({"agent_id": "", "why": "x"})),
            invalid("agent_id")
        );
        assert_eq!(
            refused(&json!({"agent_id": 7, "why": "x"})),
            invalid("agent_id")
        );
        assert_eq!(
            refused(&json!({"agent_id": "a", "why": "x", "y": 1})),
            invalid("y")
        );
        for seconds in [
            json!(0),
            json!(61),
            json!(-1),
            json!(1.5),
            json!("5"),
            json!(1e300),
        ] {
            assert_eq!(
                refused(&json!({"agent_id": "a", "why": "x", "seconds": seconds})),
                invalid("seconds")
            );
        }
        assert_eq!(
            refused(&json!({"agent_id": "a", "why": "x", "mode": "c"})),
            invalid("mode")
        );
    }

    #[test]
    fn what_is_too_long_is_called_that() {
        assert_eq!(
            refused(&json!({"agent_id": "a", "why": "123456"})),
            (Reason::TooLarge, "why".into())
        );
        let token = "x".repeat(MAX_TOKEN_LEN + 1);
        assert_eq!(
            refused(&json!({"agent_id": "a", "why": "x", "token": token})),
            (Reason::TooLarge, "token".into())
        );
    }

    #[test]
    fn capabilities_and_labels_are_read_in_every_form_and_refused_by_their_place() {
        const WIDER: &[Field] = &[
            Field::optional("capabilities", Kind::Capabilities, "what"),
            Field::optional("labels", Kind::Labels, "which"),
            Field::optional("endpoint", Kind::Endpoint, "where"),
            Field::optional("live_only", Kind::Flag, "how"),
        ];
        let read = |arguments: Value| Form::read(WIDER, arguments.as_object().unwrap().clone());
        let form = read(json!({
            "capabilities": ["a.b", "c@1", {"name": "d", "version": "2", "attributes": {"k": "v"}}],
            "labels": {"region": "eu"},
            "live_only": true,
        }))
        .unwrap();
        let names: Vec<String> = form
            .capabilities("capabilities")
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["a.b", "c@1", "d@2"]);
        assert_eq!(form.labels("labels").unwrap()["region"], "eu");
        assert!(form.flag("live_only"));
        for (bad, field) in [
            (json!({"capabilities": "a"}), "capabilities"),
            (json!({"capabilities": ["a", "b c"]}), "capabilities[1]"),
            (json!({"capabilities": [1]}), "capabilities[0]"),
            (json!({"capabilities": [{"nam": "a"}]}), "capabilities[0]"),
            (json!({"capabilities": ["a", "a"]}), "capabilities[1]"),
            (json!({"capabilities": vec!["a"; 40]}), "capabilities"),
            (json!({"labels": []}), "labels"),
            (json!({"labels": {"a": 1}}), "labels"),
            (json!({"labels": {"a b": "c"}}), "labels"),
            (json!({"endpoint": "file:///etc/passwd"}), "endpoint"),
            (json!({"live_only": "yes"}), "live_only"),
        ] {
            let problem = read(bad.clone()).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field), "{bad}");
        }
    }

    #[test]
    fn the_schema_tells_the_same() {
        let schema = schema(FIELDS);
        assert_eq!(schema["required"], json!(["agent_id", "why"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["seconds"]["maximum"], json!(60));
        for field in FIELDS {
            assert_eq!(
                schema["properties"][field.name]["description"],
                json!(field.description)
            );
        }
    }
}
