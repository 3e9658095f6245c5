//! Sealing: what is committed gets its place in the log and its leaf in the
//! tree, and once that has reached the write quorum, its head is signed.
//!
//! One sealer works at a time. It holds an advisory lock, and what fences it is
//! the row of the log: the head moves only from the size and root that were
//! read under its lock. A head that a failover undoes was never signed: signing
//! waits for the quorum, and a signature is kept only in the epoch in which its
//! head was sealed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use authguardian_proto::{
    checkpoint::Checkpoint,
    merkle::{Frontier, Hash, TileId},
    reason::Reason,
};
use sqlx::PgConnection;

use super::{
    Record,
    log::{CheckpointKeys, Head, Log, Signed},
    store,
};
use crate::{
    clock::Ambient,
    db::Db,
    error::{Error, Result},
};

/// Most entries of one transaction.
const BATCH: i64 = 4096;
/// Most batches of one activation.
const BATCHES: u32 = 256;

/// Seals entries.
#[derive(Debug)]
pub struct Sealer {
    db: Db,
    ambient: Ambient,
    keys: Arc<dyn CheckpointKeys>,
    /// The right edge of the tree as this sealer left it; it counts only while
    /// the log's head is still there.
    edge: Mutex<Option<(i64, Frontier)>>,
}

/// A log with a head to sign, and the epoch in which it was there.
struct Tip {
    log: Log,
    epoch: i64,
}

/// What one step found to do.
enum Step {
    /// Nothing, or another sealer does it.
    Idle,
    /// So many entries have their place; the head is to be signed.
    Sealed(Tip, usize),
    /// The head is there, and not signed yet.
    Unsigned(Tip),
}

impl Sealer {
    /// Seals in this database, signing with these keys.
    pub fn new(db: Db, ambient: Ambient, keys: Arc<dyn CheckpointKeys>) -> Self {
        Self {
            db,
            ambient,
            keys,
            edge: Mutex::default(),
        }
    }

    /// Seals and signs what there is; returns how many entries were sealed.
    ///
    /// # Errors
    /// When the database refuses, or the stored tree is not that of its head.
    pub async fn run(&self) -> Result<u64> {
        let mut connection = self.db.read().await?;
        let is_work = store::sealed::is_work(&mut connection).await?;
        drop(connection);
        if !is_work {
            return Ok(0);
        }
        // whoever else would run meanwhile loads its own
        let mut edge = self.edge().take();
        let sealed = self.seal_all(&mut edge).await;
        *self.edge() = edge;
        sealed
    }

    async fn seal_all(&self, edge: &mut Option<(i64, Frontier)>) -> Result<u64> {
        let mut sealed = 0;
        for _ in 0..BATCHES {
            match self.step(edge).await? {
                Step::Idle => break,
                Step::Unsigned(tip) => {
                    self.sign(&tip).await?;
                    break;
                }
                Step::Sealed(tip, count) => {
                    sealed += u64::try_from(count).map_err(Error::internal)?;
                    self.sign(&tip).await?;
                    if i64::try_from(count).map_err(Error::internal)? < BATCH {
                        break;
                    }
                }
            }
        }
        Ok(sealed)
    }

