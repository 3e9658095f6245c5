//! One replica that is kept up: the boards that its machine may have, what it
//! lacks of each, and what changes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use authguardian_proto::{
    board::{Key, Level},
    ids::{AgentId, BoardName, MachineId},
};
use tokio::{sync::watch, time::Instant};

use super::{
    delta::{Delta, Next},
    eligible,
};
use crate::{
    blackboard::{Blackboard, board::Board},
    error::Result,
    events::{BoardHeads, Position},
    policy::{self, Suspensions},
};

/// How often it is looked which boards a machine may have, and on what terms; also
/// the interval of signs of life.
const LOOK: Duration = Duration::from_secs(1);

/// Most parts of boards that wait to be told.
const PARTS: usize = 8;

/// What a replica is told.
#[derive(Debug, Clone)]
pub enum News {
    /// A board that it may have. `reset`: all of it comes next.
    #[expect(missing_docs, reason = "said above")]
    Board { board: Box<Board>, reset: bool },
    /// A part of a board; with where it has come to, where that is all for now.
    #[expect(missing_docs, reason = "said above")]
    Part {
        board: BoardName,
        part: Part,
        position: Option<Position>,
    },
    /// A board that it may no longer have.
    Dropped(BoardName),
    /// Who is suspended now.
    Suspended(Suspended),
    /// Nothing new.
    Alive,
}

/// What operators have suspended, of what a machine serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspended {
    /// Everything, or the machine.
    pub everything: bool,
    /// These agents.
    pub agents: BTreeSet<AgentId>,
    /// These boards.
    pub boards: BTreeSet<BoardName>,
}

impl Suspended {
    fn of(suspensions: &Suspensions, machine: MachineId) -> Self {
        let boards = suspensions.resource_types();
        Self {
            everything: suspensions.cover_machine(machine),
            agents: suspensions.agents().cloned().collect(),
            boards: boards
                .filter_map(|name| name.as_str().strip_prefix("board:")?.parse().ok())
                .collect(),
        }
    }
}

/// A part of a board.
#[derive(Debug, Clone)]
pub struct Part(Contents);

#[derive(Debug, Clone)]
enum Contents {
    Shared(Arc<Next>),
    Own(Arc<Delta>),
}

impl Part {
    fn delta(&self) -> Option<&Delta> {
        match &self.0 {
            Contents::Own(delta) => Some(delta),
            Contents::Shared(next) => match &**next {
                Next::Delta { delta, .. } => Some(delta),
                Next::Gone => None,
            },
        }
    }

    /// Of an eventual board.
    pub fn versions(&self) -> &[super::Taken] {
        self.delta().map_or(&[], |delta| &delta.versions)
    }

    /// Of a session board: what is in keys.
    pub fn entries(&self) -> &[crate::blackboard::Entry] {
        self.delta().map_or(&[], |delta| &delta.entries)
    }

    /// Of a session board: keys that are gone.
    pub fn gone(&self) -> &[Key] {
        self.delta().map_or(&[], |delta| &delta.gone)
    }

    /// Tombstones of an eventual board up to this revision are forgotten.
    pub fn collected(&self) -> i64 {
        self.delta().map_or(0, |delta| delta.collected)
    }
}

/// How far a replica has come with a board.
#[derive(Debug)]
struct Cursor {
    /// As it was told.
    board: Board,
    stage: Stage,
}

impl Cursor {
    /// Whether it is of an eventual board that is not being caught up with.
    fn is_merged(&self) -> bool {
        let is_caught_up = matches!(
            self.stage,
            Stage::At {
                at_once: false,
                anew: false,
                ..
            }
        );
        is_caught_up && self.board.level == Level::Eventual
    }
}

#[derive(Debug, Clone)]
enum Stage {
    /// All up to here was told. `at_once`: it goes on without news, since only the replica
    /// says so, or there was more; `anew`: the board is read from its beginning, and not yet whole.
    At {
        position: Position,
        at_once: bool,
        anew: bool,
    },
    /// A session board is read by its keys, from this one on; what has changed since
    /// `from` comes after that.
    Listing {
        after: Option<Key>,
        from: Option<Position>,
    },
}

/// A replica that is kept up.
#[derive(Debug)]
pub struct Follow {
    blackboard: Blackboard,
    machine: MachineId,
    /// What the replica says that it has.
    have: BTreeMap<BoardName, Position>,
    cursors: BTreeMap<BoardName, Cursor>,
    /// As it was told.
    suspended: Option<Suspended>,
    heads: watch::Receiver<Option<Arc<BoardHeads>>>,
    ready: VecDeque<News>,
    look_at: Instant,
    /// When eventual boards go on, after a part of one.
    merges_at: Option<Instant>,
}

impl Blackboard {
    /// Begins to keep up the replica of a machine.
    pub fn follow(&self, machine: MachineId, have: Vec<(BoardName, Position)>) -> Follow {
        Follow {
            machine,
            have: have.into_iter().collect(),
            cursors: BTreeMap::new(),
            suspended: None,
            heads: self.feeds.heads(),
            ready: VecDeque::new(),
            look_at: Instant::now(),
            merges_at: None,
            blackboard: self.clone(),
        }
    }
}

