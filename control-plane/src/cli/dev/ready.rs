//! The ready file of `dev`: there exactly while everything is ready.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{demo::Demo, directory::Directory, ports::Ports};
use crate::cli::{
    failure::Failure,
    files::{remove_file, write_private},
};

/// Where a running system is found, and with which keys.
#[derive(Serialize)]
pub(super) struct Running {
    pub admin_grpc: String,
    pub edge_grpc: String,
    pub http: String,
    pub edge_http: String,
    pub edge_ws: String,
    pub edge_socket: PathBuf,
    pub ca_file: PathBuf,
    pub api_key: String,
    pub admin_token: String,
    pub database_url: String,
}

/// A file that others wait for.
#[derive(Debug)]
pub(super) struct ReadyFile(PathBuf);

impl Running {
    pub(super) fn new(
        ports: &Ports,
        directory: &Directory,
        demo: &Demo,
        database_url: &str,
    ) -> Self {
        let url = |scheme: &str, port| format!("{scheme}://{}", Ports::address(port));
        Self {
            admin_grpc: url("https", ports.admin_grpc),
            edge_grpc: url("https", ports.edge_grpc),
            http: url("http", ports.http),
            edge_http: url("http", ports.edge_http),
            edge_ws: url("ws", ports.edge_ws),
            edge_socket: directory.edge_socket(),
            ca_file: directory.ca_file(),
            api_key: demo.api_key.to_string(),
            admin_token: demo.admin_token.to_string(),
            database_url: database_url.to_owned(),
        }
    }
}

impl ReadyFile {
    pub(super) fn new(path: &Path) -> Result<Self, Failure> {
        std::path::absolute(path)
            .map(Self)
            .map_err(|error| Failure::internal(format!("`{}`: {error}", path.display())))
    }

    /// Makes it appear whole, for this user only.
    pub(super) fn write(&self, running: &Running) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(running).map_err(|error| {
            Failure::internal(format!("the ready file cannot be written: {error}"))
        })?;
        write_private(&self.0, &(text + "\n"))
    }

    /// Makes it disappear; one that is not there is fine.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        remove_file(&self.0)
    }
}
