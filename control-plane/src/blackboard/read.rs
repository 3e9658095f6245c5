//! Reading boards, by the batch: concurrent readers share a statement, and a
//! barrier where the answer has to be linearizable.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use authguardian_proto::{
    board::{Key, Level},
    ids::BoardName,
    reason::{Problem, Reason},
};
use sqlx::{Connection, PgConnection};

use super::{
    Blackboard, Who,
    access::{Rights, Want},
    board::{Board, not_found},
    entry::Entry,
    store,
    write::Known,
};
use crate::{
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
    },
    error::{Error, Result},
    events::Position,
};

/// Most bytes of values on a page.
const PAGE_BYTES: i64 = 1024 * 1024;

/// How new an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadFrom {
    /// Linearizable, whatever the board's level.
    pub strong: bool,
    /// As new as this, at least.
    pub after: Option<Position>,
}

/// What is in a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<E = Entry> {
    /// What.
    pub entry: E,
    /// Where the board was.
    pub position: Position,
    /// How many database nodes have it, at least.
    pub copies: u32,
}

/// Keys of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// In byte order.
    pub entries: Vec<Entry>,
    /// There may be more after this key.
    pub next: Option<Key>,
    /// Where the board was.
    pub position: Position,
    /// How many database nodes have it, at least.
    pub copies: u32,
}

impl Blackboard {
    /// Reads a key.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `BOARD_NOT_FOUND`, `PERMISSION_DENIED`,
    /// `TRUST_TOO_LOW`, `SUSPENDED`, `COMPACTED` (a position that is gone),
    /// `INVALID_ARGUMENT` (one that never was), `UNAVAILABLE`.
    pub async fn get(&self, who: Who, board: BoardName, key: Key, from: ReadFrom) -> Result<Read> {
        let read = self.find(who, board, &key, from).await?;
        Ok(Read {
            entry: read.entry.ok_or_else(|| key_not_found(&key))?,
            position: read.position,
            copies: read.copies,
        })
    }

    /// Reads a key, which may be not there.
    ///
    /// # Errors
    /// As [`Blackboard::get`], but for `KEY_NOT_FOUND`.
    pub async fn find(
        &self,
        who: Who,
        board: BoardName,
        key: &Key,
        from: ReadFrom,
    ) -> Result<Read<Option<Entry>>> {
        let found = self.read(who, board, Ask::Key(key.clone()), from).await?;
        Ok(Read {
            entry: found.entries.into_iter().next(),
            position: found.position,
            copies: found.copies,
        })
    }

    /// Lists keys that begin with `prefix`, after one of them.
    ///
    /// # Errors
    /// As [`Blackboard::get`], but for `KEY_NOT_FOUND`.
    pub async fn list(
        &self,
        who: Who,
        board: BoardName,
        range: Range,
        from: ReadFrom,
    ) -> Result<Listed> {
        let limit = range.limit as usize;
        let found = self.read(who, board, Ask::Range(range), from).await?;
        let last = found.entries.last().map(|entry| entry.key.clone());
        Ok(Listed {
            // a page may also end with its bytes
            next: last.filter(|_| found.entries.len() >= limit || found.cut),
            entries: found.entries,
            position: found.position,
            copies: found.copies,
        })
    }

    async fn read(&self, who: Who, board: BoardName, ask: Ask, from: ReadFrom) -> Result<Found> {
        let request = |proved| Request {
            who: who.clone(),
            board: board.clone(),
            ask: ask.clone(),
            after: from.after,
            proved,
        };
        let known = self.levels.pin().get(&board).copied();
        if from.strong || known == Some(Level::Strong) {
            return self.strong_reads.call(request(true)).await;
        }
        let found = match self.plain_reads.call(request(false)).await {
            // a server that was succeeded does not know it: only a proved answer says that
            // nobody can have seen so much
            Err(error) if from.after.is_some() && error.reason() == Reason::Unavailable => {
                return self.strong_reads.call(request(true)).await;
            }
            found => found?,
        };
        self.levels.pin().insert(board.clone(), found.level);
        if found.level == Level::Strong {
            // only the first reader of a board does not know yet
            return self.strong_reads.call(request(true)).await;
        }
        Ok(found)
    }
}

/// Keys of a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// What they begin with.
    pub prefix: String,
    /// Only those after it.
    pub after: Option<Key>,
    /// Whether values are left out.
    pub keys_only: bool,
    /// How many at most.
    pub limit: u32,
}

/// A key that is not there.
pub fn key_not_found(key: &Key) -> Error {
    let detail = format!("there is no key `{key}`");
    Problem::new(Reason::KeyNotFound, detail).at("key").into()
}

#[derive(Debug, Clone)]
enum Ask {
    Key(Key),
    Range(Range),
}

