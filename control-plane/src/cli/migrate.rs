//! `migrate`: brings the schema up to date.

use clap::Args;

use super::{ConfigArgs, failure::Failure, output::note};
use crate::app;

const EXAMPLES: &str = "\
Examples:
  control-plane migrate --config /etc/authguardian/control-plane.toml

Safe to run again, at the same time from several machines, and while older
control planes are serving.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

impl MigrateArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let count = app::migrate(config.database.url.expose()).await?;
        note(&format!(
            "the schema of `{}` is up to date: {count} migrations",
            config.database.url
        ))
    }
}
