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
        self.http.parse().map_err(|_| {
            let problem = format!(
                "is `{}`, expected address and port, such as `127.0.0.1:3001`",
                self.http
            );
            ConfigError::value("listen.http", problem)
        })
    }

    pub(super) fn validate(&self, has_tls: bool) -> Result<(), ConfigError> {
        let address = self.http()?;
        if !has_tls && !address.ip().to_canonical().is_loopback() {
            let problem = format!(
                "is `{address}`, which reaches beyond this host and needs TLS: set \
                 `tls.certificate_file` or `tls.machine_certificate`, or use a loopback address \
                 such as `127.0.0.1:3001`"
            );
            return Err(ConfigError::value("listen.http", problem));
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
}
