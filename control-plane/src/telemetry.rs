//! Logs: to stderr, as text for people or as JSON for machines.

use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level does not parse.
    #[error("`log.level`: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber is installed in this process.
    #[error("logging is set up already")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the process's logs to stderr from now on; once per process.
///
/// # Errors
/// A level that does not parse, or a second call.
pub fn install(log: &Log) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&log.level)?;
    Registry::default()
        .with(filter)
        .with(layer(log.format))
        .try_init()?;
    Ok(())
}

/// Keeps what is in memory out of core files, and says so where it cannot.
pub fn keep_memory_private() {
    if let Err(error) = authguardian_memory::keep_private() {
        tracing::warn!(%error, "a crash would write a core file with what is in memory");
    }
}

fn layer(
    format: LogFormat,
) -> Box<dyn Layer<tracing_subscriber::layer::Layered<EnvFilter, Registry>> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            use std::io::IsTerminal;
            layer.with_ansi(std::io::stderr().is_terminal()).boxed()
        }
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
    }
}
