//! Whether an agent can be expected to answer.

use serde::{Deserialize, Serialize};

use crate::registry::v1 as pb;

/// Whether an agent can be expected to answer. Ordered: the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Its edge vouches for it.
    Live,
    /// Nothing was heard for longer than usual.
    Suspect,
    /// Nothing was heard for so long that its lease has ended.
    Gone,
}

impl Liveness {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Live, Self::Suspect, Self::Gone];

    /// The stable name, as in results and changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
        }
    }

    /// As stored: 0, 1 or 2.
    pub const fn number(self) -> i16 {
        match self {
            Self::Live => 0,
            Self::Suspect => 1,
            Self::Gone => 2,
        }
    }

    /// Reads the stored form.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// Reads the message's form; `None` for `UNSPECIFIED` and unknown values.
    pub fn from_proto(liveness: i32) -> Option<Self> {
        match pb::Liveness::try_from(liveness).ok()? {
            pb::Liveness::Unspecified => None,
            pb::Liveness::Live => Some(Self::Live),
            pb::Liveness::Suspect => Some(Self::Suspect),
            pb::Liveness::Gone => Some(Self::Gone),
        }
    }

    /// The message's form.
    pub const fn to_proto(self) -> pb::Liveness {
        match self {
            Self::Live => pb::Liveness::Live,
            Self::Suspect => pb::Liveness::Suspect,
            Self::Gone => pb::Liveness::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_and_the_best_comes_first() {
        for one in Liveness::ALL {
            assert_eq!(Liveness::from_number(one.number()), Some(one));
            assert_eq!(Liveness::from_proto(one.to_proto().into()), Some(one));
        }
        assert!(Liveness::Live < Liveness::Suspect && Liveness::Suspect < Liveness::Gone);
        assert_eq!(Liveness::from_number(3), None);
        assert_eq!(Liveness::from_proto(0), None);
    }
}
