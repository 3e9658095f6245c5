//! Reading a whole log again: every entry against its leaf, every leaf against
//! the tree, the tree against every signed head, and all of it against what
//! machines, or a file from outside, have kept.
//!
//! What is found is named: an entry that was changed, deleted, put in or moved
//! differs from its leaf; where leaves were changed with it, the tree differs
//! from a checkpoint, whose signature nobody can make with the database alone;
//! and where the tail was cut together with its checkpoints, the log is
//! shorter than somebody has seen it.

mod bodies;
mod finding;
mod heads;

use authguardian_proto::{checkpoint::VerifierKey, merkle::Frontier};
pub(super) use bodies::leaves;
pub use finding::{Finding, Kind};

use self::{bodies::Bodies, heads::Heads};
use super::{
    log::{Kept, Log, verifier_keys},
    store,
    witness::contradiction,
};
use crate::{
    db::Db,
    error::{Error, Result},
};

/// Tiles of leaf hashes that are read at once: 16,384 entries.
const TILES: i64 = 64;
/// Most findings that are told; the others are counted.
const TOLD: usize = 1000;
/// Most entries beyond the end of a log that are looked for.
const BEYOND: i64 = 1000;

/// What to hold the log against besides itself.
#[derive(Debug, Default)]
pub struct Outside {
    /// A checkpoint from outside, a signed note; empty: none.
    pub checkpoint: String,
    /// Public keys that have signed checkpoints or may.
    pub public_keys: Vec<[u8; 32]>,
}

/// How far a verification has come, and what it has found since it was last
/// asked.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Entries read so far.
    pub entries: u64,
    /// Entries that there are.
    pub entries_in_all: u64,
    /// Checkpoints checked.
    pub checkpoints: u64,
    /// Entries whose bodies retention has dropped.
    pub dropped: u64,
    /// What does not fit; the first thousand of all.
    pub findings: Vec<Finding>,
    /// How many findings there are, told or not.
    pub findings_in_all: u64,
}

/// A verification that goes on step by step, so that its caller can tell how
/// far it is.
#[derive(Debug)]
pub struct Verification {
    db: Db,
    outside: Outside,
    /// Logs that are still to be read; the last one is being read.
    logs: Vec<Log>,
    all: Vec<Log>,
    reading: Option<Reading>,
    progress: Progress,
    told: usize,
    done: bool,
}

/// One log being read.
#[derive(Debug)]
struct Reading {
    log: Log,
    keys: Vec<VerifierKey>,
    /// The tree that the leaf hashes make, as far as they were read.
    frontier: Frontier,
    bodies: Bodies,
    heads: Heads,
}

impl Verification {
    /// Begins to read the log of an origin, or all of them.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when there is no such log, or the checkpoint from
    /// outside is none that was signed here.
    pub async fn begin(db: Db, origin: &str, outside: Outside) -> Result<Self> {
        let mut connection = db.read().await?;
        let all = store::log::all(&mut connection).await?;
        drop(connection);
        let mut logs: Vec<Log> = all
            .iter()
            .filter(|log| origin.is_empty() || log.origin == origin)
            .cloned()
            .collect();
        if logs.is_empty() && !origin.is_empty() {
            let expected = "expected the origin of a log; `control-plane audit log` names them";
            return Err(Error::invalid("origin", expected));
        }
        let sizes = logs.iter().map(|log| log.head.size.unsigned_abs());
        let entries_in_all = sizes.sum();
        logs.reverse();
        let mut this = Self {
            db,
            outside,
            logs,
            all,
            reading: None,
            progress: Progress {
                entries_in_all,
                ..Progress::default()
            },
            told: 0,
            done: false,
        };
        this.check_outside().await?;
        Ok(this)
    }

