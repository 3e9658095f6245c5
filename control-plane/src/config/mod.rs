//! Configuration: one file per section. A key is taken from the first place
//! that names it: `--set section.key=value`, the environment
//! (`AUTHGUARDIAN_SECTION__KEY`), the TOML file, the default.

mod budgets;
mod database;
mod identity;
mod leader_lease;
mod limits;
mod listen;
mod log;
mod registry;
mod source;
mod tls;

use authguardian_discovery::Settings as Mdns;
use serde::{Deserialize, Serialize};

pub use self::{
    budgets::Budgets,
    database::{Database, DatabaseUrl},
    identity::Identity,
    leader_lease::LeaderLease,
    limits::Limits,
    listen::Listen,
    log::{Log, LogFormat},
    registry::Registry,
    source::{ENVIRONMENT_PREFIX, Sources},
    tls::{HttpTls, Tls, TlsVersion},
};

/// Everything that can be configured; `deploy/control-plane.toml` documents
/// every key with its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// How the listeners prove who they are.
    pub tls: Tls,
    /// How many connections each listener takes.
    pub limits: Limits,
    /// PostgreSQL.
    pub database: Database,
    /// Trust domain, keys and certificates.
    pub identity: Identity,
    /// Whether edges of the local network are told where this is.
    pub mdns: Mdns,
    /// Leases and quotas of the registry.
    pub registry: Registry,
    /// Slices of budgets, and what is kept of them.
    pub budgets: Budgets,
    /// What is logged, and how.
    pub log: Log,
}

impl Config {
    /// Reads all sources, the strongest last, and checks the outcome.
    ///
    /// # Errors
    /// A source that cannot be read, a key that does not exist, a value that
    /// does not fit; the message names the source and the key.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let config = sources.merge()?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what single values cannot show.
    ///
    /// # Errors
    /// The first finding, with its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.tls.validate()?;
        self.listen.validate(self.tls.http != HttpTls::Off)?;
        self.limits.validate()?;
        self.database.validate()?;
        self.identity.validate()?;
        self.mdns
            .check()
            .map_err(|problem| ConfigError::invalid("mdns.interfaces", problem))?;
        self.registry.validate()?;
        self.budgets.validate()?;
        self.log.validate()
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or may not be read.
    #[error("cannot read the configuration file `{path}`: {source}")]
    Unreadable {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A source holds an unknown key or a value of another type.
    #[error("{origin}: {message}")]
    Malformed {
        /// The file, flag or environment variable.
        origin: String,
        /// What is wrong; names the key.
        message: String,
    },
    /// A value is of the right type and still cannot be used.
    #[error("`{key}`: {message}")]
    Invalid {
        /// Section and key, such as `database.url`.
        key: &'static str,
        /// What was expected.
        message: String,
    },
}

impl ConfigError {
    fn invalid(key: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid {
            key,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/control-plane.toml"
    ));

    #[test]
    fn the_shipped_file_is_the_default_with_every_key_documented() {
        assert_eq!(
            toml::from_str::<Config>(SHIPPED).unwrap(),
            Config::default()
        );
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        for (section, keys) in &defaults {
            documented(section, keys.as_table().unwrap());
        }
    }

    fn documented(section: &str, keys: &toml::Table) {
        let body = SHIPPED.split_once(&format!("\n[{section}]")).unwrap().1;
        let body = body.split("\n[").next().unwrap();
        let lines: Vec<_> = body.lines().collect();
        for (key, value) in keys {
            let name = format!("{section}.{key}");
            if let Some(keys) = value.as_table() {
                documented(&name, keys);
                continue;
            }
            let starts = format!("{key} = ");
            let at = lines.iter().position(|line| line.starts_with(&starts));
            let at = at.unwrap_or_else(|| panic!("`{name}` is not shipped"));
            assert!(lines[at - 1].starts_with('#'), "`{name}` is not documented");
        }
    }

    #[test]
    fn the_default_is_valid() {
        Config::default().validate().unwrap();
    }
}
