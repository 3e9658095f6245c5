//! For how long a total lasts: windows begin and end where the calendar does, in UTC, by
//! the database's clock.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, Time, UtcOffset};

/// How windows follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// There is one, without an end.
    None,
    /// Each minute.
    Minute,
    /// Each hour.
    Hour,
    /// Each day.
    Day,
    /// Each month.
    Month,
}

/// One window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub begins_at: OffsetDateTime,
    /// The first moment of the next.
    pub ends_at: OffsetDateTime,
}

impl Window {
    /// All of them, by their stored numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Minute, Self::Hour, Self::Day, Self::Month];

    /// Its name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.as_str() == name)
    }

    /// The window that a moment is in; `None`: there is only one.
    pub fn at(self, now: OffsetDateTime) -> Option<Span> {
        let now = now.to_offset(UtcOffset::UTC);
        let day = now.replace_time(Time::MIDNIGHT);
        let since = now - day;
        let of = |length: Duration| {
            let number = since.whole_seconds() / length.whole_seconds();
            let begins_at = day + Duration::seconds(number * length.whole_seconds());
            Span {
                begins_at,
                ends_at: begins_at + length,
            }
        };
        Some(match self {
            Self::None => return None,
            Self::Minute => of(Duration::MINUTE),
            Self::Hour => of(Duration::HOUR),
            Self::Day => of(Duration::DAY),
            Self::Month => {
                let begins_at = day - Duration::days(i64::from(day.day()) - 1);
                let days = begins_at.month().length(begins_at.year());
                Span {
                    begins_at,
                    ends_at: begins_at + Duration::days(i64::from(days)),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn windows_begin_and_end_with_the_calendar() {
        let now = datetime!(2028-02-29 23:59:59.999 +1);
        for (window, begins_at, ends_at) in [
            (
                Window::Minute,
                datetime!(2028-02-29 22:59 UTC),
                datetime!(2028-02-29 23:00 UTC),
            ),
            (
                Window::Hour,
                datetime!(2028-02-29 22:00 UTC),
                datetime!(2028-02-29 23:00 UTC),
            ),
            (
                Window::Day,
                datetime!(2028-02-29 0:00 UTC),
                datetime!(2028-03-01 0:00 UTC),
            ),
            (
                Window::Month,
                datetime!(2028-02-01 0:00 UTC),
                datetime!(2028-03-01 0:00 UTC),
            ),
        ] {
            assert_eq!(window.at(now), Some(Span { begins_at, ends_at }));
            assert_eq!(Window::parse(window.as_str()), Some(window));
        }
        assert_eq!(Window::None.at(now), None);
    }

    proptest! {
        #[test]
        fn each_moment_is_in_one_window(seconds in 0..4_102_444_800_i64, kind in 1..5_usize) {
            let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let window = Window::ALL[kind];
            let span = window.at(now).unwrap();
            prop_assert!(span.begins_at <= now && now < span.ends_at);
            prop_assert_eq!(window.at(span.begins_at), Some(span));
            let next = window.at(span.ends_at).unwrap();
            prop_assert_eq!(next.begins_at, span.ends_at);
            prop_assert_eq!(window.at(span.ends_at - Duration::NANOSECOND), Some(span));
        }
    }
}
