//! `[replica]`: how much a replica of boards may take of this host.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Bytes that a replica has at least.
const MIN_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of memory for its pages.
const MIN_CACHE: u64 = 1024 * 1024;

/// The lease of a replica ends as late.
const MAX_OFFLINE: u64 = 30 * 86_400;

/// How much the replica of boards may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replica {
    /// Whether there is one. Without it eventual boards are the control plane's, and
    /// cannot be used while it is away.
    pub enabled: bool,
    /// Bytes that its file may have; then it takes no more values.
    pub max_bytes: u64,
    /// Bytes of memory for pages of the file.
    pub cache_bytes: u64,
    /// For how many seconds after the end of its session an API key may be used here
    /// while the control plane is away.
    pub offline_seconds: u64,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            enabled: true,
            max_bytes: 1024 * 1024 * 1024,
            cache_bytes: 64 * 1024 * 1024,
            offline_seconds: 86_400,
        }
    }
}

impl Replica {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("replica.max_bytes", self.max_bytes, MIN_BYTES),
            ("replica.cache_bytes", self.cache_bytes, MIN_CACHE),
        ];
        for (key, bytes, least) in bounds {
            if bytes < least || i64::try_from(bytes).is_err() {
                let problem = format!("is {bytes}, expected at least {least} bytes");
                return Err(ConfigError::value(key, problem));
            }
        }
        if self.offline_seconds > MAX_OFFLINE {
            let problem = format!(
                "is {}, expected at most {MAX_OFFLINE} seconds",
                self.offline_seconds
            );
            return Err(ConfigError::value("replica.offline_seconds", problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_has_room_for_something() {
        assert!(Replica::default().validate().is_ok());
        for (replica, key) in [
            (
                Replica {
                    max_bytes: 1024,
                    ..Replica::default()
                },
                "replica.max_bytes",
            ),
            (
                Replica {
                    cache_bytes: 0,
                    ..Replica::default()
                },
                "replica.cache_bytes",
            ),
            (
                Replica {
                    offline_seconds: MAX_OFFLINE + 1,
                    ..Replica::default()
                },
                "replica.offline_seconds",
            ),
        ] {
            let error = replica.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
