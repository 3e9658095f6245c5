//! `[listen]`: where the control plane listens.

use std::{net::SocketAddr, path::PathBuf};

use authguardian_proto::network::Networks;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Addresses of the three listeners; port 0 takes a free one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Health, metrics and JWKS; beyond loopback only with TLS.
    pub http: SocketAddr,
    /// Admin API: gRPC over TLS, admin tokens or client certificates.
    pub admin_grpc: SocketAddr,
    /// Networks that admins may connect from; empty: all.
    pub admin_allowed_networks: Networks,
    /// Unix socket, 0600, at which root and the user of this process make the
    /// first admin (`bootstrap`); absolute. Empty: none.
    pub admin_socket: PathBuf,
    /// Edges: gRPC over TLS, machine certificates.
    pub edge_grpc: SocketAddr,
    /// Networks that edges may connect from; empty: all.
    pub edge_allowed_networks: Networks,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([127, 0, 0, 1], 3000)),
            admin_grpc: SocketAddr::from(([127, 0, 0, 1], 3003)),
            admin_allowed_networks: Networks::default(),
            admin_socket: PathBuf::new(),
            edge_grpc: SocketAddr::from(([127, 0, 0, 1], 3004)),
            edge_allowed_networks: Networks::default(),
        }
    }
}

impl Listen {
    pub(super) fn validate(&self, http_has_tls: bool) -> Result<(), ConfigError> {
        if !http_has_tls && !self.http.ip().to_canonical().is_loopback() {
            let message = format!(
                "`{}` reaches beyond this host and needs TLS: set `tls.http`, or use a loopback \
                 address such as `127.0.0.1:3000`",
                self.http
            );
            return Err(ConfigError::invalid("listen.http", message));
        }
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
        let error = listen.validate(false).unwrap_err().to_string();
        assert_eq!(
            error,
            "`listen.admin_socket`: expected an absolute path, or nothing"
        );
    }

    #[test]
    fn clear_text_beyond_loopback_is_refused() {
        let at = |http: &str| Listen {
            http: http.parse().unwrap(),
            ..Listen::default()
        };
        for beyond in ["0.0.0.0:3000", "192.0.2.1:3000", "[::]:3000"] {
            let error = at(beyond).validate(false).unwrap_err().to_string();
            assert!(error.starts_with("`listen.http`: "), "{error}");
            assert!(at(beyond).validate(true).is_ok());
        }
        assert!(at("[::1]:3000").validate(false).is_ok());
    }

    #[test]
    fn one_address_for_two_listeners_is_refused() {
        let listen = Listen {
            edge_grpc: Listen::default().http,
            ..Listen::default()
        };
        let error = listen.validate(false).unwrap_err().to_string();
        assert_eq!(
            error,
            "`listen.edge_grpc`: `127.0.0.1:3000` is taken by `listen.http`"
        );
    }
}
