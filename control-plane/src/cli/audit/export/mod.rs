//! `audit export`.

mod resume;
mod sink;

use std::path::PathBuf;

use authguardian_proto::{
    audit::v1::{ExportEntriesRequest, ExportEntriesResponse, ExportedEntry, Log},
    checkpoint::{Checkpoint, VerifierKey},
    merkle::hash_of,
    reason::Problem,
    status::from_status,
};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::Streaming;

use self::sink::Sink;
use super::{
    Client,
    line::{Header, LONGEST, Leaf, Line},
    log,
    progress::Progress,
};
use crate::cli::{client::read, failure::Failure, output::note, value::rfc3339};

#[derive(Debug, Args)]
#[command(
    after_help = "The first line is {\"log\": …}; then comes a line for each entry, {\"index\": …, \"entry\": …}, or {\"index\": …, \"leaf_hash\": …} where retention has dropped the body; the last is {\"checkpoint\": …}. `entry` is, byte for byte, what is hashed. Only what a checkpoint covers is written. An export that was interrupted goes on with --resume, and so does a whole one, with what has come since. `audit verify --export` checks it, anywhere."
)]
pub(super) struct ExportArgs {
    /// Which log; without it, the one that is written to
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,

    /// Write to a file, for this user only, instead of stdout
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Go on after the last whole line of the file
    #[arg(long, requires = "file")]
    resume: bool,
}

/// Where it goes, and what was written so far.
struct Export {
    sink: Sink,
    /// The first line, once it is there.
    header: Option<Header>,
    next: u64,
    progress: Progress,
}

impl ExportArgs {
    pub(super) async fn run(self, mut client: Client) -> Result<(), Failure> {
        let (sink, kept) = Sink::open(self.file.as_deref(), self.resume)?;
        let origin = self.origin(kept.header.as_ref())?;
        let request = ExportEntriesRequest {
            origin,
            from_index: kept.next,
        };
        let mut messages = read(async || client.export_entries(request).await).await?;
        let mut export = Export {
            sink,
            header: kept.header,
            next: kept.next,
            progress: Progress::begin(),
        };
        let written = export.write(&mut messages).await;
        export.progress.clear();
        match written {
            Ok(true) => {
                export.sink.finish()?;
                note(&format!("{} entries and a checkpoint", export.next))
            }
            Ok(false) => export.interrupted(Failure::Told(1)),
            Err(failure) => export.interrupted(failure),
        }
    }

    /// Which log to ask for: what is there has to be of the same one.
    fn origin(&self, kept: Option<&Header>) -> Result<String, Failure> {
        let wanted = self.origin.clone();
        match (wanted, kept) {
            (Some(wanted), Some(kept)) if wanted != kept.origin => {
                let detail = format!("the file is an export of the log `{}`", kept.origin);
                Err(Problem::invalid("origin", detail).into())
            }
            (None, Some(kept)) => Ok(kept.origin.clone()),
            (wanted, _) => Ok(wanted.unwrap_or_default()),
        }
    }
}

impl Export {
    /// Writes what comes; `false`: interrupted.
    async fn write(
        &mut self,
        messages: &mut Streaming<ExportEntriesResponse>,
    ) -> Result<bool, Failure> {
        let mut interrupt = Interrupt::of(&self.sink)?;
        let mut is_begun = false;
        loop {
            let message = tokio::select! {
                () = interrupt.comes() => return Ok(false),
                message = messages.message() => message.map_err(|status| from_status(&status))?,
            };
            let message = message.ok_or_else(log::no_checkpoint)?;
            if !is_begun {
                self.begin(message.log.unwrap_or_default())?;
                is_begun = true;
            }
            for entry in message.entries {
                let line = self.line(&entry)?;
                self.sink.write(&line)?;
                self.next += 1;
            }
            self.sink.flush()?;
            self.progress.show(&format!("{} entries", self.next));
            if !message.checkpoint.is_empty() {
                self.end(message.checkpoint)?;
                return Ok(true);
            }
        }
    }

    /// Begins with the log's name; where there is an export already, it has to
    /// be of that log.
    fn begin(&mut self, log: Log) -> Result<(), Failure> {
        if let Some(kept) = &self.header {
            if kept.origin == log.origin {
                return self.sink.begin();
            }
            return Err(Failure::internal(format!(
                "the control plane exports the log `{}` instead of `{}`",
                log.origin, kept.origin
            )));
        }
        let header = self.header.insert(Header {
            begun_at: rfc3339(log.begun_at.as_ref()).unwrap_or_default(),
            origin: log.origin,
            epoch: log.epoch,
            verifier_keys: log.verifier_keys,
        });
        self.sink.begin()?;
        self.sink.write(&format!("{}\n", header.text()))
    }

    /// Ends with the checkpoint. An export that goes on long after it was begun
    /// may end with one of a key that was made meanwhile.
    fn end(&mut self, checkpoint: String) -> Result<(), Failure> {
        let keys = self.header.iter().flat_map(|header| &header.verifier_keys);
        let keys: Vec<VerifierKey> = keys.filter_map(|key| key.parse().ok()).collect();
        if Checkpoint::open(&checkpoint, &keys).is_err() {
            note(
                "note: the checkpoint is signed by none of the keys in the first line; verify it with `--keys`, from `audit log --keys`",
            )?;
        }
        let line = Line::Checkpoint(checkpoint);
        self.sink.write(&format!("{}\n", line.text()))
    }

    fn line(&self, entry: &ExportedEntry) -> Result<String, Failure> {
        let unusable = |what: &str| {
            Failure::internal(format!(
                "the control plane sent entry {} {what}",
                entry.index
            ))
        };
        if entry.index != self.next {
            return Err(unusable(&format!("where {} was expected", self.next)));
        }
        let leaf = if entry.leaf.is_empty() {
            let hash = hash_of(&entry.leaf_hash);
            Leaf::Dropped(hash.ok_or_else(|| unusable("with neither a body nor a hash"))?)
        } else {
            let text = std::str::from_utf8(&entry.leaf).ok();
            let leaf = text.and_then(|text| Leaf::entry(text).ok());
            leaf.ok_or_else(|| unusable("with a body that is not in canonical JSON"))?
        };
        let line = Line::Leaf {
            index: entry.index,
            leaf,
        };
        let text = line.text() + "\n";
        if text.len() > LONGEST {
            return Err(unusable("with a body that is too long for a line"));
        }
        Ok(text)
    }

    /// Keeps what was written, and tells how to go on.
    fn interrupted(mut self, failure: Failure) -> Result<(), Failure> {
        self.sink.flush()?;
        if self.sink.is_begun_file() {
            note(&format!(
                "{} entries are in the file: go on with `--resume`",
                self.next
            ))?;
        }
        Err(failure)
    }
}

/// Ctrl-C: a file is left with whole lines; writing to stdout ends at once.
struct Interrupt(Option<Signal>);

impl Interrupt {
    fn of(sink: &Sink) -> Result<Self, Failure> {
        Ok(Self(match sink {
            Sink::File(_) => Some(signal(SignalKind::interrupt())?),
            Sink::Stdout(_) => None,
        }))
    }

    async fn comes(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}
