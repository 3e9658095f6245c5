//! Entries as they are shown.

use std::fmt::Write;

use authguardian_proto::audit::v1::Entry;
use serde::Serialize;

use crate::cli::{
    output::Row,
    value::{non_empty, or_dash, rfc3339, short_time},
};

#[derive(Debug, Serialize)]
pub(super) struct EntryView {
    /// `None`: not sealed yet.
    index: Option<u64>,
    sequence: u64,
    occurred_at: Option<String>,
    caller: String,
    key_id: Option<String>,
    machine_id: Option<String>,
    peer_address: Option<String>,
    zone: Option<String>,
    action: String,
    subject: String,
    agent_id: Option<String>,
    outcome: String,
    reason: Option<String>,
    request_id: Option<String>,
    trace_id: Option<String>,
    count: u64,
    /// `None`: not sealed yet.
    origin: Option<String>,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        Self {
            index: entry.index,
            sequence: entry.sequence,
            occurred_at: rfc3339(entry.occurred_at.as_ref()),
            caller: entry.caller,
            key_id: non_empty(entry.key_id),
            machine_id: non_empty(entry.machine_id),
            peer_address: non_empty(entry.peer_address),
            zone: non_empty(entry.zone),
            action: entry.action,
            subject: entry.subject,
            agent_id: non_empty(entry.agent_id),
            outcome: entry.outcome,
            reason: non_empty(entry.reason),
            request_id: non_empty(entry.request_id),
            trace_id: non_empty(entry.trace_id),
            count: entry.count,
            origin: non_empty(entry.origin),
        }
    }
}

impl EntryView {
    /// Columns of fixed width, since the end of the list is not known.
    pub(super) fn line(&self) -> String {
        let mut line = format!(
            "{:>8}  {}  {:<7}  {:<22}  {}  {}",
            self.place(),
            short_time(self.occurred_at.as_deref()),
            self.outcome,
            self.action,
            self.caller,
            or_dash(&self.subject),
        );
        if let Some(reason) = &self.reason {
            line.push_str("  ");
            line.push_str(reason);
        }
        if self.count > 1 {
            // writing to a String cannot fail
            let _ = write!(line, "  ({} times)", self.count);
        }
        line
    }

    fn place(&self) -> String {
        self.index
            .map_or_else(|| "-".to_owned(), |index| index.to_string())
    }
}

impl Row for EntryView {
    const PLURAL: &'static str = "entries";
    const COLUMNS: &'static [&'static str] = &[
        "INDEX", "WHEN", "OUTCOME", "ACTION", "CALLER", "SUBJECT", "REASON", "TIMES",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.place(),
            short_time(self.occurred_at.as_deref()),
            self.outcome.clone(),
            self.action.clone(),
            self.caller.clone(),
            or_dash(&self.subject),
            or_dash(self.reason.as_deref().unwrap_or_default()),
            self.count.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            occurred_at: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 5,
            }),
            caller: "agent:data_analyst".into(),
            action: "grant.request".into(),
            subject: "grt_x".into(),
            outcome: "denied".into(),
            reason: "SCORE_TOO_LOW".into(),
            count: 3,
            ..Entry::default()
        }
    }

    #[test]
    fn a_line_says_when_what_who_and_why() {
        assert_eq!(
            EntryView::from(entry()).line(),
            "       -  1970-01-01T00:00:00Z  denied   grant.request           agent:data_analyst  grt_x  SCORE_TOO_LOW  (3 times)"
        );
    }

    #[test]
    fn what_is_sealed_has_a_place() {
        let sealed = EntryView::from(Entry {
            index: Some(0),
            count: 1,
            reason: String::new(),
            ..entry()
        });
        assert!(sealed.line().starts_with("       0  1970"));
        let expected = [
            "0",
            "1970-01-01T00:00:00Z",
            "denied",
            "grant.request",
            "agent:data_analyst",
            "grt_x",
            "-",
            "1",
        ];
        assert_eq!(sealed.cells(), expected);
    }
}
