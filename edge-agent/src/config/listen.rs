//! `[listen]`: where clients find this edge.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Where clients find this edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Address and port of the HTTP faces; port 0 takes a free one.
    pub http: String,
    /// Path of the Unix socket with the same faces; unset: `edge.sock` in the
    /// data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: "127.0.0.1:3001".to_owned(),
            socket: None,
        }
    }
}

impl Listen {
    /// The address of the HTTP faces.
    ///
    /// # Errors
    /// When it is no address, or reaches beyond this host.
    pub fn http(&self) -> Result<SocketAddr, ConfigError> {
        let address: SocketAddr = self.http.parse().map_err(|_| {
            let problem = format!(
                "is `{}`, expected address and port, such as `127.0.0.1:3001`",
                self.http
            );
            ConfigError::value("listen.http", problem)
        })?;
        if !address.ip().is_loopback() {
            let problem = format!(
                "is `{address}`, which reaches beyond this host and would need TLS; \
                 use a loopback address such as `127.0.0.1:3001`"
            );
            return Err(ConfigError::value("listen.http", problem));
        }
        Ok(address)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.http()?;
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
    fn an_address_beyond_this_host_is_refused() {
        for http in [
            "0.0.0.0:3001",
            "192.0.2.1:3001",
            "[::]:3001",
            "localhost:3001",
            "3001",
        ] {
            let listen = Listen {
                http: http.to_owned(),
                socket: None,
            };
            assert!(listen.validate().is_err(), "{http}");
        }
        for http in ["127.0.0.1:0", "[::1]:3001", "127.9.9.9:1"] {
            let listen = Listen {
                http: http.to_owned(),
                socket: None,
            };
            assert!(listen.validate().is_ok(), "{http}");
        }
    }
}
