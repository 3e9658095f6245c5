//! `[limits]`: how much of this edge its clients may take.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// How much of this edge its clients may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections of each listener; more are closed at once.
    pub max_connections: u32,
    /// Open connections of one address (IPv6: of one /64); loopback and the
    /// Unix socket have no such bound.
    pub max_connections_per_address: u32,
    /// Requests under way; streams count until they begin.
    pub max_requests: u32,
    /// Requests under way with one API key.
    pub max_requests_per_key: u32,
    /// MCP sessions and streams of events that are open.
    pub max_sessions: u32,
    /// Those of one API key.
    pub max_sessions_per_key: u32,
    /// Seconds that a session without an open stream is kept after its last
    /// request.
    pub session_idle_seconds: u32,
    /// Seconds that a connection may take to its first request, TLS included,
    /// and each request's head from its first byte.
    pub header_timeout_seconds: u32,
    /// Bytes of a request's head.
    pub max_header_bytes: u32,
    /// Bytes of a request's body.
    pub max_body_bytes: u32,
    /// Seconds that a body may take to arrive.
    pub body_timeout_seconds: u32,
    /// Seconds that a client may take to read what was sent to it.
    pub send_timeout_seconds: u32,
    /// Seconds that a connection is kept open between requests.
    pub idle_timeout_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_connections_per_address: 256,
            max_requests: 4096,
            max_requests_per_key: 1024,
            max_sessions: 8192,
            max_sessions_per_key: 2048,
            session_idle_seconds: 24 * 60 * 60,
            header_timeout_seconds: 10,
            max_header_bytes: 32 * 1024,
            max_body_bytes: 4 * 1024 * 1024,
            body_timeout_seconds: 30,
            send_timeout_seconds: 30,
            idle_timeout_seconds: 120,
        }
    }
}

impl Limits {
    /// See [`Limits::header_timeout_seconds`].
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_seconds.into())
    }

    /// See [`Limits::body_timeout_seconds`].
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_seconds.into())
    }

    /// See [`Limits::send_timeout_seconds`].
    pub fn send_timeout(&self) -> Duration {
        Duration::from_secs(self.send_timeout_seconds.into())
    }

    /// See [`Limits::idle_timeout_seconds`].
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_seconds.into())
    }

    /// See [`Limits::session_idle_seconds`].
    pub fn session_idle(&self) -> Duration {
        Duration::from_secs(self.session_idle_seconds.into())
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        const COUNT: RangeInclusive<u32> = 1..=1_000_000;
        const SECONDS: RangeInclusive<u32> = 1..=3600;
        const BYTES: RangeInclusive<u32> = 1024..=64 * 1024 * 1024;
        let bounded = [
            ("limits.max_connections", self.max_connections, COUNT),
            (
                "limits.max_connections_per_address",
                self.max_connections_per_address,
                COUNT,
            ),
            ("limits.max_requests", self.max_requests, COUNT),
            (
                "limits.max_requests_per_key",
                self.max_requests_per_key,
                COUNT,
            ),
            ("limits.max_sessions", self.max_sessions, COUNT),
            (
                "limits.max_sessions_per_key",
                self.max_sessions_per_key,
                COUNT,
            ),
            (
                "limits.session_idle_seconds",
                self.session_idle_seconds,
                60..=30 * 24 * 60 * 60,
            ),
            (
                "limits.header_timeout_seconds",
                self.header_timeout_seconds,
                SECONDS,
            ),
            (
                "limits.max_header_bytes",
                self.max_header_bytes,
                1024..=256 * 1024,
            ),
            ("limits.max_body_bytes", self.max_body_bytes, BYTES),
            (
                "limits.body_timeout_seconds",
                self.body_timeout_seconds,
                SECONDS,
            ),
            (
                "limits.send_timeout_seconds",
                self.send_timeout_seconds,
                SECONDS,
            ),
            (
                "limits.idle_timeout_seconds",
                self.idle_timeout_seconds,
                SECONDS,
            ),
        ];
        for (key, value, range) in bounded {
            if !range.contains(&value) {
                let problem = format!("is {value}, expected {} to {}", range.start(), range.end());
                return Err(ConfigError::value(key, problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_cannot_be_meant_is_refused_by_its_name() {
        assert!(Limits::default().validate().is_ok());
        let never = Limits {
            max_requests: 0,
            ..Limits::default()
        };
        let error = never.validate().unwrap_err().to_string();
        assert_eq!(error, "`limits.max_requests` is 0, expected 1 to 1000000");
        let ever = Limits {
            idle_timeout_seconds: 3601,
            ..Limits::default()
        };
        let error = ever.validate().unwrap_err().to_string();
        assert!(error.contains("limits.idle_timeout_seconds"), "{error}");
    }
}
