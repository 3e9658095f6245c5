//! Where a call came from, and how far that is trusted at most.

use serde::{Deserialize, Serialize};

use crate::common::v1 as pb;

/// Where a call came from. Ordered: a smaller zone is trusted less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Zone {
    /// Beyond every configured network.
    External,
    /// From a configured network.
    TrustedNetwork,
    /// Loopback, Unix socket or stdio.
    LocalMachine,
}

impl Zone {
    /// Upper bound of effective trust, 0 to 1000.
    pub const fn trust_limit(self) -> u32 {
        match self {
            Self::External => 500,
            Self::TrustedNetwork => 700,
            Self::LocalMachine => 900,
        }
    }

    /// The stable name, as in tokens, the database and the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::TrustedNetwork => "trusted_network",
            Self::LocalMachine => "local_machine",
        }
    }

    /// Reads the stable name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::External, Self::TrustedNetwork, Self::LocalMachine]
            .into_iter()
            .find(|zone| zone.as_str() == text)
    }

    /// Reads the message's form; `None` for `UNSPECIFIED` and unknown values.
    pub fn from_proto(zone: i32) -> Option<Self> {
        match pb::Zone::try_from(zone).ok()? {
            pb::Zone::Unspecified => None,
            pb::Zone::External => Some(Self::External),
            pb::Zone::TrustedNetwork => Some(Self::TrustedNetwork),
            pb::Zone::LocalMachine => Some(Self::LocalMachine),
        }
    }

    /// The message's form.
    pub const fn to_proto(self) -> pb::Zone {
        match self {
            Self::External => pb::Zone::External,
            Self::TrustedNetwork => pb::Zone::TrustedNetwork,
            Self::LocalMachine => pb::Zone::LocalMachine,
        }
    }
}
