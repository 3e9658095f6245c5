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

/// Checks a text.
///
/// # Errors
/// What is wrong, and where: no JSON, deeper than 128 levels, not UTF-8, a name
/// that stands twice in an object.
pub(super) fn check(text: &[u8]) -> Result<Shape, serde_json::Error> {
    serde_json::from_slice(text)
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Check)
    }
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
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
        while let Some(name) = members.next_key::<Name<'de>>()? {
            if names.contains(&name) {
                let shown: String = name.0.chars().take(40).collect();
                return Err(Error::custom(format!("`{shown}` stands twice")));
            }
            names.insert(name);
            members.next_value::<Shape>()?;
        }
        Ok(Shape::Object)
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
