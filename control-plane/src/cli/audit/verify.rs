//! `audit verify`.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use authguardian_proto::{checkpoint::VerifierKey, reason::Problem};
use clap::Args;
use serde::Serialize;

use super::{
    Client, database,
    keys::KeysFrom,
    misfit::Misfit,
    offline::{self, Checked},
    progress::Progress,
    proof,
};
use crate::cli::{
    failure::Failure,
    output::{Format, note, write_stdout},
};

/// Entries between two looks at how far an export has been read.
const TELL_EVERY: u64 = 10_000;

#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 1 where something does not fit. Without --export or --proof the control plane reads its database; with one of them no server is asked. What came with the file, or from the database, cannot prove itself: give it a --checkpoint and --key that were kept outside (`audit log --checkpoint`, `audit log --keys`)."
)]
pub(super) struct VerifyArgs {
    /// Check a file that `audit export` has written, without any server; `-` for stdin
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,

    /// Check a file that `audit prove` or `audit consistency` has written, without any server
    #[arg(long, value_name = "FILE", conflicts_with = "export")]
    proof: Option<PathBuf>,

    /// A checkpoint that was kept outside, which has to be part of the log
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,

    /// A verifier key of the log that was kept outside; repeatable; without one, those in the file
    #[arg(long = "key", value_name = "KEY", conflicts_with = "origin")]
    keys: Vec<VerifierKey>,

    /// A file of such keys, one a line, as `audit log --keys` prints them
    #[arg(long = "keys", value_name = "FILE", conflicts_with = "origin")]
    keys_file: Option<PathBuf>,

    /// Which log of the database; without it, all
    #[arg(long, value_name = "ORIGIN", conflicts_with_all = ["export", "proof"])]
    origin: Option<String>,
}

impl VerifyArgs {
    /// Whether no server is asked.
    pub(super) fn is_offline(&self) -> bool {
        self.export.is_some() || self.proof.is_some()
    }

    /// Checks a file.
    pub(super) fn offline(self, output: Format) -> Result<(), Failure> {
        let (outside, keys) = (self.outside()?, self.keys()?);
        let outside = outside.as_deref();
        match (&self.export, &self.proof) {
            (Some(path), _) => export(path, outside, &keys, output),
            (None, Some(path)) => proof(path, outside, &keys, output),
            (None, None) => Err(Failure::internal("there is no file to check")),
        }
    }

    /// Has the control plane check its database.
    pub(super) async fn database(self, client: Client, output: Format) -> Result<(), Failure> {
        if !self.keys()?.is_empty() {
            let detail = "a database is checked with the control plane's own keys: `--key` and `--keys` go with `--export` or `--proof`";
            return Err(Problem::invalid("key", detail).into());
        }
        let checkpoint = self.outside()?.unwrap_or_default();
        let origin = self.origin.unwrap_or_default();
        database::verify(client, checkpoint, origin, output).await
    }

    fn outside(&self) -> Result<Option<String>, Failure> {
        let path = self.checkpoint.as_deref();
        path.map(|path| text("checkpoint", path)).transpose()
    }

    /// Those given, and those in the file.
    fn keys(&self) -> Result<Vec<VerifierKey>, Failure> {
        let mut keys = self.keys.clone();
        if let Some(path) = &self.keys_file {
            let text = text("keys", path)?;
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            for line in lines {
                let key = line.parse();
                keys.push(key.map_err(|error| Problem::invalid("keys", format!("{error}")))?);
            }
            if keys.is_empty() {
                let detail = format!("`{}` holds no verifier key", path.display());
                return Err(Problem::invalid("keys", detail).into());
            }
        }
        Ok(keys)
    }
}

fn export(
    path: &Path,
    outside: Option<&str>,
    keys: &[VerifierKey],
    output: Format,
) -> Result<(), Failure> {
    let mut progress = Progress::begin();
    let tell = |entries: u64| {
        if entries.is_multiple_of(TELL_EVERY) {
            progress.show(&format!("{entries} entries"));
        }
    };
    let input: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::new(
            File::open(path).map_err(|error| unreadable("export", path, &error))?,
        )),
    };
    let checked = offline::check(input, outside, keys, tell);
    progress.clear();
    match output {
        Format::Table => write_stdout(&told(&checked))?,
        _ => output.one(&checked)?,
    }
    if !checked.fits {
        return Err(Failure::Told(1));
    }
    whose(checked.keys_from, checked.outside_checkpoint_size.is_some())
}

fn proof(
    path: &Path,
    outside: Option<&str>,
    keys: &[VerifierKey],
    output: Format,
) -> Result<(), Failure> {
    let text = text("proof", path)?;
    match proof::check(&text, outside, keys) {
        Ok(proved) => {
            match output {
                Format::Table => write_stdout(&format!("{}\n", proved.sentence))?,
                _ => output.one(&proved)?,
            }
            whose(Some(proved.keys_from), proved.outside_checkpoint)
        }
        Err(misfit) => {
            match output {
                Format::Table => write_stdout(&format!("does not fit: {misfit}\n"))?,
                _ => output.one(&MisfitView {
                    fits: false,
                    misfit,
                })?,
            }
            Err(Failure::Told(1))
        }
    }
}

/// Of a proof that does not hold.
#[derive(Debug, Serialize)]
struct MisfitView {
    fits: bool,
    misfit: Misfit,
}

/// What does not fit, and what was checked.
fn told(checked: &Checked) -> String {
    let origin = checked.origin.as_deref().unwrap_or("an unknown log");
    let read = match checked.dropped {
        0 => format!("{} entries of {origin}", checked.entries),
        dropped => format!(
            "{} entries of {origin}, {dropped} of them without a body",
            checked.entries
        ),
    };
    if let Some(misfit) = &checked.misfit {
        return format!("{misfit}\ndoes not fit: read {read}\n");
    }
    let heads = [
        checked
            .checkpoint_size
            .map(|size| format!("the checkpoint at the end (size {size})")),
        checked
            .outside_checkpoint_size
            .map(|size| format!("the outside checkpoint (size {size})")),
    ];
    let heads: Vec<_> = heads.into_iter().flatten().collect();
    format!("everything fits: {read}, {}\n", heads.join(", "))
}

/// Says plainly what was taken on the file's own word.
fn whose(keys: Option<KeysFrom>, outside: bool) -> Result<(), Failure> {
    match (keys, outside) {
        (Some(KeysFrom::File), false) => note(
            "note: the keys came with the file, and prove nothing by themselves: give it a `--key` or a `--checkpoint` that was kept outside",
        ),
        (Some(KeysFrom::File), true) => note(
            "note: the keys came with the file: what the outside checkpoint covers is proved, what came after it is not; give it a `--key` that was kept outside",
        ),
        _ => Ok(()),
    }
}

fn text(field: &str, path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| unreadable(field, path, &error))
}

fn unreadable(field: &str, path: &Path, error: &io::Error) -> Failure {
    Problem::invalid(field, format!("cannot read `{}`: {error}", path.display())).into()
}
