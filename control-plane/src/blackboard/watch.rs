//! One watcher of a board: first what it has missed, then what is new, in order,
//! each revision whole and none twice.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use authguardian_proto::{board::Key, ids::BoardName, reason::Reason};
use tokio::sync::broadcast;

use super::{
    Blackboard, Who,
    access::{Rights, Want},
    entry::Change,
    feed::{Feed, News, PAGE},
    read::gone,
    store,
};
use crate::{
    clock::Ambient,
    db::Db,
    error::{Error, Result},
    events::Position,
};

/// How long a watcher that is ahead of this process is waited for.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The rights of a watcher are looked at again with each so many marks, of which
/// there is about one a second.
const MARKS: u32 = 5;

/// Which keys are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// One.
    Key(Key),
    /// All that begin so.
    Prefix(String),
}

impl Filter {
    fn lets(&self, change: &Change) -> bool {
        match self {
            Self::Key(key) => change.entry.key == *key,
            Self::Prefix(prefix) => change.entry.key.as_str().starts_with(prefix.as_str()),
        }
    }
}

/// What a watcher gets.
#[derive(Debug, Clone)]
pub struct Message {
    /// All up to here was told.
    pub position: Position,
    /// The changes of this revision that it watches; none: nothing but progress.
    pub changes: Vec<Change>,
}

/// A place in a board's stream that moves on.
#[derive(Debug)]
pub struct Watch {
    db: Db,
    ambient: Ambient,
    who: Who,
    board: BoardName,
    filter: Filter,
    /// Held, so that it goes on.
    _feed: Arc<Feed>,
    news: broadcast::Receiver<News>,
    /// All up to here is told, or ready to be.
    read: Position,
    /// What has to be read up to before the news go on.
    missed_up_to: Option<Position>,
    ready: VecDeque<Message>,
    /// Marks since the rights of the watcher were looked at.
    marks: u32,
}

impl Blackboard {
    /// Watches keys of a board, after a position (`None`: from now on).
    ///
    /// # Errors
    /// `COMPACTED` where the position is gone, `BOARD_NOT_FOUND`,
    /// `PERMISSION_DENIED`, `TRUST_TOO_LOW`, `SUSPENDED`, `UNAVAILABLE`.
    pub async fn watch(
        &self,
        who: Who,
        board: BoardName,
        filter: Filter,
        after: Option<Position>,
    ) -> Result<Watch> {
        let allowed = may_read(&self.db, &self.ambient, &who, &board);
        self.db.unless_lost(allowed).await?;
        let feed = self.feeds.of(&board);
        // first the news, then what was missed up to them: nothing falls between
        let news = feed.sender.subscribe();
        let head = head(&feed, after).await?;
        let read = match after {
            None => head,
            Some(after) => {
                let resumed = self.resume(&board, after, head);
                self.db.unless_lost(resumed).await?
            }
        };
        Ok(Watch {
            db: self.db.clone(),
            ambient: self.ambient.clone(),
            who,
            board,
            filter,
            _feed: feed,
            news,
            read,
            missed_up_to: Some(head),
            ready: VecDeque::new(),
            marks: 0,
        })
    }

    /// The position in the present epoch that another one stands for.
    async fn resume(&self, board: &BoardName, after: Position, head: Position) -> Result<Position> {
        let mut connection = self.db.read().await?;
        if after.epoch != head.epoch {
            let up_to = store::resumable_up_to(&mut connection, board, after.epoch).await?;
            if after.epoch > head.epoch || up_to.is_none_or(|up_to| after.revision > up_to) {
                return Err(gone(board));
            }
        }
        let floor = store::floor(&mut connection, board).await?;
        if after.revision > head.revision || after.revision < floor {
            return Err(gone(board));
        }
        Ok(Position {
            revision: after.revision,
            ..head
        })
    }
}

