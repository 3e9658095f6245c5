//! JSON as it was written: `serde_json` itself keeps the digits of a number, but
//! not how its exponent is written, and takes some objects for numbers.

use serde_json::{Map, Number, Value, value::RawValue};

/// Deeper values are not read: those of the control plane are bounded by it, and
/// those of clients before they come here.
const DEEPEST: u32 = 512;

/// Reads JSON text; of members with the same name the last counts.
///
/// # Errors
/// What is wrong with it.
pub fn exact(text: &str) -> Result<Value, serde_json::Error> {
    let text = serde_json::from_str::<&RawValue>(text)?.get();
    let mut reader = Reader { text, at: 0 };
    reader.value(DEEPEST)
}

/// In text that is known to be JSON, but for what is in its strings.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, deeper: u32) -> Result<Value, serde_json::Error> {
        let Some(deeper) = deeper.checked_sub(1) else {
            return Err(serde::de::Error::custom("too deep"));
        };
        Ok(match self.peek() {
            Some(b'{') => Value::Object(self.object(deeper)?),
            Some(b'[') => Value::Array(self.array(deeper)?),
            Some(b'"') => Value::String(self.string()?),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            // hidden from the documentation, but the one way to keep `1e400` from becoming `1e+400`
            _ => Value::Number(Number::from_string_unchecked(self.number().to_owned())),
        })
    }

    fn object(&mut self, deeper: u32) -> Result<Map<String, Value>, serde_json::Error> {
        let mut members = Map::new();
        self.at += 1;
        while !self.ends(b'}') {
            let name = self.string()?;
            self.skip(b':');
            members.insert(name, self.value(deeper)?);
        }
        Ok(members)
    }

    fn array(&mut self, deeper: u32) -> Result<Vec<Value>, serde_json::Error> {
        let mut items = Vec::new();
        self.at += 1;
        while !self.ends(b']') {
            items.push(self.value(deeper)?);
        }
        Ok(items)
    }

    fn string(&mut self) -> Result<String, serde_json::Error> {
        self.peek();
        let from = &self.text.as_bytes()[self.at..];
        let mut end = 1;
        while from.get(end).is_some_and(|byte| *byte != b'"') {
            end += if from[end] == b'\\' { 2 } else { 1 };
        }
        let string = self.rest(end + 1);
        self.at += string.len();
        serde_json::from_str(string)
    }

    fn number(&mut self) -> &'a str {
        let from = &self.text.as_bytes()[self.at..];
        let is_of_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
        let end = from.iter().position(|byte| !is_of_number(byte));
        let number = self.rest(end.unwrap_or(from.len()));
        self.at += number.len().max(1);
        number
    }

    fn word(&mut self, word: &str, value: Value) -> Value {
        self.at += word.len();
        value
    }

    /// Whether a list ends here; its end or a comma is passed over.
    fn ends(&mut self, end: u8) -> bool {
        self.skip(b',');
        let ends = self.peek().is_none_or(|next| next == end);
        self.at += usize::from(ends);
        ends
    }

    fn skip(&mut self, byte: u8) {
        self.at += usize::from(self.peek() == Some(byte));
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let from = self.text.as_bytes().get(self.at..)?;
        let blank = from.iter().take_while(|byte| byte.is_ascii_whitespace());
        self.at += blank.count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self, length: usize) -> &'a str {
        let end = self.at.saturating_add(length).min(self.text.len());
        self.text.get(self.at..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn text_comes_back_without_blanks_and_else_as_it_was() {
        for (text, told) in [
            ("1e400", "1e400"),
            ("-1.50E-07", "-1.50E-07"),
            ("-0", "-0"),
            ("12345678901234567890123", "12345678901234567890123"),
            (
                " { \"b\" : [ 1.10 , true,false ,null ] , \"a\" : { } } ",
                r#"{"b":[1.10,true,false,null],"a":{}}"#,
            ),
            (r#""\u00e9\ud83d\ude80\u0000\/\"""#, "\"é🚀\\u0000/\\\"\""),
            (
                r#"{"$serde_json::private::Number":"1"}"#,
                r#"{"$serde_json::private::Number":"1"}"#,
            ),
            ("[[],[[]],{\"\":\"\"}]", "[[],[[]],{\"\":\"\"}]"),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
        ] {
            assert_eq!(exact(text).unwrap().to_string(), told, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(600) + &"]".repeat(600);
        for text in ["", "{", "[1,]", "01", "\"\\ud800\"", "1 2", &deep] {
            assert!(exact(text).is_err(), "{text}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((".{0,6}", inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_reads_back(value in any_json()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(exact(&text).unwrap().to_string(), value.to_string());
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{},:\"\\\\0-9eE+. a-u-]{0,40}") {
            let read = exact(&text).is_ok();
            if read != serde_json::from_str::<Value>(&text).is_ok() {
                // only strings that are no text can differ
                prop_assert!(false, "{}", text);
            }
        }
    }
}
