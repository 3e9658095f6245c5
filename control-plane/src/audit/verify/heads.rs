//! Leaves against the tree, and the tree against every head.

use authguardian_proto::{
    checkpoint::{Checkpoint, VerifierKey},
    merkle::{Frontier, Hash, TileId, Tiles},
};
use sqlx::PgConnection;

use super::{Finding, Kind};
use crate::{
    audit::{
        log::{Log, Signed},
        store,
    },
    error::{Error, Result},
};

/// Checkpoints that are read at once.
const PAGE: i64 = 1000;

/// The signed heads, as the leaves come to them.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Read and not come to yet, the nearest last.
    waiting: Vec<Signed>,
    /// Sizes from here on were not read yet.
    read_to: i64,
    /// All were read.
    all: bool,
    /// The last size whose root was that of a signed head.
    proved: i64,
    pub(super) checked: u64,
    /// The first one that did not fit was told.
    told: bool,
}

impl Heads {
    /// Appends the leaves, stopping at each head on the way to compare roots.
    pub(super) async fn follow(
        &mut self,
        connection: &mut PgConnection,
        (log, keys): (&Log, &[VerifierKey]),
        frontier: &mut Frontier,
        mut leaves: &[Hash],
    ) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        while !leaves.is_empty() {
            let size = i64::try_from(frontier.size()).map_err(Error::internal)?;
            let next = self
                .next(connection, log)
                .await?
                .map(|signed| signed.head.size);
            let room = next.map_or(leaves.len(), |next| {
                usize::try_from(next - size)
                    .unwrap_or_default()
                    .min(leaves.len())
            });
            let (now, later) = leaves.split_at(room);
            let tiles = frontier.append(now).map_err(Error::internal)?;
            found.extend(compare_tiles(connection, log, tiles).await?);
            leaves = later;
            if next == i64::try_from(frontier.size()).ok()
                && let Some(signed) = self.waiting.pop()
            {
                found.extend(self.check(log, keys, &signed, frontier));
            }
        }
        Ok(found)
    }

    /// The next head that the leaves come to.
    async fn next(&mut self, connection: &mut PgConnection, log: &Log) -> Result<Option<&Signed>> {
        if self.waiting.is_empty() && !self.all {
            let mut page =
                store::checkpoint::from(connection, log.number, self.read_to + 1, PAGE).await?;
            self.all = page.is_empty();
            self.read_to = page.last().map_or(self.read_to, |last| last.head.size);
            page.reverse();
            self.waiting = page;
        }
        Ok(self.waiting.last())
    }

    fn check(
        &mut self,
        log: &Log,
        keys: &[VerifierKey],
        signed: &Signed,
        frontier: &Frontier,
    ) -> Option<Finding> {
        self.checked += 1;
        let size = signed.head.size;
        if let Some(wrong) = wrong_note(log, keys, signed) {
            return Some(Finding::of(log, Kind::Checkpoint, None, wrong));
        }
        if frontier.root() == signed.head.root {
            self.proved = size;
            return None;
        }
        // every later one differs as well
        let first = !std::mem::replace(&mut self.told, true);
        first.then(|| {
            let detail = format!(
                "the leaves of entries {} to {} are not those that were signed: the root at size {size} is another",
                self.proved,
                size - 1
            );
            Finding::of(log, Kind::Changed, Some(self.proved), detail)
        })
    }

    /// What is left when there are no more leaves.
    pub(super) async fn end(
        &mut self,
        connection: &mut PgConnection,
        (log, keys): (&Log, &[VerifierKey]),
        frontier: &Frontier,
    ) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        let leaves = i64::try_from(frontier.size()).map_err(Error::internal)?;
        if leaves < log.head.size {
            let detail = format!(
                "the log has {} entries, and the leaf of entry {leaves} is missing",
                log.head.size
            );
            // there is nothing to hold later heads against
            return Ok(vec![Finding::of(log, Kind::Leaf, Some(leaves), detail)]);
        }
        if frontier.root() != log.head.root {
            let detail = format!("the log's root at {leaves} entries is not that of its leaves");
            found.push(Finding::of(log, Kind::Head, None, detail));
        }
        while let Some(signed) = self.next(connection, log).await?.cloned() {
            self.waiting.pop();
            // one that was signed since the log's head was read is no finding
            if signed.head.size > log.head.size && self.is_grown(connection, log, &signed).await? {
                continue;
            }
            self.checked += 1;
            let detail = wrong_note(log, keys, &signed).unwrap_or_else(|| {
                format!(
                    "a checkpoint of {} entries was signed, and the log has {}",
                    signed.head.size, log.head.size
                )
            });
            found.push(Finding::of(log, Kind::Cut, None, detail));
        }
        Ok(found)
    }

    /// Whether the log has grown to this head meanwhile.
    async fn is_grown(
        &self,
        connection: &mut PgConnection,
        log: &Log,
        signed: &Signed,
    ) -> Result<bool> {
        let logs = store::log::all(connection).await?;
        let now = logs.iter().find(|now| now.number == log.number);
        Ok(now.is_some_and(|now| now.head.size >= signed.head.size))
    }
}

/// Why a note is not the checkpoint that it is kept as.
fn wrong_note(log: &Log, keys: &[VerifierKey], signed: &Signed) -> Option<String> {
    let size = signed.head.size;
    match Checkpoint::open(&signed.note, keys) {
        Err(error) => Some(format!("the checkpoint of {size} entries: {error}")),
        Ok(read) => {
            let fits = read.origin == log.origin
                && read.size == size.unsigned_abs()
                && read.root == signed.head.root;
            (!fits).then(|| {
                format!("the checkpoint of {size} entries says something else than its row")
            })
        }
    }
}

/// Stored tiles of the upper levels against those that the leaves make; the
/// tiles of the leaves are what was read.
async fn compare_tiles(
    connection: &mut PgConnection,
    log: &Log,
    made: std::collections::BTreeMap<TileId, Vec<u8>>,
) -> Result<Vec<Finding>> {
    let upper: Vec<TileId> = made.keys().copied().filter(|id| id.level > 0).collect();
    if upper.is_empty() {
        return Ok(Vec::new());
    }
    let stored: Tiles = store::tile::read(connection, log.number, &upper).await?;
    let differs = upper.into_iter().filter(|id| {
        let stored = stored.get(*id).map(Vec::as_slice).unwrap_or_default();
        // what is stored may have grown further
        !stored.starts_with(&made[id])
    });
    Ok(differs
        .map(|id| {
            let detail = format!(
                "tile {} of level {} of the tree is not that of its leaves",
                id.index, id.level
            );
            Finding::of(log, Kind::Tree, None, detail)
        })
        .collect())
}
