//! Small translations that several services share.

use std::str::FromStr;

use authguardian_proto::common::v1 as pb;
use prost_types::Timestamp;
use time::OffsetDateTime;

use crate::{
    error::{Error, Result},
    events::Position,
};

/// Entries of a page when the caller says nothing.
const DEFAULT_PAGE: u32 = 100;

/// Most entries of a page.
const MAX_PAGE: u32 = 1000;

/// A time as a message.
pub fn timestamp(time: OffsetDateTime) -> Timestamp {
    Timestamp {
        seconds: time.unix_timestamp(),
        nanos: i32::try_from(time.nanosecond()).unwrap_or_default(),
    }
}

/// A time from a message.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the field.
pub fn time(field: &str, timestamp: Timestamp) -> Result<OffsetDateTime> {
    u32::try_from(timestamp.nanos)
        .ok()
        .and_then(|nanos| {
            OffsetDateTime::from_unix_timestamp(timestamp.seconds)
                .ok()?
                .replace_nanosecond(nanos)
                .ok()
        })
        .ok_or_else(|| Error::invalid(field, "expected a time between the years 1 and 9999"))
}

/// A checked id or name from a message.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the field.
pub fn parse<T>(field: &str, text: &str) -> Result<T>
where
    T: FromStr<Err = authguardian_proto::ids::ParseIdError>,
{
    text.parse()
        .map_err(|error: authguardian_proto::ids::ParseIdError| {
            Error::invalid(field, error.to_string())
        })
}

/// As [`parse`]; empty is `None`.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the field.
pub fn parse_optional<T>(field: &str, text: &str) -> Result<Option<T>>
where
    T: FromStr<Err = authguardian_proto::ids::ParseIdError>,
{
    if text.is_empty() {
        Ok(None)
    } else {
        parse(field, text).map(Some)
    }
}

/// Text of bounded length, in characters.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the field.
pub fn text(field: &str, text: String, min: usize, max: usize) -> Result<String> {
    let length = text.chars().count();
    if length < min || length > max || text.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            format!("expected {min} to {max} characters without control characters"),
        ));
    }
    Ok(text)
}

/// How many entries a page is to have: 0 means 100.
///
/// # Errors
/// `INVALID_ARGUMENT` (`page_size`) above 1,000.
pub fn page_size(asked: u32) -> Result<u32> {
    match asked {
        0 => Ok(DEFAULT_PAGE),
        1..=MAX_PAGE => Ok(asked),
        _ => Err(Error::invalid(
            "page_size",
            format!("expected 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}"),
        )),
    }
}

/// The token of the next page: the key of the last entry, when the page is full.
pub fn next_page_token<T>(items: &[T], page_size: u32, key: impl Fn(&T) -> String) -> String {
    match items.last() {
        Some(last) if items.len() >= page_size as usize => key(last),
        _ => String::new(),
    }
}

/// A position as a message.
pub fn position(position: Position) -> pb::Position {
    pb::Position {
        epoch: position.epoch.unsigned_abs(),
        revision: position.revision.unsigned_abs(),
    }
}