impl Follow {
    /// What comes next; waits for it, a second at most.
    ///
    /// # Errors
    /// When the database cannot be read; `UNAUTHENTICATED` when the machine is gone.
    pub async fn next(&mut self) -> Result<News> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Ok(news);
            }
            if Instant::now() >= self.look_at {
                self.look().await?;
                continue;
            }
            self.read_on().await?;
            if !self.ready.is_empty() {
                continue;
            }
            let until = self
                .merges_at
                .map_or(self.look_at, |at| at.min(self.look_at));
            let changed = tokio::time::timeout_at(until, self.heads.changed());
            if changed.await.is_err() && Instant::now() >= self.look_at {
                self.look().await?;
                self.ready.push_back(News::Alive);
            }
        }
    }

    /// Looks which boards the machine may have now.
    async fn look(&mut self) -> Result<()> {
        self.look_at = Instant::now() + LOOK;
        let mut connection = self.blackboard.db.read().await?;
        let machine = eligible::machine(&mut connection, self.machine).await?;
        let suspensions = policy::suspensions(&mut connection).await?;
        let boards = eligible::boards(&mut connection, &machine).await?;
        drop(connection);
        let suspended = Some(Suspended::of(&suspensions, self.machine));
        if self.suspended != suspended {
            self.ready.extend(suspended.clone().map(News::Suspended));
            self.suspended = suspended;
        }
        let unknown = self.have.keys().filter(|name| !boards.contains_key(*name));
        let lost: Vec<BoardName> = unknown
            .chain(
                self.cursors
                    .keys()
                    .filter(|name| !boards.contains_key(*name)),
            )
            .cloned()
            .collect();
        for name in lost {
            self.have.remove(&name);
            self.cursors.remove(&name);
            self.ready.push_back(News::Dropped(name));
        }
        for (name, board) in boards {
            self.tell(name, board);
        }
        Ok(())
    }

    /// Tells of a board whose terms are not known as they are.
    fn tell(&mut self, name: BoardName, board: Board) {
        if let Some(cursor) = self.cursors.get_mut(&name) {
            if cursor.board.terms != board.terms {
                cursor.board = board.clone();
                self.ready.push_back(News::Board {
                    board: Box::new(board),
                    reset: false,
                });
            }
            return;
        }
        let have = self.have.get(&name).copied();
        let stage = match have {
            Some(position) => Stage::At {
                position,
                at_once: true,
                anew: false,
            },
            None => beginning(&board),
        };
        self.ready.push_back(News::Board {
            board: Box::new(board.clone()),
            reset: have.is_none(),
        });
        self.cursors.insert(name, Cursor { board, stage });
    }

    /// Reads on where a board is ahead of the replica.
    async fn read_on(&mut self) -> Result<()> {
        let heads = self.heads.borrow_and_update().clone();
        let Some(heads) = heads else { return Ok(()) };
        let merges = self.merges_at.is_none_or(|at| at <= Instant::now());
        if merges {
            self.merges_at = None;
        }
        for (name, cursor) in &mut self.cursors {
            let Some(head) = heads.get(name) else {
                continue;
            };
            if !merges && cursor.is_merged() {
                continue;
            }
            let (stage, news) = read_on(&self.blackboard, cursor, *head).await?;
            cursor.stage = stage;
            if news.is_some() && cursor.is_merged() {
                self.merges_at = Some(self.blackboard.deltas.next_round());
            }
            self.ready.extend(news);
            // each may be a megabyte: first these
            if self.ready.len() >= PARTS {
                break;
            }
        }
        Ok(())
    }
}

fn beginning(board: &Board) -> Stage {
    if board.level == Level::Eventual {
        return Stage::At {
            position: Position {
                revision: 0,
                ..board.position
            },
            at_once: false,
            anew: true,
        };
    }
    Stage::Listing {
        after: None,
        from: None,
    }
}

/// Where a board goes on to be read, and what there was.
async fn read_on(
    blackboard: &Blackboard,
    cursor: &Cursor,
    head: Position,
) -> Result<(Stage, Option<News>)> {
    let name = &cursor.board.name;
    let (position, at_once, anew) = match cursor.stage.clone() {
        Stage::Listing { after, from } => return list_on(blackboard, name, after, from).await,
        Stage::At {
            position,
            at_once,
            anew,
        } => (position, at_once, anew),
    };
    // a head of an older epoch is of a server that was succeeded
    if !anew && !at_once && position >= head {
        return Ok((cursor.stage.clone(), None));
    }
    let begins = anew && position.revision == 0;
    let next = blackboard
        .deltas
        .after(name, position, head, begins)
        .await?;
    let Next::Delta { up_to, is_all, .. } = &*next else {
        let news = News::Board {
            board: Box::new(cursor.board.clone()),
            reset: true,
        };
        return Ok((beginning(&cursor.board), Some(news)));
    };
    let (up_to, is_all) = (*up_to, *is_all);
    // parts of a session board are read as they are now: in the middle of several the
    // replica is at no position
    let is_somewhere = is_all || (!anew && cursor.board.level == Level::Eventual);
    let news = News::Part {
        board: name.clone(),
        part: Part(Contents::Shared(next)),
        position: is_somewhere.then_some(up_to),
    };
    let stage = Stage::At {
        position: up_to,
        at_once: !is_all,
        anew: anew && !is_all,
    };
    Ok((stage, Some(news)))
}

async fn list_on(
    blackboard: &Blackboard,
    name: &BoardName,
    after: Option<Key>,
    from: Option<Position>,
) -> Result<(Stage, Option<News>)> {
    let (delta, is_all, at) = blackboard.deltas.page(name, after.as_ref()).await?;
    let from = from.unwrap_or(at);
    let stage = if is_all {
        Stage::At {
            position: from,
            at_once: false,
            anew: true,
        }
    } else {
        Stage::Listing {
            after: delta.entries.last().map(|entry| entry.key.clone()),
            from: Some(from),
        }
    };
    let news = News::Part {
        board: name.clone(),
        part: Part(Contents::Own(Arc::new(delta))),
        position: None,
    };
    Ok((stage, Some(news)))
}
