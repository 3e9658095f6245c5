//! The five ports of `dev`.

use std::net::{SocketAddr, TcpListener};

use authguardian_proto::reason::Problem;

use crate::{cli::failure::Failure, config::Listen};

/// Ports, from a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    /// Health, metrics, JWKS.
    pub http: u16,
    /// The edge's MCP and REST faces.
    pub edge_http: u16,
    /// The edge's MCP over WebSocket, alone.
    pub edge_ws: u16,
    /// gRPC for admins.
    pub admin_grpc: u16,
    /// gRPC for edges.
    pub edge_grpc: u16,
}

impl Ports {
    /// `base` and the four that follow; `base` is at most 65,531.
    pub(super) fn from(base: u16) -> Self {
        Self {
            http: base,
            edge_http: base + 1,
            edge_ws: base + 2,
            admin_grpc: base + 3,
            edge_grpc: base + 4,
        }
    }

    /// Where the control plane listens.
    pub(super) fn listen(self) -> Listen {
        Listen {
            http: Self::address(self.http),
            admin_grpc: Self::address(self.admin_grpc),
            edge_grpc: Self::address(self.edge_grpc),
            ..Listen::default()
        }
    }

    /// Loopback only.
    pub(super) fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Refuses to begin when a port is taken.
    pub(super) fn check(self) -> Result<(), Failure> {
        let named = [
            ("http", self.http),
            ("edge_http", self.edge_http),
            ("edge_ws", self.edge_ws),
            ("admin_grpc", self.admin_grpc),
            ("edge_grpc", self.edge_grpc),
        ];
        for (name, port) in named {
            if let Err(error) = TcpListener::bind(Self::address(port)) {
                let detail = format!(
                    "port {port} ({name}) cannot be used: {error}; choose five others with `--port-base N`"
                );
                return Err(Problem::invalid("port_base", detail).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_flag_that_helps() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let ports = Ports {
            edge_ws: port,
            http: 0,
            edge_http: 0,
            admin_grpc: 0,
            edge_grpc: 0,
        };
        let Err(Failure::Problem(problem)) = ports.check() else {
            panic!("port {port} was not refused")
        };
        assert!(
            problem
                .detail
                .starts_with(&format!("port {port} (edge_ws)")),
            "{problem}"
        );
        assert!(problem.detail.contains("--port-base"), "{problem}");
    }
}
