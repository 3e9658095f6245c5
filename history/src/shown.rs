//! Calls and answers as a reader of a report sees them.

use std::fmt;

use crate::{
    eventual,
    operation::{
        Act, Answer, Call, Compare, Condition, Do, Entry, LockHeld, Operation, Outcome, Position,
        Refusal, Step, StepResult,
    },
};

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.revision)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}: {}", self.number, self.client, self.call)?;
        write!(f, " [{:?}..", self.start)?;
        match self.end {
            Some(end) => write!(f, "{end:?}]")?,
            None => write!(f, "]")?,
        }
        match &self.outcome {
            Outcome::Done(answer) => write!(f, ": {answer}"),
            Outcome::Refused(refusal) => write!(f, ": {refusal}"),
            Outcome::Unknown => write!(f, ": unknown"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get { key } => write!(f, "get {key:?}"),
            Self::Put {
                key,
                value,
                if_revision,
                if_lock,
                ttl,
            } => {
                write!(f, "put {key:?} = {}", short(value))?;
                conditions(f, *if_revision, if_lock.as_ref())?;
                ttl.map_or(Ok(()), |ttl| write!(f, " for {ttl:?}"))
            }
            Self::Delete {
                key,
                if_revision,
                if_lock,
            } => {
                write!(f, "delete {key:?}")?;
                conditions(f, *if_revision, if_lock.as_ref())
            }
            Self::List { prefix, after } => {
                write!(f, "list {prefix:?}")?;
                after
                    .as_ref()
                    .map_or(Ok(()), |after| write!(f, " after {after:?}"))
            }
            Self::Transact {
                compare,
                then,
                otherwise,
            } => {
                write!(f, "transaction if [")?;
                list(f, compare)?;
                write!(f, "] then [")?;
                list(f, then)?;
                write!(f, "] else [")?;
                list(f, otherwise)?;
                write!(f, "]")
            }
            Self::Lock {
                act,
                key,
                ttl,
                fencing_revision,
            } => {
                write!(f, "{act:?} lock {key:?}")?;
                if *act != Act::Release {
                    write!(f, " for {ttl:?}")?;
                }
                fencing_revision.map_or(Ok(()), |fencing| write!(f, " fencing {fencing}"))
            }
        }
    }
}

fn conditions(
    f: &mut fmt::Formatter<'_>,
    if_revision: Option<u64>,
    if_lock: Option<&LockHeld>,
) -> fmt::Result {
    if let Some(revision) = if_revision {
        write!(f, " if revision {revision}")?;
    }
    if let Some(lock) = if_lock {
        write!(f, " if lock {:?} {}", lock.key, lock.fencing_revision)?;
    }
    Ok(())
}

fn list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            write!(f, ", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

/// Of a long value only its beginning.
fn short(value: &str) -> String {
    if value.chars().count() <= 40 {
        return value.to_owned();
    }
    let beginning: String = value.chars().take(40).collect();
    format!("{beginning}… ({} bytes)", value.len())
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.key)?;
        match &self.condition {
            Condition::Revision(revision) => write!(f, "revision {revision}"),
            Condition::Held(fencing) => write!(f, "held {fencing}"),
            Condition::Value(value) => write!(f, "= {}", short(value)),
            Condition::Exists(exists) => write!(f, "exists {exists}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Do::Put(value) => write!(f, "put {:?} = {}", self.key, short(value)),
            Do::Delete => write!(f, "delete {:?}", self.key),
            Do::Get => write!(f, "get {:?}", self.key),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref().map_or("…".to_owned(), short);
        let what = if self.is_lock { "lock " } else { "" };
        write!(
            f,
            "{what}{:?} = {value} by {:?} (revision {}, created {})",
            self.key, self.writer, self.revision, self.created_revision
        )
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { entry, position } => write!(f, "{entry} at {position}"),
            Self::Absent { position } => write!(f, "not there at {position}"),
            Self::Written {
                position,
                previous_revision,
            } => write!(f, "written as {position}, before {previous_revision}"),
            Self::Deleted {
                deleted,
                position,
                previous_revision,
            } => write!(
                f,
                "deleted {deleted} at {position}, before {previous_revision}"
            ),
            Self::Listed {
                entries,
                more,
                position,
            } => {
                write!(f, "[")?;
                list(f, entries)?;
                let end = if *more { ", and more" } else { "" };
                write!(f, "]{end} at {position}")
            }
            Self::Transacted {
                succeeded,
                results,
                position,
            } => {
                write!(f, "succeeded {succeeded} at {position}: [")?;
                list(f, results)?;
                write!(f, "]")
            }
            Self::Locked {
                held,
                fencing_revision,
                holder,
                position,
            } => write!(
                f,
                "held {held}, fencing {fencing_revision}, holder {holder:?} at {position}"
            ),
        }
    }
}

impl fmt::Display for StepResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Got(None) => write!(f, "nothing"),
            Self::Got(Some(entry)) => write!(f, "{entry}"),
            Self::Changed(before) => write!(f, "before {before}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => write!(f, "not there"),
            Self::Conflict => write!(f, "conflict"),
            Self::Other(reason) => write!(f, "refused: {reason}"),
        }
    }
}

impl fmt::Display for eventual::Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.client)?;
        match &self.value {
            Some(value) => write!(f, "put {:?} = {}", self.key, short(value))?,
            None => write!(f, "delete {:?}", self.key)?,
        }
        if let Some(stamp) = &self.stamp {
            write!(f, " as {} in sight of {}", stamp.dot, stamp.clock)?;
        }
        write!(f, " [{:?}..", self.start)?;
        if let Some(end) = self.end {
            write!(f, "{end:?}")?;
        }
        write!(
            f,
            "]: {}",
            match self.fate {
                eventual::Fate::Acknowledged => "acknowledged",
                eventual::Fate::Refused => "refused",
                eventual::Fate::Unknown => "unknown",
            }
        )
    }
}

impl fmt::Display for eventual::Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {}", self.dot, short(value))?,
            None => write!(f, "{}, a tombstone,", self.dot)?,
        }
        write!(f, " in sight of {}, time {}", self.clock, self.time)
    }
}
