//! The lines of the journal.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ledger::Amount;
use crate::tail::write_line;

/// What the journals of this kind call themselves.
pub(super) const FORMAT: u32 = 1;

/// One line, which has done what it says when it is whole. Tasks are named once and
/// numbered; times are milliseconds since boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Record<'a> {
    /// The first line.
    Journal {
        /// As the control plane knows it.
        id: u64,
        format: u32,
    },
    /// From here on the machine was up since this boot; what was set aside before is gone,
    /// and counts as spent.
    Boot(#[serde(borrow)] Cow<'a, str>),
    /// A task has this number.
    Task {
        t: u32,
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow)]
        unit: Cow<'a, str>,
    },
    /// The sums of a slice. A mark that is lower counts only where more was given back.
    Slice {
        t: u32,
        epoch: u64,
        granted: Amount,
        returned: Amount,
        spent: Amount,
        mark: Amount,
        /// When its window began, seconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        w: Option<i64>,
    },
    /// What a slice has come to that is over, milliseconds since 1970.
    Past {
        #[serde(borrow)]
        task: Cow<'a, str>,
        epoch: u64,
        granted: Amount,
        returned: Amount,
        spent: Amount,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        w: Option<i64>,
        at: u64,
    },
    /// Slices that were over before, milliseconds since 1970 by the control plane, may be
    /// forgotten.
    Since(u64),
    /// Nothing is left to be told of a slice.
    Over { t: u32, epoch: u64 },
    /// An amount was set aside of a slice.
    Reserve {
        t: u32,
        id: Uuid,
        epoch: u64,
        n: Amount,
        until: u64,
        #[serde(borrow)]
        by: Cow<'a, str>,
        #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
        req: Option<Cow<'a, str>>,
    },
    /// It has come to this.
    Settle { t: u32, id: Uuid, n: Amount },
    /// It was not settled in time.
    Release { t: u32, id: Uuid },
    /// This was spent without being set aside.
    Spend {
        t: u32,
        epoch: u64,
        n: Amount,
        over: Amount,
        #[serde(borrow)]
        by: Cow<'a, str>,
        #[serde(borrow)]
        req: Cow<'a, str>,
    },
    /// In a journal that was written anew: what was set aside and is not any more.
    Ended {
        t: u32,
        id: Uuid,
        #[serde(borrow)]
        by: Cow<'a, str>,
        settled: bool,
    },
    /// Likewise: a request that is known, and what it had set aside.
    Reserved {
        t: u32,
        #[serde(borrow)]
        by: Cow<'a, str>,
        #[serde(borrow)]
        req: Cow<'a, str>,
        id: Uuid,
        n: Amount,
    },
    /// Likewise: and what it had spent.
    Spent {
        t: u32,
        #[serde(borrow)]
        by: Cow<'a, str>,
        #[serde(borrow)]
        req: Cow<'a, str>,
        n: Amount,
        over: Amount,
    },
}

impl<'a> Record<'a> {
    /// Appends the line.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        write_line(self, buffer);
    }

    /// Reads a line.
    ///
    /// # Errors
    /// Where it is none.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back() {
        let reserve = |req: Option<&'static str>| Record::Reserve {
            t: 3,
            id: Uuid::from_u128(7),
            epoch: 1,
            n: 9_007_199_254_740_991,
            until: 3_600_000,
            by: "agent/1".into(),
            req: req.map(Cow::from),
        };
        for record in [
            Record::Journal {
                id: u64::MAX,
                format: FORMAT,
            },
            Record::Boot("f3".into()),
            reserve(None),
            reserve(Some("a\"\\b")),
        ] {
            let mut line = Vec::new();
            record.write(&mut line);
            assert_eq!(line.split_inclusive(|byte| *byte == b'\n').count(), 1);
            assert_eq!(Record::read(&line).unwrap(), record);
        }
        assert!(Record::read(br#"{"boot":"x","over":{"t":1,"epoch":1}}"#).is_err());
        assert!(Record::read(br#"{"over":{"t":1,"epoch":1,"n":1}}"#).is_err());
    }
}
