//! `[server]`: where the control plane is.

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::dial::ServerAddress;

/// Where the control plane is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// `https://host:port` of each control plane's edge listener, tried in
    /// order. Empty: the address that this machine joined through.
    pub addresses: Vec<String>,
}

impl Server {
    /// The addresses, read.
    ///
    /// # Errors
    /// When one is not of the form `https://host:port`.
    pub fn addresses(&self) -> Result<Vec<ServerAddress>, ConfigError> {
        self.addresses
            .iter()
            .map(|text| {
                text.parse().map_err(|error| {
                    ConfigError::value("server.addresses", format!("has `{text}`: {error}"))
                })
            })
            .collect()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.addresses().map(|_| ())
    }
}
