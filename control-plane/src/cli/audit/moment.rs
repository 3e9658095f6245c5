//! Moments as people write them: a time, or how long ago it was.

use std::time::Duration;

use prost_types::Timestamp;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::cli::value::{parse_span, timestamp};

/// A moment, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// At that time.
    At(OffsetDateTime),
    /// So long ago.
    Ago(Duration),
}

/// Reads `2026-11-24T12:00:00Z`, or an age such as `2h`.
pub(super) fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(Moment::At(time));
    }
    parse_span(text).map(Moment::Ago).map_err(|_| {
        "expected a time such as `2026-11-24T12:00:00Z`, or how long ago, such as `2h` or `7d`"
            .to_owned()
    })
}

impl Moment {
    /// As a message has it.
    pub(super) fn at(self, now: OffsetDateTime) -> Timestamp {
        match self {
            Self::At(time) => timestamp(time),
            // ages go up to 100 years
            Self::Ago(age) => timestamp(now - age),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_moment_is_a_time_or_an_age() {
        let noon = datetime!(2026-11-24 12:00 UTC);
        let seconds = |text| parse_moment(text).unwrap().at(noon).seconds;
        let noon = noon.unix_timestamp();
        assert_eq!(seconds("2026-11-24T12:00:00Z"), noon);
        assert_eq!(seconds("2026-11-24T14:00:00+02:00"), noon);
        assert_eq!(seconds("2h"), noon - 7200);
        assert_eq!(seconds("7d"), noon - 7 * 86_400);
        for bad in [
            "",
            "now",
            "2026-11-24",
            "2026-11-24T12:00:00",
            "-2h",
            "2 h",
            "h",
        ] {
            assert!(parse_moment(bad).is_err(), "{bad}");
        }
    }
}
