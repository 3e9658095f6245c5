//! What agents can do, how it is asked for, and the terms that an index finds it by.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    reason::{Problem, Reason},
    registry::v1 as pb,
};

/// Most capabilities of one agent.
pub const MAX_CAPABILITIES: usize = 32;

/// Most bytes that an agent's capabilities may have in all, as JSON: they go
/// into records that edges keep by the thousand.
pub const MAX_BYTES: usize = 16 * 1024;

/// Most attributes of one capability, and most labels of one agent.
pub const MAX_ATTRIBUTES: usize = 16;

const MAX_NAME: usize = 128;
const MAX_SEGMENTS: usize = 8;
const MAX_VERSION: usize = 32;
const MAX_KEY: usize = 63;
const MAX_LABEL_VALUE: usize = 128;
const MAX_ATTRIBUTE_VALUE: usize = 256;

/// What separates namespaces from each other and from the name.
const SEPARATORS: [char; 3] = ['.', '/', ':'];

const EXPECTED_NAME: &str = "expected 1 to 8 parts of `A-Z a-z 0-9 _ -`, separated by `.`, `/` or `:`, at most 128 characters, such as `finance.invoices.read`";
const EXPECTED_VERSION: &str =
    "expected 1 to 32 of `A-Z a-z 0-9 . _ - +`, a letter or digit first and last, such as `1.2`";

/// Something that an agent can do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Capability {
    /// Namespaces and a name.
    pub name: String,
    /// Which version of it, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Text that is no capability, or none that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseCapabilityError(&'static str);

impl FromStr for Capability {
    type Err = ParseCapabilityError;

    /// Reads `name` or `name@version`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, version) = split(text);
        let capability = Self {
            name: name.to_owned(),
            version: version.map(str::to_owned),
            attributes: BTreeMap::new(),
        };
        capability.check_form()?;
        Ok(capability)
    }
}

/// Unchecked, as whoever has checked it says it.
impl From<pb::Capability> for Capability {
    fn from(message: pb::Capability) -> Self {
        Self {
            name: message.name,
            version: (!message.version.is_empty()).then_some(message.version),
            attributes: message.attributes.into_iter().collect(),
        }
    }
}

impl fmt::Display for Capability {
    /// `name` or `name@version`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

impl Capability {
    /// Reads a message's capability, `field` being its place in the request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` or `TOO_LARGE` with the field at fault.
    pub fn from_message(message: pb::Capability, field: &str) -> Result<Self, Problem> {
        let capability = Self::from(message);
        capability
            .check_form()
            .map_err(|error| Problem::invalid(field, error.to_string()))?;
        check_pairs(&capability.attributes, MAX_ATTRIBUTE_VALUE, || {
            format!("{field}.attributes")
        })?;
        Ok(capability)
    }

    /// As a message.
    pub fn to_message(&self) -> pb::Capability {
        pb::Capability {
            name: self.name.clone(),
            version: self.version.clone().unwrap_or_default(),
            attributes: self.attributes.clone().into_iter().collect(),
        }
    }

    /// Everything that finds it: each namespace with the separator behind it,
    /// the name, and with the version each part of that. Every
    /// [`CapabilityQuery`] but `*` is one of these.
    pub fn terms(&self) -> Vec<String> {
        let separators = self.name.match_indices(SEPARATORS);
        let mut terms: Vec<String> = separators
            .map(|(at, _)| self.name[..=at].to_owned())
            .collect();
        terms.push(self.name.clone());
        if let Some(version) = &self.version {
            let dots = version.match_indices('.');
            terms.extend(dots.map(|(at, _)| format!("{}@{}", self.name, &version[..=at])));
            terms.push(format!("{}@{version}", self.name));
        }
        terms
    }

    fn check_form(&self) -> Result<(), ParseCapabilityError> {
        if !is_name(&self.name) {
            return Err(ParseCapabilityError(EXPECTED_NAME));
        }
        match &self.version {
            Some(version) if !is_version(version) => Err(ParseCapabilityError(EXPECTED_VERSION)),
            _ => Ok(()),
        }
    }
}

/// Reads the capabilities of a request's field `capabilities`.
///
/// # Errors
/// `INVALID_ARGUMENT` or `TOO_LARGE` with the field at fault, such as
/// `capabilities[2]`.
pub fn from_messages(messages: Vec<pb::Capability>) -> Result<Vec<Capability>, Problem> {
    if messages.len() > MAX_CAPABILITIES {
        let detail = format!(
            "has {} capabilities, expected at most {MAX_CAPABILITIES}",
            messages.len()
        );
        return Err(Problem::new(Reason::TooLarge, detail).at("capabilities"));
    }
    let mut read: Vec<Capability> = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let field = format!("capabilities[{index}]");
        let capability = Capability::from_message(message, &field)?;
        let twice = |other: &Capability| {
            (&other.name, &other.version) == (&capability.name, &capability.version)
        };
        if read.iter().any(twice) {
            let detail = format!("`{capability}` is there twice");
            return Err(Problem::invalid(&field, detail));
        }
        read.push(capability);
    }
    let bytes = serde_json::to_vec(&read).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_BYTES {
        let detail = format!("are more than {MAX_BYTES} bytes of JSON in all");
        return Err(Problem::new(Reason::TooLarge, detail).at("capabilities"));
    }
    Ok(read)
}

