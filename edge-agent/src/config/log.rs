//! `[log]`: what the daemon logs.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::ConfigError;

/// What the daemon logs; always to stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as
    /// `info,edge_agent=debug`. Of `rmcp`, which writes down whole messages,
    /// never more than `warn`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        // rmcp tells every session's life at `info`
        Self {
            level: "info,rmcp=warn".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Log {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        EnvFilter::try_new(&self.level)
            .map(|_| ())
            .map_err(|error| {
                ConfigError::value("log.level", format!("is `{}`: {error}", self.level))
            })
    }
}
