//! Writes of eventual boards, and how replicas tell each other of them.

use std::sync::Arc;

use uuid::Uuid;

use super::{Actor, Content, Dot, HybridTime, VectorClock, Version};
use crate::{
    blackboard::v1 as pb,
    board::{Key, MAX_VALUE_BYTES},
    ids::MachineId,
};

/// What somebody wrote into a key of an eventual board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// JSON text; `None`: the key was deleted.
    pub value: Option<Arc<str>>,
    /// Who: `agent:<id>` or `admin:adm_…`.
    pub writer: Arc<str>,
    /// When it ends by itself, in milliseconds since 1970.
    pub expires_at_millis: Option<u64>,
}

impl Content for Write {
    fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }
}

/// A message that is no version of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a version of a key with {0}")]
pub struct ParseVersionError(&'static str);

impl Actor {
    /// The message's form.
    pub fn to_proto(self) -> pb::Actor {
        pb::Actor {
            machine: self.machine.as_uuid().as_bytes().to_vec(),
            incarnation: self.incarnation,
        }
    }

    fn from_proto(actor: &pb::Actor) -> Option<Self> {
        Some(Self {
            machine: MachineId::from_uuid(Uuid::from_slice(&actor.machine).ok()?),
            incarnation: actor.incarnation,
        })
    }
}

impl Dot {
    /// The message's form.
    pub fn to_proto(self) -> pb::Dot {
        pb::Dot {
            actor: Some(self.actor.to_proto()),
            counter: self.counter,
        }
    }

    fn from_proto(dot: &pb::Dot) -> Option<Self> {
        Some(Self {
            actor: Actor::from_proto(dot.actor.as_ref()?)?,
            counter: Some(dot.counter).filter(|counter| *counter > 0)?,
        })
    }
}

impl VectorClock {
    fn from_proto(clock: &[pb::Dot]) -> Option<Self> {
        let seen = clock.iter().map(Dot::from_proto);
        seen.map(|dot| dot.map(|dot| (dot.actor, dot.counter)))
            .collect()
    }
}

impl Version<Write> {
    /// The message's form. `revision`: the board's that took it; 0: none yet.
    pub fn to_proto(&self, key: &Key, revision: u64) -> pb::Version {
        let seen = self.clock.iter();
        pb::Version {
            key: key.to_string(),
            dot: Some(self.dot.to_proto()),
            clock: seen
                .map(|(actor, counter)| Dot { actor, counter }.to_proto())
                .collect(),
            time: self.time.as_u64(),
            value: self.content.value.as_deref().map(str::to_owned),
            writer: self.content.writer.to_string(),
            expires_at_millis: self.content.expires_at_millis,
            revision,
        }
    }

    /// Reads the message's form.
    ///
    /// # Errors
    /// [`ParseVersionError`], naming what is wrong.
    pub fn from_proto(version: pb::Version) -> Result<(Key, Self), ParseVersionError> {
        let key: Key = version
            .key
            .parse()
            .map_err(|_| ParseVersionError("a `key` of 1 to 512 bytes of text without NUL"))?;
        let dot = version.dot.as_ref().and_then(Dot::from_proto);
        let dot = dot.ok_or(ParseVersionError("a `dot`: machine, incarnation, counter"))?;
        let clock = VectorClock::from_proto(&version.clock).filter(|clock| clock.has(dot));
        let clock = clock.ok_or(ParseVersionError("a `clock` that has seen its `dot`"))?;
        let value = version.value.as_deref();
        if value.is_some_and(|value| value.is_empty() || value.len() > MAX_VALUE_BYTES) {
            return Err(ParseVersionError("a `value` of up to 262,144 bytes"));
        }
        let read = Self {
            dot,
            clock,
            time: HybridTime::from_u64(version.time),
            content: Write {
                value: version.value.map(Into::into),
                writer: version.writer.into(),
                expires_at_millis: version.expires_at_millis,
            },
        };
        Ok((key, read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(value: Option<&str>) -> Version<Write> {
        let actor = |incarnation| Actor {
            machine: MachineId::from_uuid(Uuid::from_u128(7)),
            incarnation,
        };
        Version {
            dot: Dot {
                actor: actor(2),
                counter: 5,
            },
            clock: [(actor(1), 9), (actor(2), 5)].into_iter().collect(),
            time: HybridTime::new(1_700_000_000_000, 3),
            content: Write {
                value: value.map(Into::into),
                writer: "agent:data_analyst".into(),
                expires_at_millis: Some(1_700_000_060_000),
            },
        }
    }

    #[test]
    fn a_version_reads_back_from_its_message() {
        let key: Key = "a b".parse().unwrap();
        for version in [version(Some("1e400")), version(None)] {
            let message = version.to_proto(&key, 3);
            assert_eq!(message.revision, 3);
            assert_eq!(Version::from_proto(message), Ok((key.clone(), version)));
        }
    }

    #[test]
    fn a_message_that_is_no_version_is_refused_with_what_is_missing() {
        let key: Key = "a".parse().unwrap();
        let good = || version(Some("1")).to_proto(&key, 0);
        let refused = |message| Version::from_proto(message).unwrap_err().0;
        let message = pb::Version {
            key: String::new(),
            ..good()
        };
        assert!(refused(message).contains("`key`"));
        let message = pb::Version {
            dot: None,
            ..good()
        };
        assert!(refused(message).contains("`dot`"));
        let mut message = good();
        message.dot.as_mut().unwrap().counter = 0;
        assert!(refused(message).contains("`dot`"));
        let mut message = good();
        message.clock.pop();
        assert!(refused(message).contains("`clock`"));
        let mut message = good();
        message.clock[0].actor.as_mut().unwrap().machine.pop();
        assert!(refused(message).contains("`clock`"));
        for value in [String::new(), "x".repeat(MAX_VALUE_BYTES + 1)] {
            let message = pb::Version {
                value: Some(value),
                ..good()
            };
            assert!(refused(message).contains("`value`"));
        }
    }
}
