//! Where keys come from, and how the sources are laid over one another.

use std::path::PathBuf;

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, ConfigError};

/// What configuration variables start with; client settings such as
/// `AUTHGUARDIAN_SERVER` have no `__` and are not configuration.
pub const ENVIRONMENT_PREFIX: &str = "AUTHGUARDIAN_";

/// The sources of one configuration.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// TOML file; `None` means defaults only.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are not ours are passed over.
    pub environment: Vec<(String, String)>,
    /// `section.key=value` flags, the last one of a key counts.
    pub flags: Vec<String>,
}

impl Sources {
    /// The given file and flags, and this process's environment.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<String>) -> Self {
        // what is not UTF-8 cannot be a key of ours
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            file,
            environment,
            flags,
        }
    }

    pub(super) fn merge(&self) -> Result<Config, ConfigError> {
        let mut table = match &self.file {
            Some(path) => read_file(path)?,
            None => Table::new(),
        };
        let types = types_of_keys();
        for (name, value) in &self.environment {
            let Some(rest) = name
                .strip_prefix(ENVIRONMENT_PREFIX)
                .filter(|rest| rest.contains("__"))
            else {
                continue;
            };
            let origin = format!("environment variable `{name}`");
            let path = rest.to_ascii_lowercase();
            let path: Vec<_> = path.split("__").collect();
            overlay(&mut table, &types, &path, value, &origin)?;
        }
        for flag in &self.flags {
            let origin = format!(
                "flag `--set {}`",
                flag.split('=').next().unwrap_or_default()
            );
            let Some((path, value)) = flag.split_once('=').filter(|(path, _)| path.contains('.'))
            else {
                let message = "expected `section.key=value`".to_owned();
                return Err(ConfigError::Malformed { origin, message });
            };
            let path: Vec<_> = path.split('.').collect();
            overlay(&mut table, &types, &path, value, &origin)?;
        }
        read_table(&table, "configuration")
    }
}

fn read_file(path: &PathBuf) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.clone(),
        source,
    })?;
    let malformed = |error: toml::de::Error| ConfigError::Malformed {
        origin: format!("`{}`", path.display()),
        message: error.to_string().trim_end().to_owned(),
    };
    // once as a configuration, for messages with line and column
    toml::from_str::<Config>(&text).map_err(malformed)?;
    toml::from_str(&text).map_err(malformed)
}

/// Lays one key over the table, after checking it alone, so that a message
/// names the source that is at fault.
fn overlay(
    table: &mut Table,
    types: &Table,
    path: &[&str],
    text: &str,
    origin: &str,
) -> Result<(), ConfigError> {
    let (first, rest) = path.split_first().unwrap_or((&"", &[]));
    let like = rest
        .iter()
        .fold(types.get(*first), |at, key| at.and_then(|at| at.get(key)));
    let value = typed(text, like);
    let mut alone = Table::new();
    insert(&mut alone, path, value.clone());
    read_table(&alone, origin)?;
    insert(table, path, value);
    Ok(())
}

/// Puts a value at its path, making the sections on the way.
fn insert(table: &mut Table, path: &[&str], value: Value) {
    let [section, rest @ ..] = path else { return };
    if rest.is_empty() {
        table.insert((*section).to_owned(), value);
        return;
    }
    let there = table
        .entry(*section)
        .or_insert_with(|| Value::Table(Table::new()));
    if !there.is_table() {
        *there = Value::Table(Table::new());
    }
    if let Value::Table(there) = there {
        insert(there, rest, value);
    }
}

fn read_table(table: &Table, origin: &str) -> Result<Config, ConfigError> {
    Config::deserialize(table.clone()).map_err(|error| ConfigError::Malformed {
        origin: origin.to_owned(),
        // the trailing line only repeats the path, in another form
        message: error.to_string().trim_end().replace('\n', " "),
    })
}

