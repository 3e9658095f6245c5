//! Refused calls: told one by one, but equal ones of one second as one entry
//! with a count, so that an attacker can flood neither the log nor memory.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use authguardian_proto::reason::Reason;
use time::OffsetDateTime;

use super::{Context, Entry, Outcome, append};
use crate::{clock::Ambient, db::Db, error::Result};

/// Most different refusals that wait; any further ones are counted together.
const DISTINCT: usize = 4096;

/// What two refusals have to share to be counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    second: OffsetDateTime,
    /// `None`: the many that did not fit.
    who: Option<(Context, String, Reason)>,
}

/// Refusals that are not in the log yet. They are lost with the process; what
/// an act changed never is, since its entry is in its own transaction.
#[derive(Debug)]
pub struct Refusals {
    db: Db,
    ambient: Ambient,
    waiting: Mutex<HashMap<Kind, i64>>,
}

impl Refusals {
    /// Collects for this database.
    pub fn new(db: Db, ambient: Ambient) -> Self {
        Self {
            db,
            ambient,
            waiting: Mutex::default(),
        }
    }

    /// Notes that a call was refused; `subject` is what was called.
    pub fn note(&self, context: Context, subject: &str, reason: Reason) {
        let now = self.ambient.clock.now();
        let second = now.replace_nanosecond(0).unwrap_or(now);
        // request and trace ids differ from call to call
        let context = Context {
            request_id: None,
            trace_id: None,
            ..context
        };
        let kind = Kind {
            second,
            who: Some((context, subject.to_owned(), reason)),
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = waiting.len() < DISTINCT || waiting.contains_key(&kind);
        let kind = if fits {
            kind
        } else {
            Kind { second, who: None }
        };
        *waiting.entry(kind).or_default() += 1;
    }

    /// Writes what waits; returns how many entries. What could not be written
    /// waits on.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn flush(&self) -> Result<u64> {
        let taken =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() {
            return Ok(0);
        }
        let written = self.write(&taken).await;
        if written.is_err() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for (kind, count) in taken {
                *waiting.entry(kind).or_default() += count;
            }
        }
        written
    }

    async fn write(&self, taken: &HashMap<Kind, i64>) -> Result<u64> {
        let mut by_second: HashMap<OffsetDateTime, Vec<Entry>> = HashMap::new();
        for (kind, count) in taken {
            by_second
                .entry(kind.second)
                .or_default()
                .push(entry(kind, *count));
        }
        let mut tx = self.db.begin().await?;
        for (second, entries) in &by_second {
            append(&mut tx, *second, entries).await?;
        }
        self.db.commit(tx).await?;
        Ok(taken.len() as u64)
    }
}

fn entry(kind: &Kind, count: i64) -> Entry {
    let (context, subject, reason) = match &kind.who {
        Some((context, subject, reason)) => (context.clone(), subject.clone(), Some(*reason)),
        None => (Context::system(), "many different callers".to_owned(), None),
    };
    let mut entry = Entry::ok(context, "call.refuse", subject).not_ok(Outcome::Refused, reason);
    entry.count = count;
    entry
}
