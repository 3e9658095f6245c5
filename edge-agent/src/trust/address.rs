//! Where the edge of another machine listens for edges.

use std::{fmt, net::SocketAddr, str::FromStr};

use http::uri::Authority;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name with its port.
const MAX_LEN: usize = 260;

/// `host:port`; `[address]:port` for IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress(Authority);

/// Text that is no [`PeerAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `host:port`, such as `edge-2.example:3005` or `[2001:db8::2]:3005`")]
pub struct ParsePeerAddressError;

impl PeerAddress {
    /// Name or address, without brackets.
    pub fn host(&self) -> &str {
        self.0.host().trim_matches(['[', ']'])
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or_default()
    }

    /// The name in a TLS handshake.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host().to_owned()).ok()
    }
}

impl FromStr for PeerAddress {
    type Err = ParsePeerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LEN || text.contains('@') {
            return Err(ParsePeerAddressError);
        }
        let authority: Authority = text.parse().map_err(|_| ParsePeerAddressError)?;
        let has_port = authority.port_u16().is_some_and(|port| port != 0);
        let address = Self(authority);
        if !has_port || address.server_name().is_none() {
            return Err(ParsePeerAddressError);
        }
        Ok(address)
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        let text = address.to_string();
        // an address is always an authority
        Self(
            text.parse()
                .unwrap_or_else(|_| Authority::from_static("127.0.0.1:0")),
        )
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Serialize for PeerAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for (text, host, port) in [
            ("127.0.0.2:3005", "127.0.0.2", 3005),
            ("[2001:db8::2]:1", "2001:db8::2", 1),
            ("edge-2.example:3005", "edge-2.example", 3005),
        ] {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), text);
        }
        let socket: SocketAddr = "[::1]:7".parse().unwrap();
        assert_eq!(PeerAddress::from(socket).to_string(), "[::1]:7");
        for bad in [
            "",
            "edge",
            "edge:",
            "edge:0",
            ":1",
            "a@edge:1",
            "http://edge:1",
            "edge:1/x",
            "e d:1",
            "edge:65536",
        ] {
            assert!(bad.parse::<PeerAddress>().is_err(), "{bad}");
        }
    }
}
