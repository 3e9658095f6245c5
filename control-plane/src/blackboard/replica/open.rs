//! Who a replica writes as, and how long it is waited for.

use std::collections::BTreeMap;

use authguardian_proto::ids::{BoardName, MachineId};
use time::OffsetDateTime;

use super::{delta::stands_for, eligible};
use crate::{
    blackboard::{Blackboard, store},
    error::Result,
    events::{self, Position},
};

/// How long what a replica has not heard of is kept for it.
const LEASE: time::Duration = time::Duration::days(30);

/// What a replica says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// As which it wrote last; 0: it never did.
    pub incarnation: u32,
    /// Its highest counter as that.
    pub counter: u64,
    /// Up to where it has each board.
    pub have: Vec<(BoardName, Position)>,
}

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// As which it writes from now on.
    pub incarnation: u32,
    /// How many of that one's writes some board has had.
    pub counter: u64,
    /// When its lease ends.
    pub leased_until: OffsetDateTime,
    /// The epoch of the database.
    pub epoch: i64,
}

impl Blackboard {
    /// Leases a replica's place and says which incarnation it writes as: the one
    /// that it has, unless more is known of that than it knows itself. Then its disk
    /// is older than what it once wrote, and it begins another.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open_replica(&self, machine: MachineId, opening: &Opening) -> Result<Opened> {
        let mut tx = self.db.begin().await?;
        let leased_until = self.ambient.clock.now() + LEASE;
        let last = store::lease_replica(&mut tx, machine, leased_until).await?;
        let asked = opening.incarnation;
        let received = store::received_of(&mut tx, machine, asked).await?;
        let is_whole = asked > 0 && received.unwrap_or(0) <= opening.counter;
        // one that was made up while we were away is known by what was written as it
        let is_known = asked <= last || received.is_some();
        let (incarnation, counter) = if is_whole && is_known {
            (asked, received.unwrap_or(0))
        } else {
            (store::next_incarnation(&mut tx, machine, asked).await?, 0)
        };
        // what it does not have yet is kept for it from the beginning
        let served = eligible::machine(&mut tx, machine).await?;
        let boards = eligible::boards(&mut tx, &served).await?;
        let mut have: BTreeMap<BoardName, i64> =
            boards.keys().map(|name| (name.clone(), 0)).collect();
        for (name, position) in &opening.have {
            if let Some(board) = boards.get(name)
                && let Some(revision) = stands_for(&mut tx, board, *position).await?
            {
                have.insert(name.clone(), revision);
            }
        }
        let have: Vec<_> = have.into_iter().collect();
        store::acknowledge(&mut tx, machine, &have).await?;
        let epoch = events::epoch::current(&mut tx).await?;
        self.db.quorum.commit(tx).await?;
        Ok(Opened {
            incarnation,
            counter,
            leased_until,
            epoch,
        })
    }
}
