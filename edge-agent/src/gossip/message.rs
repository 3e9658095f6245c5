//! The messages, as JSON.

use std::sync::Arc;

use authguardian_proto::ids::MachineId;
use serde::{Deserialize, Serialize};

use crate::trust::{PeerAddress, Statement};

/// Longest message, bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// What one edge sends to another.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What the sender knows; `None`: an answer to a digest, and none is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Vec<Known>>,
    /// What the receiver lacks.
    #[serde(default)]
    pub news: Vec<Entry>,
}

/// How much is known of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Which.
    pub machine: MachineId,
    /// See [`Life`].
    pub incarnation: u64,
    /// See [`Life`].
    pub counter: u64,
    /// See [`Life`].
    pub records: String,
}

/// What is passed on of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its own word, a [`Life`].
    pub life: Statement,
    /// Its records; `None`: those that the receiver has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<Vec<Arc<str>>>,
}

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    /// Which it is.
    pub machine: MachineId,
    /// Higher with each start of its edge.
    pub incarnation: u64,
    /// Higher each time that it says this.
    pub counter: u64,
    /// The control plane's time as the machine knows it, seconds since 1970.
    pub at: i64,
    /// Fingerprint of its records.
    pub records: String,
    /// Where it listens for other edges.
    pub peer_address: PeerAddress,
}

impl Life {
    /// What has to rise.
    pub fn order(&self) -> (u64, u64) {
        (self.incarnation, self.counter)
    }
}

impl Known {
    /// What has to rise.
    pub fn order(&self) -> (u64, u64) {
        (self.incarnation, self.counter)
    }
}
