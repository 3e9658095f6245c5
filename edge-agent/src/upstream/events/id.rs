//! The id of an event: where a reader has come to, as text.

use std::{fmt, str::FromStr};

use authguardian_proto::grant_token::Rev;

/// The one stream that events come from.
pub(super) const STREAM: &str = "grants";

/// Up to where a reader has heard everything: `stream:epoch.revision`, streams
/// separated by commas when there will be more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId(pub Rev);

impl EventId {
    /// The form as a regular expression (ECMA-262), for schemas.
    pub const PATTERN: &'static str = r"^grants:[0-9]{1,18}\.[0-9]{1,18}$";
}

/// Text that is no [`EventId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the id of an event, such as `grants:3.120`")]
pub struct ParseEventIdError;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STREAM}:{}.{}", self.0.epoch, self.0.revision)
    }
}

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (stream, position) = text.split_once(':')?;
            let (epoch, revision) = position.split_once('.')?;
            (stream == STREAM).then_some(())?;
            Some(Self(Rev {
                epoch: number(epoch)?,
                revision: number(revision)?,
            }))
        };
        read().ok_or(ParseEventIdError)
    }
}

/// The control plane counts below 2^63.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = text.parse().ok().filter(|_| is_plain)?;
    u64::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_its_own_form_is_read() {
        let id: EventId = "grants:3.120".parse().expect("an id");
        assert_eq!(
            id.0,
            Rev {
                epoch: 3,
                revision: 120
            }
        );
        for rubbish in [
            "",
            "grants",
            "grants:",
            "grants:3",
            "grants:3.",
            "grants:.1",
            "grants:+3.1",
            "grants:-3.1",
            "grants:3.1.2",
            "grants:3.1 ",
            " grants:3.1",
            "Grants:3.1",
            "identity:3.1",
            "grants:3.1,grants:3.1",
            "grants:1.9223372036854775808",
            "3.120",
            "grants:٣.1",
        ] {
            assert_eq!(
                rubbish.parse::<EventId>(),
                Err(ParseEventIdError),
                "{rubbish}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(epoch in 0..=i64::MAX as u64, revision in 0..=i64::MAX as u64) {
            let id = EventId(Rev { epoch, revision });
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            if let Ok(id) = text.parse::<EventId>() {
                prop_assert!(id.to_string().len() <= text.len());
            }
        }
    }
}
