//! `[peer]`: whether edges of other machines reach this one.

use std::net::SocketAddr;

use authguardian_proto::network::Networks;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::trust::PeerAddress;

/// Whether edges of other machines reach this one, over mutual TLS with the
/// machines' certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peer {
    /// Address and port to listen at; port 0 takes a free one, empty is nowhere.
    pub listen: String,
    /// `host:port` that others are told; empty: the address that is listened at.
    pub advertise: String,
    /// Networks besides loopback where the MCP servers of this machine's agents may be.
    pub endpoint_networks: Networks,
}

impl Peer {
    /// Where to listen; `None`: nowhere.
    ///
    /// # Errors
    /// When it is no address.
    pub fn listen(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        self.listen.parse().map(Some).map_err(|_| {
            let problem = format!(
                "is `{}`, expected address and port, such as `10.0.0.7:3005`, or nothing",
                self.listen
            );
            ConfigError::value("peer.listen", problem)
        })
    }

    /// What others are told, where it is not the address that is listened at.
    ///
    /// # Errors
    /// When it is no address.
    pub fn advertise(&self) -> Result<Option<PeerAddress>, ConfigError> {
        if self.advertise.is_empty() {
            return Ok(None);
        }
        self.advertise.parse().map(Some).map_err(|error| {
            let problem = format!("is `{}`: {error}", self.advertise);
            ConfigError::value("peer.advertise", problem)
        })
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let listen = self.listen()?;
        let advertised = self.advertise()?;
        match listen {
            Some(address) if address.ip().is_unspecified() && advertised.is_none() => {
                let problem = format!(
                    "is empty, but others cannot call at `{address}`: name `host:port` of this host"
                );
                Err(ConfigError::value("peer.advertise", problem))
            }
            None if advertised.is_some() => Err(ConfigError::value(
                "peer.listen",
                "is empty, but `peer.advertise` is not",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_an_address_that_they_can_call() {
        let validate = |listen: &str, advertise: &str| {
            let peer = Peer {
                listen: listen.to_owned(),
                advertise: advertise.to_owned(),
                ..Peer::default()
            };
            peer.validate().map_err(|error| error.to_string())
        };
        for (listen, advertise) in [
            ("", ""),
            ("127.0.0.2:0", ""),
            ("0.0.0.0:3005", "edge-2.example:3005"),
        ] {
            assert_eq!(validate(listen, advertise), Ok(()), "{listen} {advertise}");
        }
        for (listen, advertise, said) in [
            ("3005", "", "peer.listen"),
            ("0.0.0.0:3005", "", "peer.advertise"),
            ("[::]:3005", "", "peer.advertise"),
            ("127.0.0.2:3005", "edge-2", "peer.advertise"),
            ("", "edge-2:3005", "peer.listen"),
        ] {
            let error = validate(listen, advertise).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
