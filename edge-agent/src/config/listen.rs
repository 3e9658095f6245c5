//! `[listen]`: where clients find this edge.

use std::{net::SocketAddr, path::PathBuf};

use authguardian_proto::network::Networks;
use serde::{Deserialize, Serialize};

use super::ConfigError;

const HTTP: u16 = 3001;
const WEBSOCKET: u16 = 3002;

/// Where WebSocket is alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// There it has to be.
    At(SocketAddr),
    /// There it is if that is free: nobody has asked for it.
    Beside(SocketAddr),
    /// It is only among the other faces.
    Nowhere,
}

impl Alone {
    fn address(self) -> Option<SocketAddr> {
        match self {
            Self::At(address) | Self::Beside(address) => Some(address),
            Self::Nowhere => None,
        }
    }
}

/// Where clients find this edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Address and port of the HTTP faces; port 0 takes a free one.
    pub http: String,
    /// Address and port where WebSocket is alone; port 0 takes a free one, empty
    /// is nowhere. Unset: port 3002 beside 3001, a free one beside a free one,
    /// nowhere beside another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<String>,
    /// Networks whose clients the HTTP faces answer; empty: all. It is the
    /// client that counts, not a trusted proxy before it.
    pub allowed_networks: Networks,
    /// Path of the Unix socket with the same faces; unset: `edge.sock` in the
    /// data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: "127.0.0.1:3001".to_owned(),
            websocket: None,
            allowed_networks: Networks::default(),
            socket: None,
        }
    }
}

impl Listen {
    /// The address of the HTTP faces.
    ///
    /// # Errors
    /// When it is no address.
    pub fn http(&self) -> Result<SocketAddr, ConfigError> {
        address("listen.http", &self.http)
    }

    /// Where WebSocket is alone.
    ///
    /// # Errors
    /// When it is no address.
    pub fn websocket(&self) -> Result<Alone, ConfigError> {
        let beside = self.http()?;
        Ok(match self.websocket.as_deref() {
            Some("") => Alone::Nowhere,
            Some(text) => Alone::At(address("listen.websocket", text)?),
            None => match beside.port() {
                0 => Alone::Beside(beside),
                HTTP => Alone::Beside(SocketAddr::new(beside.ip(), WEBSOCKET)),
                _ => Alone::Nowhere,
            },
        })
    }

    pub(super) fn validate(&self, has_tls: bool) -> Result<(), ConfigError> {
        let listeners = [
            ("listen.http", Some(self.http()?)),
            ("listen.websocket", self.websocket()?.address()),
        ];
        for (key, address) in listeners {
            if let Some(address) = address.filter(|_| !has_tls) {
                is_loopback(key, address)?;
            }
        }
        match &self.socket {
            // sun_path has 108 bytes with its closing zero (unix(7)).
            Some(path) if path.as_os_str().len() > 107 => Err(ConfigError::value(
                "listen.socket",
                format!(
                    "is `{}`, longer than the 107 bytes of a socket path",
                    path.display()
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn address(key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        let problem = format!("is `{text}`, expected address and port, such as `127.0.0.1:3001`");
        ConfigError::value(key, problem)
    })
}

fn is_loopback(key: &'static str, address: SocketAddr) -> Result<(), ConfigError> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let problem = format!(
        "is `{address}`, which reaches beyond this host and needs TLS: set \
         `tls.certificate_file` or `tls.machine_certificate`, or use a loopback address \
         such as `127.0.0.1:3001`"
    );
    Err(ConfigError::value(key, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beyond_this_host_is_refused_without_tls() {
        let validate = |http: &str, has_tls| {
            let listen = Listen {
                http: http.to_owned(),
                ..Listen::default()
            };
            listen.validate(has_tls)
        };
        for beyond in ["0.0.0.0:3001", "192.0.2.1:3001", "[::]:3001"] {
            let error = validate(beyond, false).unwrap_err().to_string();
            assert!(error.contains("tls.machine_certificate"), "{error}");
            assert!(validate(beyond, true).is_ok(), "{beyond}");
        }
        for here in ["127.0.0.1:0", "[::1]:3001", "127.9.9.9:1"] {
            assert!(validate(here, false).is_ok(), "{here}");
        }
        for bad in ["localhost:3001", "3001"] {
            assert!(validate(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn websocket_alone_goes_by_the_same_rules_and_can_be_left_out() {
        let listen = |websocket: &str| Listen {
            websocket: Some(websocket.to_owned()),
            ..Listen::default()
        };
        assert_eq!(listen("").websocket().unwrap(), Alone::Nowhere);
        assert!(listen("").validate(false).is_ok());
        let free = "127.0.0.1:0".parse().unwrap();
        assert_eq!(listen("127.0.0.1:0").websocket().unwrap(), Alone::At(free));
        let error = listen("0.0.0.0:3002").validate(false).unwrap_err();
        assert!(error.to_string().contains("`listen.websocket`"), "{error}");
        assert!(listen("3002").validate(true).is_err());
    }

    #[test]
    fn unasked_websocket_is_beside_the_usual_port_and_beside_a_free_one() {
        let alone = |http: &str| {
            let listen = Listen {
                http: http.to_owned(),
                ..Listen::default()
            };
            listen.websocket().unwrap()
        };
        let beside = |text: &str| Alone::Beside(text.parse().unwrap());
        assert_eq!(alone("127.0.0.1:3001"), beside("127.0.0.1:3002"));
        assert_eq!(alone("[::1]:0"), beside("[::1]:0"));
        assert_eq!(alone("127.0.0.1:4001"), Alone::Nowhere);
    }
}
