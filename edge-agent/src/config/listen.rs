//! `[listen]`: where clients find this edge.

use std::{net::SocketAddr, path::PathBuf};

use authguardian_proto::network::Networks;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Where clients find this edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Address and port of the HTTP faces; port 0 takes a free one.
    pub http: String,
    /// Address and port where WebSocket is alone; port 0 takes a free one, empty
    /// is none.
    pub websocket: String,
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
            websocket: "127.0.0.1:3002".to_owned(),
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

    /// The address where WebSocket is alone, if it is anywhere.
    ///
    /// # Errors
    /// When it is no address.
    pub fn websocket(&self) -> Result<Option<SocketAddr>, ConfigError> {
        match self.websocket.as_str() {
            "" => Ok(None),
            text => address("listen.websocket", text).map(Some),
        }
    }

    pub(super) fn validate(&self, has_tls: bool) -> Result<(), ConfigError> {
        let listeners = [
            ("listen.http", Some(self.http()?)),
            ("listen.websocket", self.websocket()?),
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
            websocket: websocket.to_owned(),
            ..Listen::default()
        };
        assert_eq!(listen("").websocket().unwrap(), None);
        assert!(listen("").validate(false).is_ok());
        assert!(listen("127.0.0.1:0").validate(false).is_ok());
        let error = listen("0.0.0.0:3002").validate(false).unwrap_err();
        assert!(error.to_string().contains("`listen.websocket`"), "{error}");
        assert!(listen("3002").validate(true).is_err());
    }
}
