//! What a replica lacks of a board: read once for all that have come equally far.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    board::{Key, Level},
    ids::BoardName,
};
use sqlx::{Connection, PgConnection};
use tokio::{sync::OnceCell, time::Instant};

use super::Taken;
use crate::{
    blackboard::{
        board::{Board, not_found},
        entry::Entry,
        store,
    },
    db::Db,
    error::Result,
    events::Position,
};

/// Most versions, or changes, that are read at once.
const PAGE: i64 = 1000;

/// Most bytes of values of them, about.
const PAGE_BYTES: i64 = 1024 * 1024;

/// Between two parts of an eventual board, but for one that is being caught up with: what
/// is taken meanwhile is told together. The first after a pause is told at once.
const ROUND: Duration = Duration::from_millis(50);

/// Reads of a board that are kept for whoever comes as far a moment later.
const KEPT: usize = 8;

/// A part of a board, as no failover can undo it.
#[derive(Debug, Clone, Default)]
pub(in crate::blackboard) struct Delta {
    /// Of an eventual board, in the order of their revisions.
    pub(in crate::blackboard) versions: Vec<Taken>,
    /// Of a session board: what is in keys that have changed.
    pub(in crate::blackboard) entries: Vec<Entry>,
    /// Of a session board: keys that are gone.
    pub(in crate::blackboard) gone: Vec<Key>,
    /// Tombstones of an eventual board up to here are forgotten.
    pub(in crate::blackboard) collected: i64,
}

/// What comes after a position.
#[derive(Debug)]
pub(super) enum Next {
    /// This, up to there; `is_all`: there was no more when it was read.
    Delta {
        delta: Delta,
        up_to: Position,
        is_all: bool,
    },
    /// Nobody knows any more: the board has to be read anew.
    Gone,
}

type Cell = Arc<OnceCell<Arc<Next>>>;

/// By where a reader is and where the board was heard to be.
type Asked = (Position, Position, bool);

/// Reads for replicas, shared.
#[derive(Debug)]
pub(in crate::blackboard) struct Deltas {
    db: Db,
    began: Instant,
    kept: Mutex<HashMap<BoardName, VecDeque<(Asked, Cell)>>>,
}

impl Deltas {
    pub(in crate::blackboard) fn new(db: Db) -> Self {
        Self {
            db,
            began: Instant::now(),
            kept: Mutex::default(),
        }
    }

    /// When eventual boards that were read now go on: the same moment for all, who then
    /// have come equally far.
    pub(super) fn next_round(&self) -> Instant {
        let since = self.began.elapsed().as_millis();
        let rounds = u32::try_from(since / ROUND.as_millis()).unwrap_or(u32::MAX);
        self.began + ROUND * rounds.saturating_add(1)
    }

    /// What comes after a position, of a board that was heard to be at `head`;
    /// `begins`: for a reader that has nothing yet.
    pub(super) async fn after(
        &self,
        board: &BoardName,
        after: Position,
        head: Position,
        begins: bool,
    ) -> Result<Arc<Next>> {
        let cell = self.cell(board, (after, head, begins));
        let read = cell.get_or_try_init(|| async {
            let read = self.read(board, after, begins);
            self.db.unless_lost(read).await.map(Arc::new)
        });
        read.await.cloned()
    }

    fn cell(&self, board: &BoardName, asked: Asked) -> Cell {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.entry(board.clone()).or_default();
        if let Some((_, cell)) = kept.iter().find(|(known, _)| *known == asked) {
            return cell.clone();
        }
        let cell = Cell::default();
        kept.push_back((asked, cell.clone()));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        cell
    }

    async fn read(&self, name: &BoardName, after: Position, begins: bool) -> Result<Next> {
        let mut connection = self.db.read().await?;
        let mut snapshot = connection
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await?;
        let board = board(&mut snapshot, name).await?;
        let next = next(&mut snapshot, &board, after, begins).await?;
        self.db.end_proved(snapshot).await?;
        Ok(next)
    }

