//! `[database]`: PostgreSQL.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use super::{ConfigError, LeaderLease};

/// Connections of one pool, at most.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 8..=1000;
/// PostgreSQL nodes that a promise can be made on.
const QUORUM: std::ops::RangeInclusive<u32> = 1..=7;

const EXPECTED: &str = "expected `postgres://user@host:port/database`";

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
    /// How it is known that a node still leads.
    pub leader_lease: LeaderLease,
}

/// A `postgres://` URL, of one server or of several that replicate each other
/// (`postgres://user@one:5432,two:5432/database`); its password is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole text with its password; only for connecting.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// How to connect to each of its servers, in order.
    ///
    /// # Errors
    /// What is wrong, without repeating the URL, which may hold a password.
    pub fn servers(&self) -> Result<Vec<PgConnectOptions>, String> {
        let (scheme, rest) = self
            .0
            .split_once("://")
            .filter(|(scheme, _)| ["postgres", "postgresql"].contains(scheme))
            .ok_or(EXPECTED)?;
        // user and password may not hold these unless percent-encoded
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (user, hosts) = authority
            .rsplit_once('@')
            .map_or(("", authority), |(user, hosts)| (user, hosts));
        let at = if user.is_empty() { "" } else { "@" };
        let several = hosts.contains(',');
        hosts
            .split(',')
            .map(|host| {
                if several && host.is_empty() {
                    return Err("a host is missing beside a comma".to_owned());
                }
                let one = format!("{scheme}://{user}{at}{host}{rest}");
                PgConnectOptions::from_str(&one).map_err(|_| {
                    if several {
                        format!("`{host}` is not a host with a port, or the rest is no URL")
                    } else {
                        EXPECTED.to_owned()
                    }
                })
            })
            .collect()
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
            leader_lease: LeaderLease::default(),
        }
    }
}

impl Database {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.url
            .servers()
            .map_err(|problem| ConfigError::invalid("database.url", problem))?;
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
        self.leader_lease.validate(self.write_quorum)
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
    fn every_server_of_the_url_is_a_place_to_connect_to() {
        let of = |text: &str| DatabaseUrl(text.to_owned()).servers();
        let servers = of("postgres://u:p%40w@a:1,b:2,[::1]:3/d?sslmode=require").unwrap();
        let places = servers
            .iter()
            .map(|server| (server.get_host(), server.get_port()));
        let places: Vec<_> = places.collect();
        assert_eq!(places, [("a", 1), ("b", 2), ("[::1]", 3)]);
        for server in &servers {
            assert_eq!(server.get_username(), "u");
            assert_eq!(server.get_database(), Some("d"));
        }
        let socket = of("postgres://u@localhost/d?host=%2Fsocket&port=7").unwrap();
        assert_eq!(socket.len(), 1);
        assert_eq!(socket[0].get_port(), 7);
        let shown = DatabaseUrl("postgres://u:pw@a:1,b:2/d".to_owned()).to_string();
        assert_eq!(shown, "postgres://u@a:1,b:2/d");
    }

    #[test]
    fn the_host_that_is_wrong_is_named_and_no_password() {
        let of = |text: &str| DatabaseUrl(text.to_owned()).servers().unwrap_err();
        let error = of("postgres://u:secret@a:1,b:x/d");
        assert!(
            error.contains("`b:x`") && !error.contains("secret"),
            "{error}"
        );
        let error = of("postgres://u:secret@a:1,,b:2/d");
        assert!(
            error.contains("missing") && !error.contains("secret"),
            "{error}"
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
