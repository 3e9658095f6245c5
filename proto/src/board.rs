//! What boards, their keys and values are like, for whoever checks them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{blackboard::v1 as pb, ids::ParseIdError};

/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 512;

/// Most bytes of a value, as JSON text.
pub const MAX_VALUE_BYTES: usize = 256 * 1024;

/// Most bytes of all keys and values of a transaction together.
pub const MAX_TRANSACTION_BYTES: usize = 1024 * 1024;

/// Most comparisons, and most operations of either list, of a transaction.
pub const MAX_OPERATIONS: usize = 128;

/// Longest life of an entry that ends by itself, in seconds.
pub const MAX_TTL_SECONDS: u32 = 365 * 86_400;

/// Longest life of a lock that nobody renews, in seconds.
pub const MAX_LOCK_SECONDS: u32 = 86_400;

/// How deep arrays and objects of a value may be in each other: readers of JSON give
/// up at 128, and answers have the value some levels down.
pub const MAX_DEPTH: usize = 120;

/// What a board promises. Ordered: the most last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Merged; written and read also where the control plane is away.
    Eventual,
    /// Ordered; nobody reads older than what he has seen.
    Session,
    /// Linearizable.
    Strong,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Eventual, Self::Session, Self::Strong];

    /// The stable name; also that of the built-in board of this level.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Session => "session",
            Self::Strong => "strong",
        }
    }

    /// As stored: 0, 1 or 2.
    pub const fn number(self) -> i16 {
        match self {
            Self::Eventual => 0,
            Self::Session => 1,
            Self::Strong => 2,
        }
    }

    /// Reads the stored form.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// Reads the message's form; `None` for `UNSPECIFIED` and unknown values.
    pub fn from_proto(level: i32) -> Option<Self> {
        match pb::Level::try_from(level).ok()? {
            pb::Level::Unspecified => None,
            pb::Level::Eventual => Some(Self::Eventual),
            pb::Level::Session => Some(Self::Session),
            pb::Level::Strong => Some(Self::Strong),
        }
    }

    /// The message's form.
    pub const fn to_proto(self) -> pb::Level {
        match self {
            Self::Eventual => pb::Level::Eventual,
            Self::Session => pb::Level::Session,
            Self::Strong => pb::Level::Strong,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key of a board: 1 to [`MAX_KEY_BYTES`] bytes of text without NUL. Ordered
/// by its bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Key(Box<str>);

impl Key {
    /// What a right one looks like, for error messages.
    pub const EXPECTED: &'static str = "1 to 512 bytes of text without NUL";

    /// The checked text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if (1..=MAX_KEY_BYTES).contains(&text.len()) && !text.contains('\0') {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError {
                expected: Self::EXPECTED,
            })
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Whether arrays and objects of a JSON text are in each other no deeper than
/// [`MAX_DEPTH`]. The text need not be valid.
pub fn is_shallow(json: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_reads_back_and_promises_more_than_the_one_before() {
        for one in Level::ALL {
            assert_eq!(Level::from_number(one.number()), Some(one));
            assert_eq!(Level::from_proto(one.to_proto().into()), Some(one));
            assert_eq!(one.as_str(), one.to_string());
        }
        assert!(Level::Eventual < Level::Session && Level::Session < Level::Strong);
        assert_eq!(Level::from_number(3), None);
        assert_eq!(Level::from_proto(0), None);
    }

    #[test]
    fn any_text_without_nul_is_a_key_up_to_its_bound() {
        for good in ["a", " ", "a/b \"c\"", "🦀", "%2F", &"k".repeat(512)] {
            assert_eq!(good.parse::<Key>().unwrap().as_str(), good);
        }
        for bad in ["", "a\0b", &"k".repeat(513), &"é".repeat(257)] {
            assert!(bad.parse::<Key>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn depth_counts_what_is_open_outside_of_strings() {
        assert!(is_shallow(&format!(
            "{}{}",
            "[".repeat(MAX_DEPTH),
            "]".repeat(MAX_DEPTH)
        )));
        assert!(!is_shallow(&"[".repeat(MAX_DEPTH + 1)));
        assert!(is_shallow(&format!(
            "\"{}\\\"{}\"",
            "[".repeat(200),
            "{".repeat(200)
        )));
        assert!(is_shallow(&"[],".repeat(500)));
    }
}
