//! Locks: keys that one writer holds until he leaves them or their time is over.

use authguardian_proto::{
    board::{Key, Level},
    ids::BoardName,
};
use time::OffsetDateTime;

use super::{Plan, Step, conflict};
use crate::{
    blackboard::{
        access::{Writer, check_level},
        entry::{ChangeKind, Entry, Value},
        write::act::{LockAct, LockHeld, Outcome, Ttl},
    },
    error::Result,
};

impl Plan {
    pub(super) fn lock(
        &mut self,
        name: &BoardName,
        key: &Key,
        act: LockAct,
        writer: &Writer,
    ) -> Result<Outcome> {
        check_level(self.board(name)?, Level::Strong, "there are no locks")?;
        let before = self.entry(name, key).cloned();
        if before.as_ref().is_some_and(|entry| !entry.is_lock) {
            return Err(conflict(
                "key",
                format!("`{key}` holds a value, and is no lock"),
            ));
        }
        let living = before.as_ref().filter(|entry| !self.is_over(entry));
        match (act, living) {
            (LockAct::Acquire(ttl), None) => self.take(name, key, ttl, before.is_some(), writer),
            (LockAct::Renew { ttl, fencing }, Some(entry))
                if self.is_held(entry, writer, fencing) =>
            {
                let fencing_revision = entry.created_revision;
                let expires_at = Some(ttl.end(self.now));
                let step = Step {
                    value: entry.value.clone().or_else(|| Some(holder(writer))),
                    ..Step::of_lock(key, expires_at, true)
                };
                self.write(name, vec![step], writer)?;
                Ok(Outcome::Lock {
                    held: true,
                    fencing_revision,
                    expires_at,
                    holder: writer.name.clone(),
                })
            }
            (LockAct::Release { fencing }, Some(entry)) if self.is_held(entry, writer, fencing) => {
                let fencing_revision = entry.created_revision;
                self.write(name, vec![Step::gone(key, ChangeKind::Delete)], writer)?;
                Ok(Outcome::Lock {
                    held: false,
                    fencing_revision,
                    expires_at: None,
                    holder: String::new(),
                })
            }
            (_, living) => Ok(Outcome::Lock {
                held: false,
                fencing_revision: living.map_or(0, |entry| entry.created_revision),
                expires_at: living.and_then(|entry| entry.expires_at),
                holder: living.map(|entry| entry.writer.clone()).unwrap_or_default(),
            }),
        }
    }

    /// Takes a lock that nobody holds; the one that is over ends first, by a
    /// revision of its own.
    fn take(
        &mut self,
        name: &BoardName,
        key: &Key,
        ttl: Ttl,
        over: bool,
        writer: &Writer,
    ) -> Result<Outcome> {
        if over {
            let gone = Step::gone(key, ChangeKind::Expire);
            self.write(name, vec![gone], &Writer::system())?;
        }
        let expires_at = Some(ttl.end(self.now));
        let step = Step {
            value: Some(holder(writer)),
            ..Step::of_lock(key, expires_at, false)
        };
        self.write(name, vec![step], writer)?;
        Ok(Outcome::Lock {
            held: true,
            fencing_revision: self.revision(name, key),
            expires_at,
            holder: writer.name.clone(),
        })
    }

    /// Whether an entry is a lock that this writer holds now: one that is over,
    /// and not swept yet, is not held.
    pub(super) fn is_held(&self, entry: &Entry, writer: &Writer, fencing: Option<i64>) -> bool {
        entry.is_lock
            && entry.writer == writer.name
            && fencing.is_none_or(|fencing| fencing == entry.created_revision)
            && !self.is_over(entry)
    }

    pub(super) fn check_lock(
        &self,
        name: &BoardName,
        lock: &LockHeld,
        writer: &Writer,
    ) -> Result<()> {
        let fencing = Some(lock.fencing_revision);
        if self
            .entry(name, &lock.key)
            .is_some_and(|entry| self.is_held(entry, writer, fencing))
        {
            return Ok(());
        }
        let detail = format!(
            "lock `{}` is not held any more with fencing revision {}",
            lock.key, lock.fencing_revision
        );
        Err(conflict("if_lock", detail))
    }

    pub(super) fn check_no_lock(&self, name: &BoardName, key: &Key, field: &str) -> Result<()> {
        if self.entry(name, key).is_some_and(|entry| entry.is_lock) {
            return Err(conflict(
                field,
                format!(
                    "`{key}` is a lock, which only lock_acquire, lock_renew and lock_release change"
                ),
            ));
        }
        Ok(())
    }
}

impl Step {
    fn of_lock(key: &Key, expires_at: Option<OffsetDateTime>, goes_on: bool) -> Self {
        Self {
            key: key.clone(),
            kind: ChangeKind::Put,
            value: None,
            is_lock: true,
            goes_on,
            expires_at,
        }
    }
}

/// What a lock's key says: who has it.
fn holder(writer: &Writer) -> Value {
    let name = writer
        .agent
        .as_ref()
        .map_or(writer.name.as_str(), |agent| agent.as_str());
    Value::stored(serde_json::json!({ "holder": name }).to_string())
}
