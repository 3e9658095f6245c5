//! `[listen]`: where the control plane listens.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Addresses of the three listeners; port 0 takes a free one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Health, metrics and JWKS, in clear text: keep it inside.
    pub http: SocketAddr,
    /// Admin API: gRPC over TLS, admin tokens or client certificates.
    pub admin_grpc: SocketAddr,
    /// Unix socket, 0600, at which root and the user of this process make the
    /// first admin (`bootstrap`); absolute. Empty: none.
    pub admin_socket: PathBuf,
    /// Edges: gRPC over TLS, machine certificates.
    pub edge_grpc: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([127, 0, 0, 1], 3000)),
            admin_grpc: SocketAddr::from(([127, 0, 0, 1], 3003)),
            admin_socket: PathBuf::new(),
            edge_grpc: SocketAddr::from(([127, 0, 0, 1], 3004)),
        }
    }
}

impl Listen {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !self.admin_socket.as_os_str().is_empty() && !self.admin_socket.is_absolute() {
            return Err(ConfigError::invalid(
                "listen.admin_socket",
                "expected an absolute path, or nothing",
            ));
        }
        let named = [
            ("listen.http", self.http),
            ("listen.admin_grpc", self.admin_grpc),
            ("listen.edge_grpc", self.edge_grpc),
        ];
        for (at, (key, address)) in named.iter().enumerate() {
            if address.port() == 0 {
                continue;
            }
            if let Some((other, _)) = named[..at].iter().find(|(_, before)| before == address) {
                return Err(ConfigError::invalid(
                    key,
                    format!("`{address}` is taken by `{other}`"),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_socket_is_refused() {
        let listen = Listen {
            admin_socket: "admin.sock".into(),
            ..Listen::default()
        };
        let error = listen.validate().unwrap_err().to_string();
        assert_eq!(
            error,
            "`listen.admin_socket`: expected an absolute path, or nothing"
        );
    }

    #[test]
    fn one_address_for_two_listeners_is_refused() {
        let listen = Listen {
            edge_grpc: Listen::default().http,
            ..Listen::default()
        };
        let error = listen.validate().unwrap_err().to_string();
        assert_eq!(
            error,
            "`listen.edge_grpc`: `127.0.0.1:3000` is taken by `listen.http`"
        );
    }
}