    fn edge(&self) -> MutexGuard<'_, Option<(i64, Frontier)>> {
        self.edge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One transaction: entries, leaves and head move together.
    async fn step(&self, edge: &mut Option<(i64, Frontier)>) -> Result<Step> {
        let mut tx = self.db.begin().await?;
        if !store::log::try_lock(&mut tx, store::log::Alone::Seals).await? {
            return Ok(Step::Idle);
        }
        let Some((mut log, epoch)) = store::log::lock_current(&mut tx).await? else {
            return Ok(Step::Idle);
        };
        let of = (log.number, log.origin.as_str());
        let records = store::sealed::seal(&mut tx, of, log.head.size, BATCH).await?;
        if records.is_empty() {
            let newest = store::checkpoint::newest(&mut tx, log.number).await?;
            let is_signed = newest.is_some_and(|signed| signed.head.size == log.head.size);
            let is_done = is_signed || log.head.size == 0;
            return Ok(if is_done {
                Step::Idle
            } else {
                Step::Unsigned(Tip { log, epoch })
            });
        }
        let leaves: Vec<Hash> = records.iter().map(|record| record.leaf().hash()).collect();
        // until it is committed, this edge is nobody's
        let mut frontier = match edge.take() {
            Some((number, known)) if number == log.number && is_at(&known, log.head) => known,
            _ => load(&mut tx, &log).await?,
        };
        let tiles = frontier.append(&leaves).map_err(Error::internal)?;
        store::tile::write(&mut tx, log.number, tiles).await?;
        let head = Head {
            size: i64::try_from(frontier.size()).map_err(Error::internal)?,
            root: frontier.root(),
        };
        store::log::advance(&mut tx, &log, head).await?;
        self.db.quorum.commit(tx).await?;
        log.head = head;
        *edge = Some((log.number, frontier));
        Ok(Step::Sealed(Tip { log, epoch }, leaves.len()))
    }

    /// Signs a head that has reached the quorum.
    async fn sign(&self, Tip { log, epoch }: &Tip) -> Result<()> {
        let key = self.keys.signer()?;
        let checkpoint = Checkpoint {
            origin: log.origin.clone(),
            size: log.head.size.unsigned_abs(),
            root: log.head.root,
        };
        let note = key
            .sign(&checkpoint)
            .ok_or_else(|| Error::internal("the origin of the log cannot stand in a checkpoint"))?;
        let signed = Signed {
            head: log.head,
            note,
            signed_at: self.ambient.clock.now(),
        };
        let mut tx = self.db.begin().await?;
        // a head that was read, and not written here, is proved by the same commit
        self.db.quorum.prove_by_commit(&mut tx).await?;
        store::checkpoint::insert(&mut tx, (log.number, *epoch), &signed).await?;
        self.db.commit(tx).await
    }
}

/// The right edge of a log's tree, which has to be that of its head.
async fn load(connection: &mut PgConnection, log: &Log) -> Result<Frontier> {
    let wanted: Vec<TileId> = Frontier::tiles(log.head.size.unsigned_abs());
    let tiles = store::tile::read(connection, log.number, &wanted).await?;
    let frontier = Frontier::load(log.head.size.unsigned_abs(), |id| tiles.get(id).cloned())
        .map_err(|error| tampered(log).caused_by(error))?;
    if frontier.root() == log.head.root {
        Ok(frontier)
    } else {
        Err(tampered(log))
    }
}

fn is_at(frontier: &Frontier, head: Head) -> bool {
    frontier.size() == head.size.unsigned_abs() && frontier.root() == head.root
}

fn tampered(log: &Log) -> Error {
    let detail = format!(
        "the tree of the audit log `{}` is not that of its head: nothing is sealed until it is; run `control-plane audit verify`",
        log.origin
    );
    Error::new(Reason::Internal, detail)
}

impl Record {
    /// The entry as it is hashed.
    pub fn leaf(&self) -> authguardian_proto::audit_leaf::AuditLeaf {
        authguardian_proto::audit_leaf::AuditLeaf {
            action: self.action.clone(),
            agent_id: self.agent_id.clone(),
            caller: self.caller.clone(),
            count: self.count.unsigned_abs(),
            key_id: self.key_id.clone(),
            machine_id: self.machine_id.map(|machine| machine.to_string()),
            occurred_at: micros(self.occurred_at),
            outcome: self.outcome.clone(),
            peer_address: self.peer_address.clone(),
            reason: self.reason.clone(),
            request_id: self.request_id.clone(),
            sequence: self.sequence.unsigned_abs(),
            subject: self.subject.clone(),
            trace_id: self.trace_id.clone(),
            zone: self.zone.clone(),
        }
    }
}

/// RFC 3339 in UTC with the six digits that the database keeps.
fn micros(time: time::OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond(),
    )
}
