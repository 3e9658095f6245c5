//! The ledger: every movement, with what there was before and after it.

use authguardian_proto::ids::{MachineId, TaskId};
use time::OffsetDateTime;

use super::{
    account::{Account, Amount},
    plan::Held,
};

/// What was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The budget was made, or its window began.
    Created,
    /// The total was raised.
    ToppedUp,
    /// A machine was given more.
    Granted,
    /// A machine has given back.
    Returned,
    /// A machine has told that it spent.
    Reported,
    /// What was spent beyond what was there was covered.
    Covered,
    /// An operator has settled a slice.
    Settled,
    /// The budget was closed.
    Closed,
    /// A budget below this one was made.
    ChildCreated,
    /// Its total was raised.
    ChildToppedUp,
    /// What was spent of it counts here.
    ChildSpent,
    /// What was left of it is free here.
    ChildClosed,
    /// What was left when the window ended went into the next.
    CarriedOut,
    /// What was left of the window before.
    CarriedIn,
    /// A machine was given more than a restored database knew.
    Restored,
}

impl Kind {
    /// All of them, by their stored numbers.
    pub const ALL: [Self; 15] = [
        Self::Created,
        Self::ToppedUp,
        Self::Granted,
        Self::Returned,
        Self::Reported,
        Self::Covered,
        Self::Settled,
        Self::Closed,
        Self::ChildCreated,
        Self::ChildToppedUp,
        Self::ChildSpent,
        Self::ChildClosed,
        Self::CarriedOut,
        Self::CarriedIn,
        Self::Restored,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::ToppedUp => "topped_up",
            Self::Granted => "granted",
            Self::Returned => "returned",
            Self::Reported => "reported",
            Self::Covered => "covered",
            Self::Settled => "settled",
            Self::Closed => "closed",
            Self::ChildCreated => "child_created",
            Self::ChildToppedUp => "child_topped_up",
            Self::ChildSpent => "child_spent",
            Self::ChildClosed => "child_closed",
            Self::CarriedOut => "carried_out",
            Self::CarriedIn => "carried_in",
            Self::Restored => "restored",
        }
    }
}

/// One movement of a budget in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// What.
    pub kind: Kind,
    /// How much.
    pub amount: Amount,
    /// Of which window.
    pub window: Option<OffsetDateTime>,
    /// Whose slice, and which.
    pub slice: Option<(MachineId, i64)>,
    /// The budget below this one.
    pub child: Option<TaskId>,
    /// What there was before.
    pub before: Account,
    /// What there was after it.
    pub after: Account,
}

impl Movement {
    /// Of a machine's slice.
    pub fn of(kind: Kind, amount: Amount, held: &Held, before: Account, after: Account) -> Self {
        Self {
            kind,
            amount,
            window: held.window,
            slice: Some((held.machine, held.epoch)),
            child: None,
            before,
            after,
        }
    }
}

impl Movement {
    /// Of the budget itself, or of one below it.
    pub fn at(
        kind: Kind,
        amount: Amount,
        window: Option<OffsetDateTime>,
        child: Option<TaskId>,
        before: Account,
        after: Account,
    ) -> Self {
        Self {
            kind,
            amount,
            window,
            slice: None,
            child,
            before,
            after,
        }
    }
}

/// A movement and its number in its ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Counts the movements of the budget in the window, from 1.
    pub number: i64,
    /// It.
    pub movement: Movement,
    /// When.
    pub occurred_at: OffsetDateTime,
}
