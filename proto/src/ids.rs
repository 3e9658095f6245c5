//! Every id, in one list. Ids of things that the system makes are UUIDv7
//! (RFC 9562), printed as a prefix and 22 base62 digits, so that they sort by
//! age; names that people choose are checked strings.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::base62;

/// An id or name that is not of its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct ParseIdError {
    /// What a right one looks like.
    pub expected: &'static str,
}

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// What its text form starts with.
            pub const PREFIX: &'static str = $prefix;

            /// The form as a regular expression (ECMA-262), for schemas.
            pub const PATTERN: &'static str =
                concat!("^", $prefix, "(?:[0-6][0-9A-Za-z]|7[0-9A-N])[0-9A-Za-z]{20}$");

            /// Takes a UUID as it comes from the generator or the database.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID, as stored.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, base62::encode(self.0.as_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .and_then(base62::decode::<16>)
                    .map(|bytes| Self(Uuid::from_bytes(bytes)))
                    .ok_or(ParseIdError {
                        expected: concat!("`", $prefix, "` and 22 characters of `0-9A-Za-z`"),
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

uuid_ids! {
    /// A grant or a denial.
    GrantId = "grt_";
    /// An enrolled machine.
    MachineId = "mch_";
    /// An API key of agents.
    ApiKeyId = "apk_";
    /// A one-time join token.
    JoinTokenId = "jtk_";
    /// An admin token.
    AdminTokenId = "adm_";
    /// A session of an API key at one machine.
    SessionId = "ses_";
    /// A key that the control plane signs with; the `kid` of its tokens.
    SigningKeyId = "key_";
    /// An amount that an agent has set aside of a budget.
    ReservationId = "rsv_";
}

macro_rules! name_ids {
    ($($(#[$doc:meta])* $name:ident: $check:ident, $expected:literal, $pattern:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// What a right one looks like, for error messages.
            pub const EXPECTED: &'static str = $expected;

            /// The form as a regular expression (ECMA-262), for schemas.
            pub const PATTERN: &'static str = $pattern;

            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if $check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(ParseIdError { expected: $expected })
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

name_ids! {
    /// An agent, as its owner named it.
    AgentId: is_path_name, "1 to 128 characters of `A-Z a-z 0-9 _ - . : /`, a letter or digit first",
        "^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$";
    /// A resource type, an agent to be called, or a board; the audience of its tokens.
    ResourceTypeName: is_resource_type, "1 to 64 characters of `A-Z 0-9 _`, a letter first, or `agent:` and an agent id, or `board:` and a board's name",
        "^(?:[A-Z][A-Z0-9_]{0,63}|agent:[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}|board:[a-z][a-z0-9_-]{0,63})$";
    /// A board.
    BoardName: is_board_name, "1 to 64 characters of `a-z 0-9 _ -`, a letter first", "^[a-z][a-z0-9_-]{0,63}$";
    /// What a budget is for.
    TaskId: is_path_name, "1 to 128 characters of `A-Z a-z 0-9 _ - . : /`, a letter or digit first",
        "^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$";
    /// A machine's unique name; a valid DNS name, since certificates carry it.
    MachineName: is_machine_name, "1 to 63 characters of `a-z 0-9 - .`, a letter or digit first and last",
        "^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$";
    /// A caller's id for one mutating request.
    RequestId: is_request_id, "1 to 128 printable ASCII characters without spaces", "^[!-~]{1,128}$";
}

fn is_path_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.:/".contains(&b))
}

/// What the audience of a grant to call an agent begins with.
const AGENT_AUDIENCE: &str = "agent:";

/// What the audience of a grant to use a board begins with.
const BOARD_AUDIENCE: &str = "board:";

impl ResourceTypeName {
    /// The audience of grants to call this agent.
    pub fn of_agent(agent: &AgentId) -> Self {
        Self(format!("{AGENT_AUDIENCE}{agent}").into())
    }

    /// The agent that grants for this call; `None` for a resource type.
    pub fn agent(&self) -> Option<AgentId> {
        self.0.strip_prefix(AGENT_AUDIENCE)?.parse().ok()
    }

    /// The audience of grants to use this board.
    pub fn of_board(board: &BoardName) -> Self {
        Self(format!("{BOARD_AUDIENCE}{board}").into())
    }

    /// The board that grants for this let use; `None` for anything else.
    pub fn board(&self) -> Option<BoardName> {
        self.0.strip_prefix(BOARD_AUDIENCE)?.parse().ok()
    }
}

fn is_board_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

fn is_resource_type(text: &str) -> bool {
    if let Some(agent) = text.strip_prefix(AGENT_AUDIENCE) {
        return is_path_name(agent);
    }
    if let Some(board) = text.strip_prefix(BOARD_AUDIENCE) {
        return is_board_name(board);
    }
    (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_uppercase()
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn is_machine_name(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (1..=63).contains(&text.len())
        && edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

fn is_request_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let grant = GrantId::from_uuid(Uuid::from_u128(7)).to_string();
        assert_eq!(grant, "grt_0000000000000000000007");
        assert!(grant.parse::<GrantId>().is_ok());
        assert!(grant.parse::<MachineId>().is_err());
        assert!("grt_7".parse::<GrantId>().is_err());
    }

    #[test]
    fn an_agent_is_an_audience_of_its_own() {
        let agent: AgentId = "team/data_analyst".parse().unwrap();
        let audience = ResourceTypeName::of_agent(&agent);
        assert_eq!(audience.as_str(), "agent:team/data_analyst");
        assert_eq!(audience.agent(), Some(agent));
        assert_eq!(audience.as_str().parse(), Ok(audience));
        assert_eq!("SAP_API".parse::<ResourceTypeName>().unwrap().agent(), None);
    }

    #[test]
    fn a_board_is_an_audience_of_its_own() {
        let board: BoardName = "plans-2".parse().unwrap();
        let audience = ResourceTypeName::of_board(&board);
        assert_eq!(audience.as_str(), "board:plans-2");
        assert_eq!((audience.board(), audience.agent()), (Some(board), None));
        assert_eq!(audience.as_str().parse(), Ok(audience));
        for bad in ["", "A", "1a", "a b", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<BoardName>().is_err(), "{bad:?}");
            assert!(format!("board:{bad}").parse::<ResourceTypeName>().is_err());
        }
    }

    #[test]
    fn names_are_checked() {
        assert!("data_analyst".parse::<AgentId>().is_ok());
        for bad in ["", "a b", "é", "-x", &"a".repeat(129), "a\0"] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad:?}");
        }
        assert!("SAP_API".parse::<ResourceTypeName>().is_ok());
        for bad in ["", "sap", "1A", "A-B", "agent:", "agent:-x", "AGENT:x"] {
            assert!(bad.parse::<ResourceTypeName>().is_err(), "{bad:?}");
        }
        assert!("build-7".parse::<MachineName>().is_ok());
        for bad in ["", "Build", "-a", "a-", "a_b"] {
            assert!(bad.parse::<MachineName>().is_err(), "{bad:?}");
        }
        assert!("a b".parse::<RequestId>().is_err());
    }

    proptest! {
        #[test]
        fn ids_survive_their_text_form(number: u128) {
            let id = ApiKeyId::from_uuid(Uuid::from_u128(number));
            prop_assert_eq!(id.to_string().parse::<ApiKeyId>(), Ok(id));
        }
    }
}
