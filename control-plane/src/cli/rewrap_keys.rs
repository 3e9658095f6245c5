//! `rewrap-keys`: our own keys, sealed under another master key.

use clap::Args;
use serde::Serialize;

use super::{ConfigArgs, ambient, failure::Failure, output::Format};
use crate::app;

const EXAMPLES: &str = "\
Examples:
  control-plane rewrap-keys --config /etc/authguardian/control-plane.toml
  control-plane rewrap-keys -o json

Replaces the master key while everything runs:
  1. put a new key (`openssl rand -hex 32`) before the old one, as the first line of the file in
     `identity.master_key_file` of every control plane, and restart them one by one
  2. `control-plane rewrap-keys`, once
  3. drop the old line, and restart them again
The first line seals and every line opens. It changes all keys or none, can be run again, and the
ids that it tells say nothing of the master keys themselves.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RewrapKeysArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// How results are written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Serialize)]
struct View {
    /// What every key is sealed under now.
    master_key: String,
    rewrapped: usize,
    /// Sealed under it already.
    unchanged: usize,
}

impl RewrapKeysArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let (master_key, outcome) = app::rewrap_keys(&config, &ambient()?).await?;
        self.output.one(&View {
            master_key: master_key.to_string(),
            rewrapped: outcome.resealed,
            unchanged: outcome.kept,
        })
    }
}