/// One call in a batch.
pub(super) struct Request {
    who: Who,
    board: BoardName,
    ask: Ask,
    after: Option<Position>,
    /// Whether a barrier follows.
    proved: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Found {
    level: Level,
    entries: Vec<Entry>,
    /// Whether the page is shorter than asked for, and not the last.
    cut: bool,
    position: Position,
    copies: u32,
}

/// The batch operation: reads in one snapshot, then one barrier for all.
pub(super) struct Batch {
    db: Db,
    ambient: Ambient,
    /// Whether a barrier proves what was read.
    proved: bool,
}

impl Batch {
    pub(super) fn new(db: Db, ambient: Ambient, proved: bool) -> Self {
        Self {
            db,
            ambient,
            proved,
        }
    }

    async fn read(
        &self,
        connection: &mut PgConnection,
        requests: &[Request],
    ) -> Result<Vec<Result<Found>>> {
        let names: BTreeSet<&BoardName> = requests.iter().map(|request| &request.board).collect();
        let boards = store::boards(connection, names).await?;
        let calls = requests
            .iter()
            .map(|request| (&request.who, boards.get(&request.board)));
        let rights = Rights::read(connection, calls, self.ambient.clock.now()).await?;
        let mut places = BTreeMap::new();
        for request in requests {
            if let Ask::Key(key) = &request.ask {
                places.insert((&request.board, key), true);
            }
        }
        let entries = if places.is_empty() {
            HashMap::new()
        } else {
            store::entries(connection, &places).await?
        };
        let mut replies = Vec::with_capacity(requests.len());
        for request in requests {
            let name = &request.board;
            let judged = rights
                .check(&request.who, boards.get(name), name, Want::Read)
                .and_then(|_| boards.get(name).ok_or_else(|| not_found(name)));
            replies.push(match judged {
                Ok(board) => self.answer(connection, board, request, &entries).await?,
                Err(error) => Err(error),
            });
        }
        Ok(replies)
    }

    /// The outer result is the database's, the inner one the caller's.
    async fn answer(
        &self,
        connection: &mut PgConnection,
        board: &Board,
        request: &Request,
        entries: &HashMap<(BoardName, Key), Known>,
    ) -> Result<Result<Found>> {
        if let Some(after) = request.after
            && let Err(error) = reached(connection, board, after, request.proved).await?
        {
            return Ok(Err(error));
        }
        let (entries, cut) = match &request.ask {
            Ask::Key(key) => {
                let known = entries.get(&(board.name.clone(), key.clone()));
                (
                    known.map(|known| known.entry.clone()).into_iter().collect(),
                    false,
                )
            }
            Ask::Range(range) => page(connection, &board.name, range).await?,
        };
        Ok(Ok(Found {
            level: board.level,
            entries,
            cut,
            position: board.position,
            copies: if request.proved {
                self.db.quorum.write_quorum()
            } else {
                1
            },
        }))
    }
}

impl batch::Operation for Batch {
    type Request = Request;
    type Reply = Found;

    const AT_ONCE: usize = 2;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "blackboard.read", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Request]) -> Result<Served<Found>> {
        let mut connection = self.db.read().await?;
        let mut snapshot = connection
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await?;
        let replies = self.read(&mut snapshot, requests).await?;
        if self.proved {
            self.db.end_proved(snapshot).await?;
        } else {
            snapshot.commit().await?;
        }
        Ok(Served::now(replies))
    }
}

/// A page, and whether it was cut short by its bytes.
async fn page(
    connection: &mut PgConnection,
    board: &BoardName,
    range: &Range,
) -> Result<(Vec<Entry>, bool)> {
    let after = range.after.as_ref().map_or("", Key::as_str);
    let limit = i64::from(range.limit);
    let prefix = &range.prefix;
    let keys_only = range.keys_only;
    let (entries, is_whole) = store::list(
        connection, board, prefix, after, keys_only, limit, PAGE_BYTES,
    )
    .await?;
    Ok((entries, !is_whole))
}

/// Whether the board has come as far as a position that the caller has seen.
async fn reached(
    connection: &mut PgConnection,
    board: &Board,
    after: Position,
    proved: bool,
) -> Result<Result<()>> {
    let is = board.position;
    // epoch 0: the present one
    if after.epoch == 0 || after.epoch == is.epoch {
        if after.revision <= is.revision {
            return Ok(Ok(()));
        }
        let detail = format!(
            "board `{}` has come to revision {}, and not to {}",
            board.name, is.revision, after.revision
        );
        return Ok(Err(if proved {
            Error::invalid("after_revision", detail)
        } else {
            Error::new(Reason::Unavailable, detail)
        }));
    }
    if after.epoch < is.epoch {
        let up_to = store::resumable_up_to(connection, &board.name, after.epoch).await?;
        if up_to.is_some_and(|up_to| after.revision <= up_to) {
            return Ok(Ok(()));
        }
    }
    Ok(Err(gone(&board.name)))
}

/// A position that this board does not have, or no longer.
pub(super) fn gone(board: &BoardName) -> Error {
    Error::new(
        Reason::Compacted,
        format!(
            "the position on board `{board}` can no longer be served: list again and begin there"
        ),
    )
}
