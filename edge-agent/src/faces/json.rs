//! Whether text is JSON that means one thing: RFC 8259 leaves open what an object
//! with the same name twice means, so that what one reader checks another may
//! not see. Such text is refused.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Array,
    Scalar,
}

/// What `serde_json` calls the members by which it hands on numbers and raw text
/// within itself: with such names an object would be taken for something else.
const RESERVED: &str = "$serde_json::private::";
/// Of numbers, which are objects of one such member to those who read them.
const NUMBER: &str = "$serde_json::private::Number";

/// Checks a text.
///
/// # Errors
/// What is wrong, and where: no JSON, deeper than 128 levels, not UTF-8, a name
/// that stands twice in an object, or that cannot be told from the reader's own.
pub(super) fn check(text: &[u8]) -> Result<Shape, serde_json::Error> {
    let shape = serde_json::from_slice(text)?;
    if may_be_reserved(text) && Names(text).any(is_reserved) {
        let detail = format!("names that begin with `{RESERVED}` cannot be used");
        return Err(Error::custom(detail));
    }
    Ok(shape)
}

/// Whether there may be a reserved name at all: however it is written, it begins so.
fn may_be_reserved(text: &[u8]) -> bool {
    let begins = |start: &[u8]| text.windows(start.len()).any(|window| window == start);
    begins(b"\"$") || begins(b"\"\\u0024")
}

fn is_reserved(name: &[u8]) -> bool {
    serde_json::from_slice::<String>(name).is_ok_and(|name| name.starts_with(RESERVED))
}

/// The names of all members in text that is JSON, with their quotes.
struct Names<'a>(&'a [u8]);

impl<'a> Iterator for Names<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let begin = self.0.iter().position(|byte| *byte == b'"')?;
            let from = &self.0[begin..];
            let mut end = 1;
            while *from.get(end)? != b'"' {
                end += if from[end] == b'\\' { 2 } else { 1 };
            }
            let (string, rest) = from.split_at(end + 1);
            self.0 = rest;
            if rest.trim_ascii_start().first() == Some(&b':') {
                return Some(string);
            }
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Check)
    }
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Check;

impl<'de> Visitor<'de> for Check {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        while items.next_element::<Shape>()?.is_some() {}
        Ok(Shape::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Shape, A::Error> {
        let mut names = BTreeSet::new();
        let mut is_number = false;
        while let Some(name) = members.next_key::<Name<'de>>()? {
            if names.contains(&name) {
                let shown: String = name.0.chars().take(40).collect();
                return Err(Error::custom(format!("`{shown}` stands twice")));
            }
            is_number |= name.0 == NUMBER;
            names.insert(name);
            members.next_value::<Shape>()?;
        }
        Ok(if is_number {
            Shape::Scalar
        } else {
            Shape::Object
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_means_one_thing_passes() {
        assert_eq!(
            check(br#"{"a":{"a":[1,-2,3.5,null,true,"x"]},"b":{"a":1}}"#).unwrap(),
            Shape::Object
        );
        assert_eq!(check(b" [ ] ").unwrap(), Shape::Array);
        assert_eq!(check(b"\"a\"").unwrap(), Shape::Scalar);
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_wherever_and_however_it_is_written() {
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"[{"b":{"a":1,"c":2,"a":3}}]"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            let error = check(twice.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("`a` stands twice at line 1"), "{error}");
        }
    }

    #[test]
    fn a_number_is_no_object_and_no_object_is_taken_for_one() {
        assert_eq!(check(b"-0.5e400").unwrap(), Shape::Scalar);
        for name in [
            r"$serde_json::private::Number",
            r"\u0024serde_json::private::Number",
            r"$serde_json\u003a:private::RawValue",
        ] {
            for text in [
                format!(r#"{{"{name}" : "5"}}"#),
                format!(r#"[{{"a\"":{{"{name}":1}}}}]"#),
            ] {
                let error = check(text.as_bytes()).unwrap_err().to_string();
                assert!(error.contains("cannot be used"), "{text}: {error}");
            }
        }
        let text = br#"{"a":"$serde_json::private::Number","$":1,"\\\"":"$"}"#;
        assert_eq!(check(text).unwrap(), Shape::Object);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for bad in [
            &b"{\"a\":}"[..],
            b"",
            b"\"\xff\"",
            b"{} {}",
            deep.as_bytes(),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
