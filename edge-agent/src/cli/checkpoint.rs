//! `edge-agent checkpoint`

use std::{path::PathBuf, process::ExitCode};

use authguardian_proto::reason::Code;
use clap::Args;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use super::{
    Failure,
    output::{Format, print, write_stdout},
};
use crate::{
    config::Config,
    witness::{Archive, Kept, Left, Why},
};

const AFTER_HELP: &str = "\
Reads the edge's directory, as the edge's user or root; the edge need not run. Exit code 3 when
nothing is kept yet.

Examples:
  edge-agent checkpoint > checkpoint.txt
  control-plane audit verify --checkpoint checkpoint.txt    # on any machine
  edge-agent checkpoint --key
  edge-agent checkpoint -o json                             # also of logs that have ended";

/// Print the newest checkpoint of the audit log that this machine has kept
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Checkpoint {
    /// Print the verifier key that checks it instead
    #[arg(long, conflicts_with = "output")]
    key: bool,
    /// Of this log that has ended, instead of the newest one
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory that the edge keeps its files in
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

impl Checkpoint {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config =
            Config::load(self.config.as_deref(), std::env::vars()).map_err(Failure::usage)?;
        let data_dir = self.data_dir.as_ref().unwrap_or(&config.data.dir);
        let archive = Archive::read(data_dir).map_err(Failure::other)?;
        let kept = self.find(&archive)?;
        if self.key {
            write_stdout(&format!("{}\n", kept.key))?;
        } else if self.format.is_document() {
            let mut document = document(kept);
            if self.origin.is_none() {
                document["ended"] = archive.ended.iter().map(ended).collect();
            }
            print(self.format, &document)?;
        } else {
            write_stdout(&kept.note)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn find<'a>(&self, archive: &'a Archive) -> Result<&'a Kept, Failure> {
        let newest = archive.kept.as_ref();
        let Some(origin) = &self.origin else {
            let nothing = "no checkpoint of the audit log is kept yet";
            return newest.ok_or_else(|| Failure::with_code(Code::NotFound, nothing));
        };
        let ended = archive.ended.iter().rev().map(|left| &left.kept);
        newest
            .into_iter()
            .chain(ended)
            .find(|kept| kept.checkpoint.origin == *origin)
            .ok_or_else(|| {
                let nothing = format!("no checkpoint of the audit log `{origin}` is kept");
                Failure::with_code(Code::NotFound, nothing)
            })
    }
}

fn document(kept: &Kept) -> Value {
    json!({
        "origin": kept.checkpoint.origin,
        "size": kept.checkpoint.size,
        "root": kept.checkpoint.root.to_string(),
        "kept_at": kept.kept_at_text(),
        "checkpoint": kept.note,
        "verifier_key": kept.key.to_string(),
    })
}

fn ended(left: &Left) -> Value {
    let mut document = document(&left.kept);
    document["left_at"] = left.left_at.format(&Rfc3339).unwrap_or_default().into();
    document["why"] = match left.why {
        Why::Restored => "restored",
        Why::Lost { .. } => "lost",
        Why::Joined => "joined",
    }
    .into();
    if let Why::Lost { size } = left.why {
        document["ended_at_size"] = size.into();
    }
    document
}
