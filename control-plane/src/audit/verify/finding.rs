//! What does not fit.

use super::super::{
    log::{Kept, Log, Witness},
    witness::Contradiction,
};

/// What kind of thing does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An entry is not what was sealed.
    Changed,
    /// An entry is gone, and retention has not dropped it.
    Deleted,
    /// An entry stands where nothing was sealed.
    Inserted,
    /// An entry stands where another was sealed.
    Reordered,
    /// Leaf hashes are missing.
    Leaf,
    /// Hashes within the tree are not those of their leaves.
    Tree,
    /// The log's head is not the root of its tree.
    Head,
    /// A checkpoint is not what the tree was at its size, or was not signed
    /// here.
    Checkpoint,
    /// A machine has kept something else.
    Witness,
    /// The checkpoint from outside is not part of the log.
    OutsideCheckpoint,
    /// The log is shorter than somebody has seen it.
    Cut,
}

impl Kind {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Inserted => "inserted",
            Self::Reordered => "reordered",
            Self::Leaf => "leaf",
            Self::Tree => "tree",
            Self::Head => "head",
            Self::Checkpoint => "checkpoint",
            Self::Witness => "witness",
            Self::OutsideCheckpoint => "outside_checkpoint",
            Self::Cut => "cut",
        }
    }
}

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// In which log.
    pub origin: String,
    /// Which entry, or the first of a range; `None` where it is no entry.
    pub index: Option<i64>,
    /// One sentence.
    pub detail: String,
}

impl Finding {
    pub(super) fn of(log: &Log, kind: Kind, index: Option<i64>, detail: impl Into<String>) -> Self {
        Self {
            kind,
            origin: log.origin.clone(),
            index,
            detail: detail.into(),
        }
    }

    pub(super) fn inserted(log: &Log, size: i64, index: i64) -> Self {
        let detail =
            format!("entry {index} stands beyond the end of the log, which has {size} entries");
        Self::of(log, Kind::Inserted, Some(index), detail)
    }

    pub(super) fn witness(witness: &Witness, found: &Contradiction) -> Self {
        Self::kept(Kind::Witness, &witness.subject(), &witness.kept, found)
    }

    pub(super) fn outside(kept: &Kept, found: &Contradiction) -> Self {
        Self::kept(
            Kind::OutsideCheckpoint,
            "from outside there is",
            kept,
            found,
        )
    }

    fn kept(kind: Kind, whose: &str, kept: &Kept, found: &Contradiction) -> Self {
        let kind = match found {
            Contradiction::Cut { .. } => Kind::Cut,
            Contradiction::Other | Contradiction::NoLog => kind,
        };
        Self {
            kind,
            origin: kept.origin.clone(),
            index: None,
            detail: found.sentence(whose, kept),
        }
    }
}
