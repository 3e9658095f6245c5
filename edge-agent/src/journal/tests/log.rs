//! The audit log, and an edge that tells it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use authguardian_proto::audit::v1::{ReportCallsRequest, ReportedCall};
use tempfile::TempDir;

use super::BOOT;
use crate::{
    clock::{Ambient, manual::ManualClock},
    journal::{DIR, Journal, segment::BATCH},
};

/// What has come of calls on their way to the log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The highest number that is written, by journal.
    pub(crate) written: BTreeMap<String, u64>,
    /// What was written, as it was told.
    pub(crate) entries: Vec<ReportedCall>,
    /// Whether a disk was set back: then, a number may be used again for other calls.
    pub(crate) is_set_back: bool,
    /// What was sent under a number.
    sent: BTreeMap<(String, u64), Vec<ReportedCall>>,
}

/// What happens to a batch on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Through,
    RequestLost,
    ReplyLost,
}

/// An edge with a journal.
pub(crate) struct Edge {
    pub(crate) dir: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ambient: Ambient,
    pub(crate) journal: Arc<Journal>,
    pub(crate) log: Log,
}

impl Log {
    /// Writes a batch once.
    fn report(&mut self, report: ReportCallsRequest) -> u64 {
        assert!(
            (1..=BATCH).contains(&report.calls.len()),
            "{}",
            report.calls.len()
        );
        assert!(report.request_id.is_empty());
        let place = (report.journal_id.clone(), report.sequence);
        let ageless: Vec<_> = report.calls.iter().map(ageless).collect();
        let first = self.sent.entry(place).or_insert_with(|| ageless.clone());
        assert!(
            self.is_set_back || *first == ageless,
            "the same number has other calls: {first:?}, {ageless:?}"
        );
        let written = self.written.entry(report.journal_id).or_default();
        if report.sequence > *written {
            *written = report.sequence;
            self.entries.extend(report.calls);
        }
        *written
    }

    /// How many calls of each client are written.
    pub(crate) fn by_client(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for entry in &self.entries {
            *counts.entry(entry.client_address.clone()).or_default() += entry.count;
        }
        counts
    }

    /// How many calls are written.
    pub(crate) fn count(&self) -> u64 {
        self.entries.iter().map(|entry| entry.count).sum()
    }
}

impl Edge {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, ambient) = ManualClock::ambient();
        let journal = Journal::open_as(dir.path(), ambient.clone(), BOOT).unwrap();
        Self {
            dir,
            clock,
            ambient,
            journal,
            log: Log::default(),
        }
    }

    /// Tells what the journal has, until something does not get through; whether nothing
    /// waits.
    pub(crate) async fn ship(&mut self, way: Way) -> bool {
        while !self.journal.cut().await {
            if !self.ship_closed(way).await {
                return false;
            }
        }
        self.ship_closed(way).await
    }

    async fn ship_closed(&mut self, way: Way) -> bool {
        while let Some(batch) = self.journal.next().await.unwrap() {
            let message = self.journal.message(&batch);
            if way == Way::RequestLost {
                return false;
            }
            let written = self.log.report(message);
            if way == Way::ReplyLost {
                return false;
            }
            if !self.journal.written(batch, written).await {
                return false;
            }
        }
        true
    }

    /// The process is killed, and another one runs.
    pub(crate) fn restart(&mut self, boot: &str) {
        self.journal = Journal::open_as(self.dir.path(), self.ambient.clone(), boot).unwrap();
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The files of batches, in order.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let dir = self.dir.path().join(DIR);
        let entries = std::fs::read_dir(dir).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|is| is == "calls"));
        files.sort();
        files
    }

    /// The files of batches that were damaged.
    pub(crate) fn damaged(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path().join(DIR)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|is| is == "damaged"));
        files.sort();
        files
    }

    /// The file that is written.
    pub(crate) fn current(&self) -> PathBuf {
        self.files().pop().unwrap()
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let length = |path: &PathBuf| std::fs::metadata(path).unwrap().len();
        self.files().iter().map(length).sum()
    }
}

/// A copy of all files.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn ageless(call: &ReportedCall) -> ReportedCall {
    ReportedCall {
        age_seconds: 0,
        ..call.clone()
    }
}
