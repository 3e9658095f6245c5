//! Everything that clients and watchers of a board were told, to be judged.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use authguardian_history::{
    Entry, History, Position, WatchLog,
    check::{self, Report},
};

use super::progress::Progress;

/// Everything that clients and watchers of a round were told.
pub(super) struct AllTold {
    pub(super) history: History,
    pub(super) logs: Vec<WatchLog>,
    pub(super) last: (Position, Vec<Entry>),
    pub(super) progress: Progress,
    pub(super) resolved: usize,
}

impl AllTold {
    /// By every check; a history that is refuted is kept.
    pub(super) fn judge(&self, name: &str) -> Report {
        let report = check::linearizable(&self.history)
            .and_then(|_| check::locks(&self.history))
            .and_then(|()| check::nothing_lost(&self.history, &self.last.1, self.last.0))
            .and_then(|()| check::watch(&self.history, &self.logs));
        match report {
            Ok(report) => {
                let refused = self.progress.refused();
                assert!(refused.is_empty(), "{name}: refused: {refused:#?}");
                report
            }
            Err(violation) => {
                let kept = self.keep(name);
                panic!("{name}: {violation}\nthe history is in {}", kept.display());
            }
        }
    }

    /// Writes it down for people.
    pub(super) fn keep(&self, name: &str) -> PathBuf {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = place.join(format!("history-{name}.txt"));
        let mut text = String::new();
        for operation in &self.history.operations {
            writeln!(text, "{operation}").unwrap();
        }
        for log in &self.logs {
            for segment in &log.segments {
                writeln!(text, "{} after {:?}", log.name, segment.after).unwrap();
                for message in &segment.messages {
                    writeln!(text, "  {message}").unwrap();
                }
            }
        }
        std::fs::write(&path, text).unwrap();
        path
    }
}
