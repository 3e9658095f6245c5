//! `restore`: a backup into an empty database, or the fence alone.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    ConfigArgs, ambient,
    backup::tell,
    failure::Failure,
    output::{Format, ask, note},
};
use crate::{
    backup::{self, Fenced, Restored},
    budgets::AsOf,
    config::Config,
};
use authguardian_proto::reason::Problem;

const EXAMPLES: &str = "\
Examples:
  control-plane restore --input /var/backups/authguardian/2026-12-02
  control-plane restore --in-place --as-of 2026-12-02T04:00:00Z --yes

`--input` restores a backup of `control-plane backup` into the database of `database.url`, which has
to be there and empty, and fences it. `--in-place` fences the database that is there, after it was
restored by other means: point-in-time recovery, a copied data directory, a snapshot of its disk.

The fence begins a new epoch and another audit log that names the old one's head, and ends all that
was given before, since what was taken back after the backup is not in the database: every grant,
session and join token ends, and budgets give nothing until their machines have reported. Edges
follow by themselves; a control plane that is put back without a fence they refuse.";

const NEXT: &str = "\
what is left to do:
- acts since the backup are not in this database: compare it with the last export of the audit log, and revoke
  again the API keys and admin tokens, ban again the machines, suspend again what was, and rotate again
  the keys that were since
- machines that joined since have to join again; grants, sessions and join tokens are asked for anew
- budgets are held until each of their machines has reported, or is settled: `control-plane budget list`
- the audit log begins another, whose first entry names the head of the one before: `control-plane audit verify`";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Directory of a backup
    #[arg(long, value_name = "DIR", required_unless_present = "in_place")]
    input: Option<PathBuf>,

    /// Fence the database that is there
    #[arg(long, conflicts_with = "input")]
    in_place: bool,

    /// Of which time the state is that was restored, such as `2026-12-02T04:00:00Z`; machines are
    /// asked for what they have spent since. Without it, for all since each budget was made: one whose
    /// journal is younger has to be settled
    #[arg(long, value_name = "TIME", requires = "in_place", value_parser = parse_time)]
    as_of: Option<OffsetDateTime>,

    /// Do not ask before the fence of a database that is there
    #[arg(long, requires = "in_place")]
    yes: bool,

    /// How the summary is written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Serialize)]
struct View {
    #[serde(skip_serializing_if = "Option::is_none")]
    installation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backed_up_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrations: Option<usize>,
    epoch_before: i64,
    epoch: i64,
    grants_ended: i64,
    budgets_held: u64,
    join_tokens_ended: u64,
}

impl RestoreArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let view = match &self.input {
            Some(input) => from_backup(&config, input).await?,
            None => self.in_place(&config).await?,
        };
        self.output.one(&view)?;
        note(NEXT)
    }

    async fn in_place(&self, config: &Config) -> Result<View, Failure> {
        let question = format!(
            "end every grant, session and join token of `{}`, and hold its budgets?",
            config.database.url
        );
        if !self.yes && ask(&question)? != Some(true) {
            let detail = "nothing was done: it ends all that was given before; add `--yes`";
            return Err(Problem::invalid("yes", detail).into());
        }
        let url = config.database.url.expose();
        let as_of = self.as_of.map_or(AsOf::Unknown, AsOf::At);
        let fenced = backup::fence::in_place(url, &ambient()?, as_of).await?;
        Ok(View::of(fenced))
    }
}

async fn from_backup(config: &Config, input: &Path) -> Result<View, Failure> {
    let restored = backup::restore(config, &ambient()?, input, &tell).await?;
    let Restored {
        manifest,
        migrations,
        fenced,
    } = restored;
    tell(&format!(
        "restored and fenced; the control plane starts with the master key of then only, in `{}`",
        config.identity.master_key_file.display()
    ));
    Ok(View {
        installation_id: Some(manifest.facts.installation_id.to_string()),
        backed_up_at: manifest.created_at.format(&Rfc3339).ok(),
        migrations: Some(migrations),
        ..View::of(fenced)
    })
}

impl View {
    fn of(fenced: Fenced) -> Self {
        Self {
            installation_id: None,
            backed_up_at: None,
            migrations: None,
            epoch_before: fenced.epoch_before,
            epoch: fenced.epoch,
            grants_ended: fenced.grants_ended,
            budgets_held: fenced.budgets_held,
            join_tokens_ended: fenced.join_tokens_ended,
        }
    }
}

fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "expected a time such as `2026-12-02T04:00:00Z`".to_owned())
}
