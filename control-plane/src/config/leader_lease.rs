//! `[database.leader_lease]`: how it is known that a node still leads.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// How it is known, until a certain moment, that the PostgreSQL node that
/// confirms a commit has no successor: by Patroni's leader key in etcd, or by a
/// watchdog on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaderLease {
    /// etcd's members, such as `http://10.0.0.1:2379`. None: no lease is read.
    pub endpoints: Vec<String>,
    /// Patroni's `scope`: the name of the cluster.
    pub scope: String,
    /// Patroni's `namespace`: what its keys begin with.
    pub namespace: String,
    /// The CA of `https` endpoints, PEM; empty: the system's.
    pub ca_file: PathBuf,
    /// Instead of a lease: every node is reset by a watchdog before its lease
    /// ends, or none is ever promoted.
    pub watchdog: bool,
}

impl Default for LeaderLease {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            scope: "authguardian".to_owned(),
            namespace: "/service/".to_owned(),
            ca_file: PathBuf::new(),
            watchdog: false,
        }
    }
}

impl LeaderLease {
    /// Whether a lease is read at all.
    pub fn is_read(&self) -> bool {
        !self.endpoints.is_empty()
    }

    pub(super) fn validate(&self, write_quorum: u32) -> Result<(), ConfigError> {
        if write_quorum > 1 && !self.is_read() && !self.watchdog {
            return Err(ConfigError::invalid(
                "database.leader_lease.endpoints",
                "needed with `database.write_quorum` above 1: the addresses of the etcd that Patroni keeps its \
                 leader in; or `database.leader_lease.watchdog = true`, where every node has a watchdog, or none \
                 is ever promoted",
            ));
        }
        for endpoint in &self.endpoints {
            let host = endpoint
                .strip_prefix("http://")
                .or_else(|| endpoint.strip_prefix("https://"));
            if host.is_none_or(|host| host.trim_end_matches('/').is_empty()) {
                return Err(ConfigError::invalid(
                    "database.leader_lease.endpoints",
                    format!("`{endpoint}`: expected `http://host:2379` or `https://host:2379`"),
                ));
            }
        }
        let name_is_one_word = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
        if !name_is_one_word(&self.scope) || self.scope.contains('/') {
            return Err(ConfigError::invalid(
                "database.leader_lease.scope",
                "expected the `scope` of Patroni's configuration",
            ));
        }
        if !name_is_one_word(self.namespace.trim_matches('/')) {
            return Err(ConfigError::invalid(
                "database.leader_lease.namespace",
                "expected the `namespace` of Patroni's configuration, such as `/service/`",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(lease: &LeaderLease, write_quorum: u32) -> String {
        lease.validate(write_quorum).unwrap_err().to_string()
    }

    #[test]
    fn a_quorum_needs_a_lease_or_a_watchdog() {
        let none = LeaderLease::default();
        none.validate(1).unwrap();
        let error = refusal(&none, 2);
        assert!(
            error.starts_with("`database.leader_lease.endpoints`: needed"),
            "{error}"
        );
        let watchdog = LeaderLease {
            watchdog: true,
            ..LeaderLease::default()
        };
        watchdog.validate(2).unwrap();
        let lease = LeaderLease {
            endpoints: vec!["http://10.0.0.1:2379".to_owned()],
            ..LeaderLease::default()
        };
        lease.validate(2).unwrap();
    }

    #[test]
    fn what_no_etcd_can_have_is_refused() {
        for endpoint in ["10.0.0.1:2379", "etcd://a", "http://"] {
            let lease = LeaderLease {
                endpoints: vec![endpoint.to_owned()],
                ..LeaderLease::default()
            };
            assert!(refusal(&lease, 1).contains(&format!("`{endpoint}`")));
        }
        for scope in ["", "a b", "a/b"] {
            let lease = LeaderLease {
                scope: scope.to_owned(),
                ..LeaderLease::default()
            };
            assert!(refusal(&lease, 1).starts_with("`database.leader_lease.scope`"));
        }
    }
}