    /// A page of a session board's keys, after one, and where the board was.
    pub(super) async fn page(
        &self,
        name: &BoardName,
        after: Option<&Key>,
    ) -> Result<(Delta, bool, Position)> {
        let read = async {
            let mut connection = self.db.read().await?;
            let mut snapshot = connection
                .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                .await?;
            let board = board(&mut snapshot, name).await?;
            let after = after.map_or("", Key::as_str);
            let listed = store::list(&mut snapshot, name, "", after, false, PAGE, PAGE_BYTES);
            let (entries, is_whole) = listed.await?;
            self.db.end_proved(snapshot).await?;
            let is_all = is_whole && entries.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            let delta = Delta {
                entries,
                ..Delta::default()
            };
            Ok((delta, is_all, board.position))
        };
        self.db.unless_lost(read).await
    }
}

async fn board(connection: &mut PgConnection, name: &BoardName) -> Result<Board> {
    let mut boards = store::boards(connection, BTreeSet::from([name])).await?;
    boards.remove(name).ok_or_else(|| not_found(name))
}

async fn next(
    connection: &mut PgConnection,
    board: &Board,
    after: Position,
    begins: bool,
) -> Result<Next> {
    let Some(revision) = stands_for(connection, board, after).await? else {
        return Ok(Next::Gone);
    };
    let (delta, last) = if board.level == Level::Eventual {
        if revision < board.collected && !begins {
            return Ok(Next::Gone);
        }
        versions(connection, board, revision).await?
    } else {
        if revision < board.floor {
            return Ok(Next::Gone);
        }
        entries(connection, board, revision).await?
    };
    Ok(Next::Delta {
        delta,
        up_to: Position {
            revision: last.unwrap_or(board.position.revision),
            ..board.position
        },
        is_all: last.is_none(),
    })
}

/// Versions after a revision, and up to where where that is not all.
async fn versions(
    connection: &mut PgConnection,
    board: &Board,
    after: i64,
) -> Result<(Delta, Option<i64>)> {
    let read = store::versions_after(connection, &board.name, after, PAGE, PAGE_BYTES);
    let (versions, is_all) = read.await?;
    let last = versions.last().map(|taken| taken.revision);
    let delta = Delta {
        versions,
        collected: board.collected,
        ..Delta::default()
    };
    Ok((delta, last.filter(|_| !is_all)))
}

/// As [`versions`], of a session board: keys that have changed since, as they are
/// now.
async fn entries(
    connection: &mut PgConnection,
    board: &Board,
    after: i64,
) -> Result<(Delta, Option<i64>)> {
    let head = board.position.revision;
    let mut changed = store::changed_keys(connection, &board.name, after, head, PAGE).await?;
    let mut is_all = i64::try_from(changed.len()).unwrap_or(i64::MAX) < PAGE;
    let mut bytes = 0;
    let fits = changed.iter().take_while(|change| {
        bytes += change.bytes;
        bytes <= PAGE_BYTES
    });
    // one at least, however large
    let fits = fits.count().max(1);
    if fits < changed.len() {
        changed.truncate(fits);
        is_all = false;
    }
    let last = changed.last().map(|change| change.revision);
    let keys: BTreeSet<Key> = changed.into_iter().map(|change| change.key).collect();
    let places = keys.iter().map(|key| ((&board.name, key), true));
    let places = places.collect();
    let mut found = store::entries(connection, &places).await?;
    let mut delta = Delta::default();
    for key in &keys {
        match found.remove(&(board.name.clone(), key.clone())) {
            Some(known) => delta.entries.push(known.entry),
            None => delta.gone.push(key.clone()),
        }
    }
    Ok((delta, last.filter(|_| !is_all)))
}

/// The revision of the present epoch that a position stands for; `None`: of no
/// board that there is now.
pub(super) async fn stands_for(
    connection: &mut PgConnection,
    board: &Board,
    position: Position,
) -> Result<Option<i64>> {
    let is = board.position;
    let revision = position.revision;
    if position.epoch == is.epoch {
        return Ok((revision <= is.revision).then_some(revision));
    }
    if position.epoch > is.epoch {
        return Ok(None);
    }
    let up_to = store::resumable_up_to(connection, &board.name, position.epoch).await?;
    Ok(up_to
        .is_some_and(|up_to| revision <= up_to)
        .then_some(revision))
}
