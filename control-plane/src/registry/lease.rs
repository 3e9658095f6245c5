//! The lease of an edge on its machine.

use std::{fmt, str::FromStr};

use authguardian_proto::{ids::MachineId, liveness::Liveness};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{Error, Result};

/// Longest `host:port`: a DNS name, brackets, and five digits.
const MAX_ADDRESS: usize = 262;

/// `host:port` at which edges of other machines reach one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerAddress(String);

impl PeerAddress {
    /// Reads the field of a message; empty is `None`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`peer_address`).
    pub fn read(text: &str) -> Result<Option<Self>> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_address = || {
            let (host, port) = text.rsplit_once(':')?;
            let host = host
                .strip_prefix('[')
                .map_or(Some(host), |inner| inner.strip_suffix(']'))?;
            let named = rustls_pki_types::ServerName::try_from(host).is_ok();
            let port: u16 = port.parse().ok()?;
            (named && port > 0 && text.len() <= MAX_ADDRESS).then_some(())
        };
        match is_address() {
            Some(()) => Ok(Self(text.to_owned())),
            None => Err(Error::invalid(
                "peer_address",
                "expected `host:port`, or nothing",
            )),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An edge's lease, as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) machine: MachineId,
    /// 0: no process has begun yet.
    pub(super) incarnation: i64,
    /// Of the last heartbeat.
    pub(super) sequence: i64,
    pub(super) peer_address: Option<PeerAddress>,
    pub(super) seen_at: OffsetDateTime,
    /// As it was judged last.
    pub(super) liveness: Liveness,
}

impl Lease {
    /// Its edge is heard.
    pub(super) fn hear(&mut self, now: OffsetDateTime) {
        self.seen_at = self.seen_at.max(now);
        self.liveness = Liveness::Live;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in [
            "edge-7.example.org:3005",
            "192.0.2.7:3005",
            "[2001:db8::7]:1",
        ] {
            assert_eq!(PeerAddress::read(good).unwrap().unwrap().as_str(), good);
        }
        assert_eq!(PeerAddress::read("").unwrap(), None);
        for bad in [
            "edge-7",
            ":3005",
            "edge-7:",
            "edge-7:0",
            "edge-7:65536",
            "a b:1",
            "[::1:1",
            "http://a:1",
            "a/b:1",
            &format!("{}:1", "a".repeat(300)),
        ] {
            let refused = PeerAddress::read(bad).unwrap_err();
            assert_eq!(
                refused.problem().field.as_deref(),
                Some("peer_address"),
                "{bad}"
            );
        }
    }
}
