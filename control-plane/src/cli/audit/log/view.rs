//! The logs as they are shown.

use authguardian_proto::{
    audit::v1::{GetLogResponse, Log, Witness},
    checkpoint::Checkpoint,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::cli::{
    audit::retention,
    output::Row,
    value::{non_empty, rfc3339, short_time},
};

#[derive(Debug, Serialize)]
pub(super) struct LogView {
    pub(super) logs: Vec<OneLogView>,
    #[serde(flatten)]
    pub(super) summary: SummaryView,
    pub(super) witnesses: Vec<WitnessView>,
}

#[derive(Debug, Serialize)]
pub(super) struct SummaryView {
    /// `None`: there is none yet.
    checkpoint: Option<String>,
    checkpoint_size: Option<u64>,
    signed_at: Option<String>,
    /// Entries that wait to be sealed.
    pending: u64,
    /// Days that bodies are kept; 0: for ever.
    retention_days: u32,
}

/// The summary for people: a whole note is for `--checkpoint`.
#[derive(Debug, Serialize)]
pub(super) struct SummaryLines {
    checkpoint: Option<String>,
    pending: u64,
    bodies_are_kept: String,
}

#[derive(Debug, Serialize)]
pub(super) struct OneLogView {
    origin: String,
    size: u64,
    root: String,
    epoch: u64,
    begun_at: Option<String>,
    /// `None`: it is the one that is written to.
    ended_at: Option<String>,
    /// Entries below have lost their bodies to retention.
    bodies_from: u64,
    verifier_keys: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct WitnessView {
    machine_id: String,
    origin: String,
    size: u64,
    root: String,
    seen_at: Option<String>,
    consistent: bool,
}

impl LogView {
    pub(super) fn new(found: GetLogResponse, retention_days: u32) -> Self {
        let signed = Checkpoint::read_unverified(&found.checkpoint).ok();
        Self {
            logs: found.logs.into_iter().map(OneLogView::from).collect(),
            summary: SummaryView {
                checkpoint: non_empty(found.checkpoint),
                checkpoint_size: signed.map(|checkpoint| checkpoint.size),
                signed_at: rfc3339(found.signed_at.as_ref()),
                pending: found.pending,
                retention_days,
            },
            witnesses: found.witnesses.into_iter().map(WitnessView::from).collect(),
        }
    }
}

impl From<SummaryView> for SummaryLines {
    fn from(summary: SummaryView) -> Self {
        let signed_at = short_time(summary.signed_at.as_deref());
        Self {
            checkpoint: summary
                .checkpoint_size
                .map(|size| format!("of {size} entries, signed at {signed_at}")),
            pending: summary.pending,
            bodies_are_kept: retention::kept(summary.retention_days),
        }
    }
}

impl From<Log> for OneLogView {
    fn from(log: Log) -> Self {
        Self {
            origin: log.origin,
            size: log.size,
            root: BASE64_STANDARD.encode(log.root),
            epoch: log.epoch,
            begun_at: rfc3339(log.begun_at.as_ref()),
            ended_at: rfc3339(log.ended_at.as_ref()),
            bodies_from: log.bodies_from,
            verifier_keys: log.verifier_keys,
        }
    }
}

impl From<Witness> for WitnessView {
    fn from(witness: Witness) -> Self {
        Self {
            machine_id: witness.machine_id,
            origin: witness.origin,
            size: witness.size,
            root: BASE64_STANDARD.encode(witness.root),
            seen_at: rfc3339(witness.seen_at.as_ref()),
            consistent: witness.consistent,
        }
    }
}

impl Row for OneLogView {
    const PLURAL: &'static str = "logs";
    const COLUMNS: &'static [&'static str] = &[
        "LOG",
        "SIZE",
        "ROOT",
        "EPOCH",
        "BEGUN",
        "ENDED",
        "BODIES FROM",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.origin.clone(),
            self.size.to_string(),
            self.root.clone(),
            self.epoch.to_string(),
            short_time(self.begun_at.as_deref()),
            short_time(self.ended_at.as_deref()),
            self.bodies_from.to_string(),
        ]
    }
}

impl Row for WitnessView {
    const PLURAL: &'static str = "witnesses";
    const COLUMNS: &'static [&'static str] = &["WITNESS", "SIZE", "SEEN", "LOG", "CONSISTENT"];

    fn cells(&self) -> Vec<String> {
        let consistent = if self.consistent { "yes" } else { "NO" };
        vec![
            self.machine_id.clone(),
            self.size.to_string(),
            short_time(self.seen_at.as_deref()),
            self.origin.clone(),
            consistent.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> GetLogResponse {
        GetLogResponse {
            logs: vec![Log {
                origin: "example.org/audit/0".into(),
                size: 7,
                root: vec![0; 32],
                ..Log::default()
            }],
            pending: 2,
            witnesses: vec![Witness {
                machine_id: "mch_7".into(),
                size: 6,
                ..Witness::default()
            }],
            ..GetLogResponse::default()
        }
    }

    #[test]
    fn programs_read_logs_summary_and_witnesses_as_one() {
        let json = serde_json::to_value(LogView::new(found(), 30)).unwrap();
        assert_eq!(json["logs"][0]["size"], 7);
        assert_eq!(
            (&json["pending"], &json["retention_days"]),
            (&2.into(), &30.into())
        );
        assert_eq!(json["checkpoint"], serde_json::Value::Null);
        assert_eq!(json["witnesses"][0]["consistent"], false);
    }

    #[test]
    fn a_witness_that_contradicts_is_seen_at_once() {
        let cells = WitnessView::from(found().witnesses.remove(0)).cells();
        assert_eq!(cells.last().unwrap(), "NO");
    }
}