impl Watch {
    /// The next message; waits for it. Not to be called again after an error.
    ///
    /// # Errors
    /// `LAGGED` where the watcher was too slow, `COMPACTED` where a restore has
    /// undone what it was told; those of rights, when they have ended.
    pub async fn next(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(message);
            }
            if let Some(up_to) = self.missed_up_to {
                let db = self.db.clone();
                db.unless_lost(self.read_missed(up_to)).await?;
                continue;
            }
            match self.news.recv().await {
                Ok(news) => {
                    let db = self.db.clone();
                    db.unless_lost(self.take(news)).await?;
                }
                Err(broadcast::error::RecvError::Lagged(_)) => return Err(lagged()),
                Err(broadcast::error::RecvError::Closed) => {
                    return Err(Error::new(
                        Reason::Unavailable,
                        "the control plane is stopping",
                    ));
                }
            }
        }
    }

    /// Reads a page of what was missed.
    async fn read_missed(&mut self, up_to: Position) -> Result<()> {
        let (from, to) = (self.read.revision, up_to.revision);
        let mut last = to;
        if from < to {
            let mut connection = self.db.read().await?;
            let changes = store::changes(&mut connection, &self.board, from, to, PAGE).await?;
            // read after the changes: what is above it was there
            if store::floor(&mut connection, &self.board).await? > from {
                return Err(gone(&self.board));
            }
            last = changes.last().map_or(to, |change| change.entry.revision);
            self.tell(&changes, up_to);
        }
        self.read = Position {
            revision: last.max(from),
            ..up_to
        };
        if last >= to {
            self.missed_up_to = None;
            self.mark();
        }
        Ok(())
    }

    async fn take(&mut self, news: News) -> Result<()> {
        if news.position.epoch != self.read.epoch {
            self.go_on_in(news.position.epoch).await?;
        }
        let read = self.read.revision;
        if news.position.revision > read {
            let fresh = news
                .changes
                .iter()
                .filter(|change| change.entry.revision > read);
            let fresh: Vec<Change> = fresh.cloned().collect();
            self.tell(&fresh, news.position);
            self.read = news.position;
        }
        if news.changes.is_empty() {
            self.marks += 1;
            if self.marks.is_multiple_of(MARKS) {
                may_read(&self.db, &self.ambient, &self.who, &self.board).await?;
            }
        }
        if self.ready.is_empty() {
            self.mark();
        }
        Ok(())
    }

    /// The feed goes on in a new epoch from where the old one was told, if that
    /// is still so in the new one.
    async fn go_on_in(&mut self, epoch: i64) -> Result<()> {
        let mut connection = self.db.read().await?;
        let old = self.read.epoch;
        let up_to = store::resumable_up_to(&mut connection, &self.board, old).await?;
        if up_to.is_none_or(|up_to| self.read.revision > up_to) {
            return Err(gone(&self.board));
        }
        self.read.epoch = epoch;
        Ok(())
    }

    fn mark(&mut self) {
        self.ready.push_back(Message {
            position: self.read,
            changes: Vec::new(),
        });
    }

    /// Makes a message of each revision that has something for this watcher.
    fn tell(&mut self, changes: &[Change], at: Position) {
        for revision in changes.chunk_by(|a, b| a.entry.revision == b.entry.revision) {
            let wanted = revision.iter().filter(|change| self.filter.lets(change));
            let wanted: Vec<Change> = wanted.cloned().collect();
            if let (false, Some(first)) = (wanted.is_empty(), revision.first()) {
                self.ready.push_back(Message {
                    position: Position {
                        revision: first.entry.revision,
                        ..at
                    },
                    changes: wanted,
                });
            }
        }
    }
}

/// As far as the feed has come, once that is where the watcher was told; what
/// it does not reach soon is not of this board's stream.
async fn head(feed: &Feed, after: Option<Position>) -> Result<Position> {
    let mut sent = feed.sent.clone();
    let ahead = |head: &Position| {
        after.is_some_and(|after| {
            after.epoch > head.epoch
                || (after.epoch == head.epoch && after.revision > head.revision)
        })
    };
    let reached = sent.wait_for(|sent| sent.is_some_and(|head| !ahead(&head)));
    let reached = tokio::time::timeout(CATCH_UP, reached)
        .await
        .map(|reached| reached.map(|sent| *sent));
    match reached {
        Ok(Ok(Some(head))) => Ok(head),
        Ok(_) => Err(not_yet()),
        // in vain: the caller finds out by comparing
        Err(_) => feed.sent.borrow().ok_or_else(not_yet),
    }
}

async fn may_read(db: &Db, ambient: &Ambient, who: &Who, board: &BoardName) -> Result<()> {
    let mut connection = db.read().await?;
    let boards = store::boards(&mut connection, [board].into()).await?;
    let found = boards.get(board);
    let calls = std::iter::once((who, found));
    let rights = Rights::read(&mut connection, calls, ambient.clock.now()).await?;
    rights.check(who, found, board, Want::Read).map(drop)
}

fn not_yet() -> Error {
    Error::new(
        Reason::Unavailable,
        "changes cannot be read from the database now; try again",
    )
}

fn lagged() -> Error {
    Error::new(
        Reason::Lagged,
        "the watcher was too slow: go on after the last position that it was told",
    )
}