/// Checks an agent's labels, or those that it shall have.
///
/// # Errors
/// `INVALID_ARGUMENT` or `TOO_LARGE` at `labels`.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Problem> {
    check_pairs(labels, MAX_LABEL_VALUE, || "labels".to_owned())
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CapabilityQuery {
    /// Anything: `*`.
    Any,
    /// This term of a capability: the whole of its name, of name and version, or
    /// what either begins with up to a separator.
    Term(String),
}

impl FromStr for CapabilityQuery {
    type Err = ParseCapabilityError;

    /// Reads `name`, `name@version`, `namespace.*`, `name@1.*` or `*`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some(below) = text.strip_suffix('*') else {
            return text
                .parse()
                .map(|asked: Capability| Self::Term(asked.to_string()));
        };
        let wrong = ParseCapabilityError(
            "expected a capability, or `*` behind a separator, such as `finance.*` or `finance.invoices@1.*`",
        );
        // what stands before the star has to be the beginning of something right
        match split(below) {
            (name, Some(version)) => {
                let version = version.strip_suffix('.').ok_or(wrong)?;
                format!("{name}@{version}").parse::<Capability>()?;
            }
            (name, None) => {
                let name = name.strip_suffix(SEPARATORS).ok_or(wrong)?;
                name.parse::<Capability>()?;
            }
        }
        Ok(Self::Term(below.to_owned()))
    }
}

impl fmt::Display for CapabilityQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Term(term) if term.ends_with(SEPARATORS) => write!(f, "{term}*"),
            Self::Term(term) => f.write_str(term),
        }
    }
}

impl CapabilityQuery {
    /// The one of [`Capability::terms`] that finds it; `None`: all agents.
    pub fn term(&self) -> Option<&str> {
        match self {
            Self::Any => None,
            Self::Term(term) => Some(term),
        }
    }

    /// Whether an agent of these capabilities is asked for.
    pub fn matches(&self, capabilities: &[Capability]) -> bool {
        match self {
            Self::Any => true,
            Self::Term(term) => capabilities.iter().any(|capability| {
                let whole = capability.to_string();
                if term.ends_with(SEPARATORS) {
                    whole.starts_with(term.as_str())
                } else {
                    whole == *term || capability.name == *term
                }
            }),
        }
    }
}

/// Name and version.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    name.len() <= MAX_NAME
        && name.split(SEPARATORS).count() <= MAX_SEGMENTS
        && name.split(SEPARATORS).all(is_part)
}

fn is_version(version: &str) -> bool {
    let ends = [version.bytes().next(), version.bytes().next_back()];
    version.len() <= MAX_VERSION
        && ends
            .iter()
            .all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
        && version
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b))
}

