//! Logs, always to stderr: stdout is for data.

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::filter_fn, fmt, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::Failure;
use crate::config::{Log, LogFormat};

/// Starts logging for this process.
pub(super) fn start(log: &Log) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&log.level).map_err(Failure::usage)?;
    Registry::default()
        .with(filter)
        .with(filter_fn(tells_no_messages))
        .with(lines(log.format))
        .try_init()
        .map_err(Failure::other)
}

/// `rmcp` writes down whole messages, tokens and all, whatever level is asked
/// for.
fn tells_no_messages(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN || !metadata.target().starts_with("rmcp")
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .boxed(),
        LogFormat::Json => lines.json().boxed(),
    }
}
