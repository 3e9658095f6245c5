//! `backup`: the database, whole, into a directory.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{
    ConfigArgs, ambient,
    failure::Failure,
    output::{Format, note},
};
use crate::backup::{self, Manifest};

const EXAMPLES: &str = "\
Examples:
  control-plane backup --output /var/backups/authguardian/2026-12-02
  control-plane backup --config /etc/authguardian/control-plane.toml --output /mnt/backup/monday -o json

While everything runs; PostgreSQL's `pg_dump` and `pg_restore` have to be on this machine, of the
server's version or a later one. The directory gets its name when all of it is on the disk and was
read again. It holds nothing of `identity.master_key_file`, without which the control plane's keys
in it cannot be opened: keep that elsewhere. Restoring it: `control-plane restore`.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Directory that is made; one that is there has to be empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// How the summary is written
    #[arg(short = 'o', long = "format", value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Serialize)]
struct View {
    directory: String,
    installation_id: String,
    trust_domain: String,
    epoch: i64,
    schema_version: i64,
    /// Sealed entries of the audit log, and the root at that size.
    audit_size: i64,
    audit_root: Option<String>,
    dump_bytes: u64,
    dump_sha256: String,
}

impl BackupArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let now = ambient()?.clock.now();
        let url = &config.database.url;
        let manifest = backup::take(url, now, &self.output, &tell).await?;
        tell(&format!(
            "`{}` is complete; the master key is not in it: keep `{}` elsewhere, it cannot be restored without it",
            self.output.display(),
            config.identity.master_key_file.display()
        ));
        self.format
            .one(&View::new(self.output.display().to_string(), manifest))
    }
}

impl View {
    fn new(directory: String, manifest: Manifest) -> Self {
        let facts = manifest.facts;
        Self {
            directory,
            installation_id: facts.installation_id.to_string(),
            trust_domain: facts.trust_domain,
            epoch: facts.epoch,
            schema_version: facts.schema_version,
            audit_size: facts.audit.as_ref().map_or(0, |audit| audit.size),
            audit_root: facts.audit.map(|audit| audit.root),
            dump_bytes: manifest.dump.bytes,
            dump_sha256: manifest.dump.sha256,
        }
    }
}

/// A step, for people; that nobody reads it is no reason to stop.
pub(super) fn tell(step: &str) {
    let _ = note(step);
}
