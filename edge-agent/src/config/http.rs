//! `[http]`: whom the HTTP faces answer.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Whom the HTTP faces answer, besides loopback names on any port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Further values of `Host`: `name` (any port) or `name:port`.
    pub allowed_hosts: Vec<String>,
    /// Further values of `Origin`: `scheme://name` (default port),
    /// `scheme://name:port` or `scheme://name:*` (any port).
    pub allowed_origins: Vec<String>,
}

impl Http {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for host in &self.allowed_hosts {
            if host.parse::<http::uri::Authority>().is_err() || host.contains('@') {
                let problem = format!("has `{host}`, expected `name` or `name:port`");
                return Err(ConfigError::value("http.allowed_hosts", problem));
            }
        }
        for origin in &self.allowed_origins {
            let well_formed = origin.split_once("://").is_some_and(|(scheme, rest)| {
                let name = rest.strip_suffix(":*").unwrap_or(rest);
                !scheme.is_empty()
                    && !name.contains('/')
                    && name.parse::<http::uri::Authority>().is_ok()
            });
            if !well_formed {
                let problem = format!(
                    "has `{origin}`, expected `scheme://name`, `scheme://name:port` or `scheme://name:*`"
                );
                return Err(ConfigError::value("http.allowed_origins", problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_checked() {
        let hosts = |host: &str| Http {
            allowed_hosts: vec![host.to_owned()],
            ..Http::default()
        };
        assert!(hosts("edge.example:8443").validate().is_ok());
        assert!(hosts("https://edge.example").validate().is_err());
        let origins = |text: &str| Http {
            allowed_origins: vec![text.to_owned()],
            ..Http::default()
        };
        for good in [
            "https://app.example",
            "http://app.example:8080",
            "http://app.example:*",
        ] {
            assert!(origins(good).validate().is_ok(), "{good}");
        }
        for bad in ["app.example", "null", "https://app.example/path", "*"] {
            assert!(origins(bad).validate().is_err(), "{bad}");
        }
    }
}
