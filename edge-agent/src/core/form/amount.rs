//! Amounts of budgets: whole numbers, all of which every reader of JSON tells apart.

use authguardian_proto::reason::Problem;
use serde_json::{Value, json};

use crate::slices::MAX_AMOUNT;

pub(super) fn read_amount(name: &str, value: &Value, least: u64) -> Result<u64, Problem> {
    let bounds = least..=MAX_AMOUNT;
    whole(value)
        .filter(|amount| bounds.contains(amount))
        .ok_or_else(|| {
            let detail = format!("expected a whole number from {least} to {MAX_AMOUNT}");
            Problem::invalid(name, detail)
        })
}

pub(super) fn amount_schema(least: u64) -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("integer")),
        ("minimum", json!(least)),
        ("maximum", json!(MAX_AMOUNT)),
    ]
}

/// JSON has one kind of number: 10.0 is as whole as 10.
fn whole(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let number = value.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "checked to be whole and in range, where all numbers are exact"
    )]
    let whole = (number.fract() == 0.0 && (0.0..=MAX_AMOUNT as f64).contains(&number))
        .then_some(number as u64);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::exact;

    fn read(text: &str, least: u64) -> Option<u64> {
        let value = exact(text).unwrap();
        match read_amount("tokens", &value, least) {
            Ok(amount) => Some(amount),
            Err(problem) => {
                assert_eq!(problem.field.as_deref(), Some("tokens"), "{text}");
                None
            }
        }
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        for (text, amount) in [
            ("1", 1),
            ("10.0", 10),
            ("1e3", 1000),
            ("1.5e1", 15),
            ("9007199254740991", MAX_AMOUNT),
            ("9007199254740991.0", MAX_AMOUNT),
        ] {
            assert_eq!(read(text, 1), Some(amount), "{text}");
        }
        assert_eq!(
            (read("0", 0), read("-0", 0), read("0", 1)),
            (Some(0), Some(0), None)
        );
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "-1",
            "1.5",
            "0.1",
            "9007199254740992",
            "9007199254740993.0",
            "18446744073709551616",
            "1e300",
            "1e400",
            "\"10\"",
            "true",
            "[10]",
            "{}",
            "null",
        ] {
            assert_eq!(read(text, 0), None, "{text}");
        }
    }
}
