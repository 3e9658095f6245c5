//! `[log]`: what is logged, and how.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::ConfigError;

/// Logs go to stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Level, or levels by module: `info`, `warn,control_plane=debug`.
    pub level: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

impl Log {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match EnvFilter::try_new(&self.level) {
            Ok(_) if !self.level.trim().is_empty() => Ok(()),
            _ => Err(ConfigError::invalid(
                "log.level",
                "expected a level (`error`, `warn`, `info`, `debug`, `trace`) or `module=level` pairs",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_by_module_are_understood_and_rubbish_is_not() {
        let with = |level: &str| {
            Log {
                level: level.to_owned(),
                ..Log::default()
            }
            .validate()
        };
        with("warn,control_plane=debug").unwrap();
        with("").unwrap_err();
        with("control_plane=loud").unwrap_err();
    }
}
