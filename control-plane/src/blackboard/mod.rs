//! The blackboard: boards of keys and values that agents share. Each successful
//! call is one revision of its board, in the order of their commits; writers of a
//! board come in batches, readers share a barrier where their board is strong,
//! and watchers hear of a revision once no failover can undo it.
//!
//! What ends by itself is deleted by a revision of its own, by the database's
//! clock, so that all see it end at the same place in the order.

mod access;
mod board;
mod compact;
mod entry;
mod expire;
mod feed;
mod manage;
mod read;
mod replica;
mod store;
mod watch;
mod write;

use std::sync::Arc;

pub use access::Who;
use authguardian_proto::{board::Level, ids::BoardName};
pub use board::{Board, BoardUpdate, NewBoard};
pub use entry::{Change, ChangeKind, Entry, Value};
pub use read::{Listed, Range, Read, ReadFrom, key_not_found};
pub use replica::{Follow, News, Opened, Opening, PushedWrite, Refusal, Suspended, Taken};
use tokio_util::sync::CancellationToken;
pub use watch::{Filter, Message, Watch};
pub use write::{
    Act, Compare, Condition, Deed, LockAct, LockHeld, MergedWrite, Operation, Outcome, Performed,
    RefusedWrite, Ttl, Written,
};

use crate::{
    clock::Ambient,
    db::{Db, batch::Batcher},
    events::Publisher,
};

/// The blackboard of one control plane.
#[derive(Debug, Clone)]
pub struct Blackboard {
    db: Db,
    ambient: Ambient,
    writes: Batcher<write::Batch>,
    strong_reads: Batcher<read::Batch>,
    plain_reads: Batcher<read::Batch>,
    /// Of boards that were read here; a level never changes.
    levels: Arc<papaya::HashMap<BoardName, Level>>,
    feeds: Arc<feed::Feeds>,
    deltas: Arc<replica::Deltas>,
}

impl Blackboard {
    /// Starts the service; its streams end with `stop`.
    pub fn start(
        db: Db,
        ambient: Ambient,
        publisher: Arc<Publisher>,
        stop: CancellationToken,
    ) -> Self {
        let reads = |proved| Batcher::spawn(read::Batch::new(db.clone(), ambient.clone(), proved));
        Self {
            writes: Batcher::spawn(write::Batch::new(db.clone(), ambient.clone())),
            strong_reads: reads(true),
            plain_reads: reads(false),
            levels: Arc::default(),
            feeds: Arc::new(feed::Feeds::new(db.clone(), publisher, stop)),
            deltas: Arc::new(replica::Deltas::new(db.clone())),
            db,
            ambient,
        }
    }
}
