//! Who writes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{MachineId, ParseIdError};

/// A replica that writes: a machine, and which of its lives. A machine that has
/// lost what it wrote, or was put back to an older disk, begins another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// Which machine.
    pub machine: MachineId,
    /// Counted from 1 by the control plane.
    pub incarnation: u32,
}

/// One write: the actor's `counter`th, counted from 1 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Whose.
    pub actor: Actor,
    /// Which.
    pub counter: u64,
}

impl Actor {
    /// What one looks like, for error messages.
    pub const EXPECTED: &'static str = "a machine and its incarnation: `mch_….1`";
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.machine, self.incarnation)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}

impl FromStr for Actor {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong = ParseIdError {
            expected: Self::EXPECTED,
        };
        let (machine, incarnation) = text.split_once('.').ok_or_else(|| wrong.clone())?;
        Ok(Self {
            machine: machine.parse().map_err(|_| wrong.clone())?,
            incarnation: incarnation.parse().map_err(|_| wrong)?,
        })
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
