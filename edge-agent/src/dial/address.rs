//! Where control planes are.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use arc_swap::ArcSwap;
use rustls_pki_types::ServerName;
use tonic::transport::Uri;

/// Where a control plane listens for edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Text that is no [`ServerAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `https://host:port`")]
pub struct ParseServerAddressError;

impl FromStr for ServerAddress {
    type Err = ParseServerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| ParseServerAddressError)?;
        let plain = uri.scheme_str() == Some("https")
            && matches!(uri.path(), "/" | "")
            && uri.query().is_none();
        let host = uri
            .host()
            .map(|host| host.trim_matches(['[', ']']).to_owned());
        match (plain, host, uri.port_u16()) {
            (true, Some(host), Some(port)) if ServerName::try_from(host.as_str()).is_ok() => {
                Ok(Self { host, port })
            }
            _ => Err(ParseServerAddressError),
        }
    }
}

impl From<SocketAddr> for ServerAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

/// Where control planes are, in the order in which they are tried; clones are the
/// same list, which may be another the next time that somebody dials.
#[derive(Debug, Clone)]
pub struct Addresses(Arc<ArcSwap<Vec<ServerAddress>>>);

impl Addresses {
    /// These.
    pub fn new(addresses: &[ServerAddress]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(addresses.to_vec())))
    }

    /// Others from now on; whether they are others.
    pub fn set(&self, addresses: Vec<ServerAddress>) -> bool {
        let before = self.0.swap(Arc::new(addresses));
        *before != **self.0.load()
    }

    /// As they are now.
    pub fn get(&self) -> Arc<Vec<ServerAddress>> {
        self.0.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for text in [
            "https://127.0.0.1:3004",
            "https://[::1]:3004",
            "https://cp.example:443",
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "cp.example:443",
            "http://cp.example:443",
            "https://cp.example",
            "https://a:1/x",
        ] {
            assert!(bad.parse::<ServerAddress>().is_err(), "{bad}");
        }
    }
}