    /// Reads on for a while; `None` once all has been told.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn step(&mut self) -> Result<Option<Progress>> {
        if self.done {
            return Ok(None);
        }
        if let Some(reading) = self.reading.take() {
            self.read_on(reading).await?;
        } else if let Some(log) = self.logs.pop() {
            self.reading = Some(self.open(log)?);
        } else {
            self.check_witnesses().await?;
            self.done = true;
        }
        let mut progress = self.progress.clone();
        self.progress.findings.clear();
        progress.findings_in_all = self.progress.findings_in_all;
        Ok(Some(progress))
    }

    /// Whether everything was read and told.
    pub fn is_done(&self) -> bool {
        self.done
    }

    fn open(&self, log: Log) -> Result<Reading> {
        Ok(Reading {
            keys: verifier_keys(&log.origin, &self.outside.public_keys),
            frontier: Frontier::load(0, |_| None).map_err(Error::internal)?,
            bodies: Bodies::default(),
            heads: Heads::default(),
            log,
        })
    }

    /// Reads the next leaves of a log, and ends it where there are no more.
    async fn read_on(&mut self, mut reading: Reading) -> Result<()> {
        let size = reading.frontier.size();
        let mut connection = self.db.read().await?;
        let of = (reading.log.number, reading.log.origin.as_str());
        let from = i64::try_from(size / 256).map_err(Error::internal)?;
        let tiles = store::tile::level(&mut connection, (of.0, 0), from, TILES).await?;
        let leaves = bodies::leaves(&tiles, from, reading.log.head.size);
        // of a tile that is not whole, which is the last one, all was read before
        let read_before = usize::try_from(size % 256).map_err(Error::internal)?;
        let leaves = leaves.get(read_before..).unwrap_or_default();
        if leaves.is_empty() {
            let found = reading.end(&mut connection).await?;
            self.progress.checkpoints += reading.heads.checked;
            self.find(found);
            return Ok(());
        }
        let first = reading.log.bodies_from;
        let range = (
            i64::try_from(size).map_err(Error::internal)?,
            i64::try_from(size).map_err(Error::internal)?
                + i64::try_from(leaves.len()).map_err(Error::internal)?,
        );
        let limit = range.1 - range.0;
        let records = store::sealed::range(&mut connection, of, range, limit).await?;
        // retention may have gone on meanwhile
        let kept_from = store::log::all(&mut connection)
            .await?
            .into_iter()
            .find(|log| log.number == of.0)
            .map_or(first, |log| log.bodies_from);
        let mut found = reading
            .bodies
            .compare(&reading.log, range.0, leaves, &records, kept_from);
        self.progress.dropped += reading.bodies.take_dropped();
        found.extend(
            reading
                .heads
                .follow(
                    &mut connection,
                    (&reading.log, &reading.keys),
                    &mut reading.frontier,
                    leaves,
                )
                .await?,
        );
        self.progress.entries += leaves.len() as u64;
        drop(connection);
        self.find(found);
        self.reading = Some(reading);
        Ok(())
    }

    /// A checkpoint from outside has to be part of the log that it names.
    async fn check_outside(&mut self) -> Result<()> {
        if self.outside.checkpoint.is_empty() {
            return Ok(());
        }
        let kept = Kept::open(
            "checkpoint",
            &self.outside.checkpoint,
            &self.outside.public_keys,
        )?;
        let mut connection = self.db.read().await?;
        let found = contradiction(&mut connection, &self.all, &kept).await?;
        drop(connection);
        let found = found.map(|found| Finding::outside(&kept, &found));
        self.find(found.into_iter().collect());
        self.progress.checkpoints += 1;
        Ok(())
    }

    /// What machines have kept has to be part of the logs.
    async fn check_witnesses(&mut self) -> Result<()> {
        let mut connection = self.db.read().await?;
        // as they are now: a machine may have seen more than there was at first
        let logs = store::log::all(&mut connection).await?;
        let mut found = Vec::new();
        for witness in store::witness::all(&mut connection).await? {
            if let Some(contradiction) =
                contradiction(&mut connection, &logs, &witness.kept).await?
            {
                found.push(Finding::witness(&witness, &contradiction));
            }
        }
        drop(connection);
        self.find(found);
        Ok(())
    }

    fn find(&mut self, found: Vec<Finding>) {
        self.progress.findings_in_all += found.len() as u64;
        let room = TOLD.saturating_sub(self.told);
        self.told += found.len().min(room);
        self.progress.findings.extend(found.into_iter().take(room));
    }
}

impl Reading {
    /// What only the whole log can tell.
    async fn end(&mut self, connection: &mut sqlx::PgConnection) -> Result<Vec<Finding>> {
        let mut found = self.bodies.end(&self.log);
        found.extend(
            self.heads
                .end(connection, (&self.log, &self.keys), &self.frontier)
                .await?,
        );
        // against the head of that moment: the log may have grown since it was read
        for (index, size) in store::sealed::beyond(connection, self.log.number, BEYOND).await? {
            found.push(Finding::inserted(&self.log, size, index));
        }
        Ok(found)
    }
}