/// Text as a value of the type that the key has; one that does not parse is
/// left as text, for the type error that follows.
fn typed(text: &str, like: Option<&Value>) -> Value {
    let parsed = match like {
        Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
        Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
        Some(Value::Array(_)) => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Some(Value::Array(
                items.map(|item| Value::String(item.to_owned())).collect(),
            ))
        }
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn types_of_keys() -> Table {
    // the defaults are plain strings, numbers and lists, which always convert
    Table::try_from(Config::default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn variable(name: &str, value: &str) -> Vec<(String, String)> {
        vec![
            ("PATH".to_owned(), "/bin".to_owned()),
            (name.to_owned(), value.to_owned()),
        ]
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
        let file = file_with(
            "[database]\nmax_connections = 30\nwrite_quorum = 3\n[database.leader_lease]\nwatchdog = true\n[log]\nlevel = \"warn\"\n",
        );
        let mut sources = Sources {
            file: Some(file.path().into()),
            ..Sources::default()
        };
        let config = Config::load(&sources).unwrap();
        assert_eq!(
            (config.database.max_connections, config.listen.http.port()),
            (30, 3000)
        );

        sources.environment = variable("AUTHGUARDIAN_DATABASE__MAX_CONNECTIONS", "40");
        assert_eq!(Config::load(&sources).unwrap().database.max_connections, 40);

        sources.flags = vec!["database.max_connections=50".to_owned()];
        let config = Config::load(&sources).unwrap();
        assert_eq!(
            (
                config.database.max_connections,
                config.database.write_quorum
            ),
            (50, 3)
        );
        assert_eq!(config.log.level, "warn");
    }

    #[test]
    fn lists_and_numbers_come_as_text_from_the_environment() {
        let environment = variable(
            "AUTHGUARDIAN_IDENTITY__SERVER_NAMES",
            "cp.example.org, 10.0.0.1",
        );
        let config = Config::load(&Sources {
            environment,
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(config.identity.server_names, ["cp.example.org", "10.0.0.1"]);
    }

    #[test]
    fn keys_of_a_section_within_a_section_are_named_in_full() {
        let mut sources = Sources {
            environment: variable("AUTHGUARDIAN_DATABASE__LEADER_LEASE__SCOPE", "one"),
            flags: vec!["database.leader_lease.endpoints=http://a:1, http://b:2".to_owned()],
            ..Sources::default()
        };
        let lease = Config::load(&sources).unwrap().database.leader_lease;
        assert_eq!(lease.scope, "one");
        assert_eq!(lease.endpoints, ["http://a:1", "http://b:2"]);

        sources.flags = vec!["database.leader_lease.endpoint=a".to_owned()];
        let error = Config::load(&sources).unwrap_err().to_string();
        assert!(error.contains("`endpoint`"), "{error}");
    }

    #[test]
    fn settings_of_clients_are_not_configuration() {
        let environment = variable("AUTHGUARDIAN_SERVER", "https://cp:3003");
        let config = Config::load(&Sources {
            environment,
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_by_its_name_wherever_it_stands() {
        let file = file_with("[listen]\nhtpp = \"127.0.0.1:1\"\n");
        let sources = Sources {
            file: Some(file.path().into()),
            ..Sources::default()
        };
        let message = Config::load(&sources).unwrap_err().to_string();
        assert!(
            message.contains("unknown field `htpp`") && message.contains("line 2"),
            "{message}"
        );

        let environment = variable("AUTHGUARDIAN_LISTEN__HTPP", "127.0.0.1:1");
        let message = Config::load(&Sources {
            environment,
            ..Sources::default()
        })
        .unwrap_err()
        .to_string();
        assert!(message.contains("AUTHGUARDIAN_LISTEN__HTPP"), "{message}");
        assert!(message.contains("unknown field `htpp`"), "{message}");

        let flags = vec!["lisen.http=127.0.0.1:1".to_owned()];
        let message = Config::load(&Sources {
            flags,
            ..Sources::default()
        })
        .unwrap_err()
        .to_string();
        assert!(
            message.contains("--set lisen.http") && message.contains("unknown field `lisen`"),
            "{message}"
        );
    }

    #[test]
    fn a_value_of_another_type_is_refused_with_its_source() {
        let environment = variable("AUTHGUARDIAN_DATABASE__WRITE_QUORUM", "many");
        let message = Config::load(&Sources {
            environment,
            ..Sources::default()
        })
        .unwrap_err()
        .to_string();
        assert!(
            message.starts_with("environment variable `AUTHGUARDIAN_DATABASE__WRITE_QUORUM`"),
            "{message}"
        );
        let flags = vec!["listen.http=nowhere".to_owned()];
        assert!(
            Config::load(&Sources {
                flags,
                ..Sources::default()
            })
            .is_err()
        );
        let flags = vec!["listen.http".to_owned()];
        assert!(
            Config::load(&Sources {
                flags,
                ..Sources::default()
            })
            .is_err()
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let sources = Sources {
            file: Some("/nonexistent/c.toml".into()),
            ..Sources::default()
        };
        let message = Config::load(&sources).unwrap_err().to_string();
        assert!(message.contains("/nonexistent/c.toml"), "{message}");
    }
}
