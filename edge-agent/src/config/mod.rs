//! The configuration: flag > environment > TOML > default, checked as a whole
//! before anything is opened.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod audit;
mod data;
mod discovery;
mod faces;
mod gossip;
mod http;
mod layers;
mod limits;
mod listen;
mod log;
mod peer;
mod replica;
mod server;
mod socket;
mod tls;
mod tools;
mod zones;

pub use audit::Audit;
pub use data::Data;
pub use discovery::{Discovery, StaticAgent, StaticPeer};
pub use faces::Faces;
pub use gossip::Gossip;
pub use http::Http;
pub use limits::Limits;
pub use listen::{Alone, Listen};
pub use log::{Log, LogFormat};
pub use peer::Peer;
pub use replica::Replica;
pub use server::Server;
pub use socket::{Socket, SocketUser};
pub use tls::{Certificate, Tls, TlsVersion};
pub use tools::Tools;
pub use zones::Zones;

/// Everything that can be configured; one section per field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the control plane is.
    pub server: Server,
    /// Where clients find this edge.
    pub listen: Listen,
    /// Who besides the edge's own user may use the Unix socket.
    pub socket: Socket,
    /// How the HTTP faces prove who they are.
    pub tls: Tls,
    /// What this edge keeps on disk.
    pub data: Data,
    /// How much a replica of boards may take.
    pub replica: Replica,
    /// Which faces it shows.
    pub faces: Faces,
    /// Whom the HTTP faces answer.
    pub http: Http,
    /// Which networks are trusted more than the rest of the world.
    pub zones: Zones,
    /// How much of this edge its clients may take.
    pub limits: Limits,
    /// Agents and edges that are known without asking anybody, and how others are found.
    pub discovery: Discovery,
    /// What callers may do at all.
    pub tools: Tools,
    /// Whether edges of other machines reach this one.
    pub peer: Peer,
    /// How it watches over the audit log.
    pub audit: Audit,
    /// What it logs.
    pub log: Log,
}

/// A configuration that cannot be used, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file `{path}`: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a section or key that does not exist.
    #[error("the configuration is not of its form: {0}")]
    Form(String),
    /// A value that is of its form, but not usable.
    #[error("`{key}` {problem}")]
    Value {
        /// `section.key`.
        key: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl ConfigError {
    pub(crate) fn value(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Value {
            key,
            problem: problem.into(),
        }
    }
}

impl Config {
    /// Reads the file, where one is named, and what the environment says over
    /// it. Flags are set by the caller, who then calls [`Config::validate`].
    ///
    /// # Errors
    /// [`ConfigError::Read`] and [`ConfigError::Form`].
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?,
            None => String::new(),
        };
        layers::merge(&text, environment)
    }

    /// Checks every section.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first value that cannot be used.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate()?;
        self.tls.validate()?;
        self.listen.validate(self.tls.certificate().is_some())?;
        self.socket.validate()?;
        self.http.validate()?;
        self.limits.validate()?;
        self.tools.validate()?;
        self.peer.validate()?;
        self.replica.validate()?;
        self.discovery.validate(!self.peer.listen.is_empty())?;
        self.audit.validate()?;
        self.log.validate()
    }

    /// Where the Unix socket is: as configured, else `edge.sock` in the data
    /// directory.
    pub fn socket(&self) -> PathBuf {
        self.listen
            .socket
            .clone()
            .unwrap_or_else(|| self.data.dir.join("edge.sock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_file_says_what_the_defaults_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/edge-agent.toml");
        assert_eq!(Config::load(Some(&path), []).unwrap(), Config::default());
    }

    #[test]
    fn the_defaults_are_usable() {
        let config = Config::default();
        assert!(config.validate().is_ok());
        assert_eq!(
            config.socket(),
            Path::new("/var/lib/authguardian/edge/edge.sock")
        );
    }
}