fn check_pairs(
    pairs: &BTreeMap<String, String>,
    max_value: usize,
    field: impl Fn() -> String,
) -> Result<(), Problem> {
    if pairs.len() > MAX_ATTRIBUTES {
        let detail = format!(
            "has {} members, expected at most {MAX_ATTRIBUTES}",
            pairs.len()
        );
        return Err(Problem::new(Reason::TooLarge, detail).at(field()));
    }
    for (key, value) in pairs {
        let is_key = (1..=MAX_KEY).contains(&key.len())
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
        if !is_key {
            let detail = format!("has a key that is not 1 to {MAX_KEY} of `A-Z a-z 0-9 . _ - /`");
            return Err(Problem::invalid(field(), detail));
        }
        if value.chars().count() > max_value || value.chars().any(char::is_control) {
            let detail = format!(
                "`{key}` has a value that is longer than {max_value} characters, or has control characters"
            );
            return Err(Problem::invalid(field(), detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn capability(text: &str) -> Capability {
        text.parse().unwrap()
    }

    #[test]
    fn a_capability_is_found_by_its_namespaces_its_name_and_its_version() {
        assert_eq!(
            capability("finance.invoices/read@1.2.0").terms(),
            [
                "finance.",
                "finance.invoices/",
                "finance.invoices/read",
                "finance.invoices/read@1.",
                "finance.invoices/read@1.2.",
                "finance.invoices/read@1.2.0",
            ]
        );
        assert_eq!(capability("analysis").terms(), ["analysis"]);
    }

    #[test]
    fn what_is_no_capability_is_refused() {
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a@",
            "a@.1",
            "a@1.",
            "a@1 2",
            "é",
            "a*",
            "a@1@2",
            "a.b.c.d.e.f.g.h.i",
            &"a".repeat(129),
            &format!("a@{}", "1".repeat(33)),
        ] {
            assert!(bad.parse::<Capability>().is_err(), "{bad:?}");
        }
        for bad in [
            "", "**", "a*", "a.*.b", "a.**", ".*", "@*", "a@*", "a@1*", "a..*", "*.a",
        ] {
            assert!(bad.parse::<CapabilityQuery>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_query_reads_back_and_matches_what_it_says() {
        let has = [capability("finance.invoices@1.2"), capability("mail")];
        for (query, fits) in [
            ("*", true),
            ("finance.*", true),
            ("finance.invoices", true),
            ("finance.invoices@1.2", true),
            ("finance.invoices@1.*", true),
            ("mail", true),
            ("finance", false),
            ("finance.invoices.*", false),
            ("finance.invoices@1.3", false),
            ("finance.invoices@1", false),
            ("mail@1.*", false),
            ("fin", false),
        ] {
            let read: CapabilityQuery = query.parse().unwrap();
            assert_eq!(read.to_string(), query);
            assert_eq!(read.matches(&has), fits, "{query}");
        }
        assert!(CapabilityQuery::Any.matches(&[]));
    }

    #[test]
    fn a_list_is_refused_by_the_place_that_is_wrong() {
        let message = |name: &str| pb::Capability {
            name: name.into(),
            ..Default::default()
        };
        let refused = |list: Vec<pb::Capability>| from_messages(list).unwrap_err();
        let problem = refused(vec![message("a"), message("a b")]);
        assert_eq!(problem.field.as_deref(), Some("capabilities[1]"));
        let problem = refused(vec![message("a"), message("b"), message("a")]);
        assert_eq!(problem.field.as_deref(), Some("capabilities[2]"));
        let problem = refused((0..33).map(|n| message(&format!("a{n}"))).collect());
        assert_eq!(
            (problem.reason, problem.field.as_deref()),
            (Reason::TooLarge, Some("capabilities"))
        );
        let long = |n: u32| pb::Capability {
            attributes: (0..16).map(|m| (m.to_string(), "x".repeat(256))).collect(),
            ..message(&format!("a{n}"))
        };
        let problem = refused((0..5).map(long).collect());
        assert_eq!(problem.reason, Reason::TooLarge);
        let mut odd = message("a");
        odd.attributes.insert("a b".into(), String::new());
        let problem = refused(vec![odd]);
        assert_eq!(problem.field.as_deref(), Some("capabilities[0].attributes"));
    }

    #[test]
    fn labels_are_bounded() {
        let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert!(check_labels(&labels("region/eu", "é b")).is_ok());
        for (key, value) in [
            ("", "x"),
            ("a=b", "x"),
            ("a", "x\0"),
            ("a", &"x".repeat(129)),
        ] {
            let problem = check_labels(&labels(key, value)).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("labels"));
        }
    }

    proptest! {
        #[test]
        fn a_capability_is_matched_by_exactly_the_queries_of_its_terms(
            name in "[ab]([./:][ab]){0,3}(@[12]([.][12]){0,2})?",
            query in "([ab]([./:][ab]){0,3}(@[12]([.][12]){0,2})?|([ab][./:]){1,3}[*]|[ab]([./:][ab]){0,2}@([12][.]){1,2}[*])",
        ) {
            let has = capability(&name);
            let query: CapabilityQuery = query.parse().unwrap();
            let by_term = has.terms().iter().any(|term| Some(term.as_str()) == query.term());
            prop_assert_eq!(query.matches(&[has]), by_term);
        }

        #[test]
        fn nothing_that_is_typed_breaks_it(text in ".{0,40}") {
            if let Ok(capability) = text.parse::<Capability>() {
                prop_assert_eq!(capability.to_string(), text.clone());
            }
            if let Ok(query) = text.parse::<CapabilityQuery>() {
                prop_assert_eq!(query.to_string(), text);
            }
        }
    }
}
