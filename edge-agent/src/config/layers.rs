//! Laying the environment over the file, by the types of the defaults.

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, ConfigError};

const PREFIX: &str = "AUTHGUARDIAN_";

/// `AUTHGUARDIAN_SECTION__KEY` over TOML text. Variables that name no key of
/// this daemon are left alone: the control plane shares the prefix. Lists are
/// separated by commas.
pub(super) fn merge(
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut table: Table = toml::from_str(text).map_err(form)?;
    let known = Table::try_from(Config::default()).map_err(form)?;
    for (name, text) in environment {
        let Some((section, key)) = split(&name) else {
            continue;
        };
        let Some(Value::Table(defaults)) = known.get(&section) else {
            continue;
        };
        let value = match defaults.get(&key) {
            Some(like) => typed(text, like),
            None if section == "listen" && key == "socket" => Value::String(text),
            None => continue,
        };
        if let Value::Table(section) = table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()))
        {
            section.insert(key, value);
        }
    }
    Config::deserialize(table).map_err(form)
}

fn split(name: &str) -> Option<(String, String)> {
    let (section, key) = name.strip_prefix(PREFIX)?.split_once("__")?;
    Some((section.to_ascii_lowercase(), key.to_ascii_lowercase()))
}

/// Text as a value of the type that the key has; one that does not parse is
/// left as text, for the error that follows.
fn typed(text: String, like: &Value) -> Value {
    let parsed = match like {
        Value::Array(_) => {
            let entries = text
                .split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty());
            Some(Value::Array(
                entries
                    .map(|entry| Value::String(entry.to_owned()))
                    .collect(),
            ))
        }
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        _ => None,
    };
    parsed.unwrap_or(Value::String(text))
}

fn form(error: impl std::fmt::Display) -> ConfigError {
    ConfigError::Form(error.to_string().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = merge(
            "[listen]\nhttp = \"127.0.0.1:1\"\n[log]\nlevel = \"debug\"",
            [
                variable("AUTHGUARDIAN_LISTEN__HTTP", "127.0.0.1:2"),
                variable("AUTHGUARDIAN_LISTEN__SOCKET", "/run/x.sock"),
                variable(
                    "AUTHGUARDIAN_HTTP__ALLOWED_HOSTS",
                    "a.example, b.example:8080",
                ),
            ],
        )
        .unwrap();
        assert_eq!(config.listen.http, "127.0.0.1:2");
        assert_eq!(config.listen.socket.unwrap().to_str(), Some("/run/x.sock"));
        assert_eq!(config.http.allowed_hosts, ["a.example", "b.example:8080"]);
        assert_eq!(config.log.level, "debug");
    }

    #[test]
    fn numbers_switches_and_networks_come_as_text() {
        let config = merge(
            "",
            [
                variable("AUTHGUARDIAN_LIMITS__MAX_REQUESTS", "7"),
                variable("AUTHGUARDIAN_TLS__MACHINE_CERTIFICATE", "true"),
                variable("AUTHGUARDIAN_TLS__MIN_VERSION", "1.2"),
                variable("AUTHGUARDIAN_ZONES__TRUSTED_NETWORKS", "10.0.0.0/8, ::1"),
            ],
        )
        .unwrap();
        assert_eq!(config.limits.max_requests, 7);
        assert!(config.tls.machine_certificate);
        assert_eq!(config.tls.min_version, crate::config::TlsVersion::V1_2);
        assert_eq!(config.zones.trusted_networks.iter().count(), 2);
        for (name, value, said) in [
            ("AUTHGUARDIAN_LIMITS__MAX_REQUESTS", "many", "max_requests"),
            ("AUTHGUARDIAN_ZONES__TRUSTED_PROXIES", "proxy", "`proxy`"),
            ("AUTHGUARDIAN_TLS__MIN_VERSION", "1.1", "min_version"),
        ] {
            let error = merge("", [variable(name, value)]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn variables_of_the_other_daemon_are_left_alone() {
        let config = merge("", [variable("AUTHGUARDIAN_DATABASE__URL", "postgres://")]).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn a_key_that_does_not_exist_is_refused_in_the_file() {
        let error = merge("[listen]\nhtp = \"x\"", []).unwrap_err();
        assert!(error.to_string().contains("htp"), "{error}");
    }
}
