//! Logs, always to stderr: stdout is for data.

use tracing_subscriber::{EnvFilter, fmt};

use super::Failure;
use crate::config::{Log, LogFormat};

/// Starts logging for this process.
pub(super) fn start(log: &Log) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&log.level).map_err(Failure::usage)?;
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => logs
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    started.map_err(Failure::other)
}
