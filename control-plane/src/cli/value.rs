//! Values as people write them on the command line, and as they read them.

use std::time::Duration;

use authguardian_proto::rate::{RateLimit, TOOLS};
use prost_types::Timestamp;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Reads a trust or a risk: an integer 0 to 1000, or a decimal 0.0 to 1.0
/// with a point and at most three digits after it. `1` is one thousandth,
/// `1.0` is the whole.
pub(crate) fn parse_score(text: &str) -> Result<u32, String> {
    const EXPECTED: &str = "expected an integer 0 to 1000, or a decimal 0.0 to 1.0 with up to three digits after the point";
    let refused = || EXPECTED.to_owned();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let score = match text.split_once('.') {
        None if digits(text) => text.parse().map_err(|_| refused())?,
        Some((whole, fraction)) if digits(whole) && digits(fraction) && fraction.len() <= 3 => {
            let whole: u32 = whole.parse().map_err(|_| refused())?;
            let thousandths: u32 = format!("{fraction:0<3}").parse().map_err(|_| refused())?;
            whole
                .checked_mul(1000)
                .and_then(|whole| whole.checked_add(thousandths))
                .ok_or_else(refused)?
        }
        _ => return Err(refused()),
    };
    if score <= 1000 {
        Ok(score)
    } else {
        Err(refused())
    }
}

/// Reads a span of time: a number and `s`, `m`, `h` or `d`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let expected =
        || "expected a number and `s`, `m`, `h` or `d`, such as `12h` or `30d`".to_owned();
    let unit = text.chars().last().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    // beyond 100 years nobody means it, and dates would overflow
    match number.checked_mul(seconds) {
        Some(span @ 1..=3_153_600_000) => Ok(Duration::from_secs(span)),
        _ => Err(expected()),
    }
}

/// Reads a limit for one tool: `validate_token=50/100`.
pub(crate) fn parse_tool_rate(text: &str) -> Result<(String, RateLimit), String> {
    let (tool, limit) = text.split_once('=').ok_or_else(|| {
        "expected `TOOL=PER_SECOND/BURST`, such as `validate_token=50/100`".to_owned()
    })?;
    if !TOOLS.contains(&tool) {
        let tools = TOOLS.join(", ");
        return Err(format!(
            "there is no tool `{tool}`, expected one of {tools}"
        ));
    }
    let limit = limit.parse().map_err(|error| format!("{error}"))?;
    Ok((tool.to_owned(), limit))
}

/// A message's time as RFC 3339; `None` when unset.
pub(crate) fn rfc3339(time: Option<&Timestamp>) -> Option<String> {
    let time = time?;
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()?
        .format(&Rfc3339)
        .ok()
}

/// A time as a message has it.
pub(crate) fn timestamp(time: OffsetDateTime) -> Timestamp {
    let nanos = i32::try_from(time.nanosecond()).unwrap_or_default();
    Timestamp {
        seconds: time.unix_timestamp(),
        nanos,
    }
}

/// A time in a column: to the second.
pub(crate) fn short_time(time: Option<&str>) -> String {
    match time {
        Some(text) => match text.split_once('.') {
            Some((seconds, _)) => format!("{seconds}Z"),
            None => text.to_owned(),
        },
        None => "-".to_owned(),
    }
}

/// Text in a column; `-` for none.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

/// Text as an optional value: empty is none.
pub(crate) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The name of a message's enum value, without its prefix, in lower case.
pub(crate) fn enum_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_score_is_an_integer_or_a_decimal_with_a_point() {
        for (text, score) in [
            ("0", 0),
            ("800", 800),
            ("1000", 1000),
            ("0.8", 800),
            ("1.0", 1000),
            ("0.855", 855),
            ("1", 1),
        ] {
            assert_eq!(parse_score(text), Ok(score), "{text}");
        }
        for text in [
            "", "1001", "1.001", "2.0", ".8", "0.", "0.8555", "-1", "+1", "0,8", "80%", "1e3",
            "0.+1",
        ] {
            assert!(parse_score(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_has_a_unit() {
        assert_eq!(parse_span("30d"), Ok(Duration::from_hours(30 * 24)));
        assert_eq!(parse_span("90s"), Ok(Duration::from_secs(90)));
        for text in ["", "30", "d", "-1d", "0s", "1w", "999999999999d", "1ü"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_for_a_tool_names_one() {
        let (tool, limit) = parse_tool_rate("validate_token=5/10").unwrap();
        assert_eq!(
            (tool.as_str(), limit.to_string().as_str()),
            ("validate_token", "5/10")
        );
        for text in [
            "",
            "validate_token",
            "validate_tokens=1/2",
            "=1/2",
            "validate_token=0/1",
        ] {
            assert!(parse_tool_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_rfc_3339_and_short_in_columns() {
        let time = timestamp(OffsetDateTime::from_unix_timestamp_nanos(1_000_500_000_000).unwrap());
        let text = rfc3339(Some(&time)).unwrap();
        assert_eq!(text, "1970-01-01T00:16:40.5Z");
        assert_eq!(short_time(Some(&text)), "1970-01-01T00:16:40Z");
        assert_eq!(short_time(None), "-");
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(text in "\\PC{0,12}") {
            let _ = parse_score(&text);
            let _ = parse_span(&text);
        }
    }
}
