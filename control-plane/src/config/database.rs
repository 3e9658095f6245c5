//! `[database]`: PostgreSQL.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use super::ConfigError;

/// Connections of one pool, at most.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 8..=1000;
/// PostgreSQL nodes that a promise can be made on.
const QUORUM: std::ops::RangeInclusive<u32> = 1..=7;

/// How PostgreSQL is reached, and what it promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Where it is.
    pub url: DatabaseUrl,
    /// Connections of this process, all pools together: 8 to 1,000.
    pub max_connections: u32,
    /// How many PostgreSQL nodes, the primary included, must have flushed a
    /// commit before it is acknowledged: 1 to 7.
    pub write_quorum: u32,
}

/// A `postgres://` URL; its password is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole text with its password; only for connecting.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for DatabaseUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DatabaseUrl {
    /// Shows neither password nor parameters, since both can be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str("(not a URL)");
        };
        let rest = rest.split('?').next().unwrap_or_default();
        match rest.rsplit_once('@') {
            Some((user, host)) => {
                let user = user.split(':').next().unwrap_or_default();
                write!(f, "{scheme}://{user}@{host}")
            }
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: DatabaseUrl("postgres://authguardian@127.0.0.1:5432/authguardian".to_owned()),
            max_connections: 20,
            write_quorum: 1,
        }
    }
}

impl Database {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let url = self.url.expose();
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://"))
            || PgConnectOptions::from_str(url).is_err()
        {
            let expected = "expected `postgres://user@host:port/database`";
            return Err(ConfigError::invalid("database.url", expected));
        }
        if !CONNECTIONS.contains(&self.max_connections) {
            return Err(ConfigError::invalid(
                "database.max_connections",
                "expected 8 to 1000",
            ));
        }
        if !QUORUM.contains(&self.write_quorum) {
            return Err(ConfigError::invalid(
                "database.write_quorum",
                "expected 1 to 7",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url = DatabaseUrl("postgres://ag:p%40ss:w@db:5432/ag?password=p2".to_owned());
        assert_eq!(url.to_string(), "postgres://ag@db:5432/ag");
        assert_eq!(format!("{url:?}"), "postgres://ag@db:5432/ag");
        assert_eq!(DatabaseUrl("secret".to_owned()).to_string(), "(not a URL)");
    }

    #[test]
    fn a_foreign_url_is_refused_without_repeating_it() {
        let url = DatabaseUrl("mysql://u:secret@h/d".to_owned());
        let error = Database {
            url,
            ..Database::default()
        }
        .validate()
        .unwrap_err()
        .to_string();
        assert_eq!(
            error,
            "`database.url`: expected `postgres://user@host:port/database`"
        );
    }

    #[test]
    fn bounds_are_checked() {
        for (max_connections, write_quorum) in [(7, 1), (1001, 1), (20, 0), (20, 8)] {
            let database = Database {
                max_connections,
                write_quorum,
                ..Database::default()
            };
            assert!(
                database.validate().is_err(),
                "{max_connections} {write_quorum}"
            );
        }
    }
}
