//! What is new on each board that is watched: read once for all who watch it,
//! up to the heads that the publisher has proved.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use authguardian_proto::ids::BoardName;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{entry::Change, store};
use crate::{
    db::Db,
    error::Result,
    events::{BoardHeads, Position, Publisher},
};

/// Most changes that are read at once.
pub(super) const PAGE: i64 = 1000;

/// Batches that a slow watcher may be behind before it gets `LAGGED`.
const BACKLOG: usize = 256;

/// Changes of one board that were read together, each revision whole.
#[derive(Debug, Clone)]
pub(super) struct News {
    /// In order.
    pub(super) changes: Arc<[Change]>,
    /// All up to here is in these and those before.
    pub(super) position: Position,
}

/// The feed of one board; it is read for as long as somebody has it.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) sender: broadcast::Sender<News>,
    /// As far as was sent; `None`: nothing yet.
    pub(super) sent: watch::Receiver<Option<Position>>,
}

/// The feeds of all boards that are watched through this process.
#[derive(Debug)]
pub(super) struct Feeds {
    db: Db,
    publisher: Arc<Publisher>,
    stop: CancellationToken,
    open: Mutex<HashMap<BoardName, Weak<Feed>>>,
}

impl Feeds {
    pub(super) fn new(db: Db, publisher: Arc<Publisher>, stop: CancellationToken) -> Self {
        Self {
            db,
            publisher,
            stop,
            open: Mutex::default(),
        }
    }

    /// The proved heads of all boards.
    pub(super) fn heads(&self) -> watch::Receiver<Option<Arc<BoardHeads>>> {
        self.publisher.board_heads()
    }

    /// The feed of a board; its reading begins with the first who asks.
    pub(super) fn of(&self, board: &BoardName) -> Arc<Feed> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = open.get(board).and_then(Weak::upgrade) {
            return feed;
        }
        open.retain(|_, feed| feed.strong_count() > 0);
        let (sent, received) = watch::channel(None);
        let feed = Arc::new(Feed {
            sender: broadcast::Sender::new(BACKLOG),
            sent: received,
        });
        open.insert(board.clone(), Arc::downgrade(&feed));
        let reader = Reader {
            db: self.db.clone(),
            board: board.clone(),
            heads: self.publisher.board_heads(),
            sender: feed.sender.clone(),
            sent,
            feed: Arc::downgrade(&feed),
        };
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(reader.run()));
        feed
    }
}

struct Reader {
    db: Db,
    board: BoardName,
    heads: watch::Receiver<Option<Arc<BoardHeads>>>,
    sender: broadcast::Sender<News>,
    sent: watch::Sender<Option<Position>>,
    /// Gone: nobody watches any more.
    feed: Weak<Feed>,
}

impl Reader {
    async fn run(mut self) {
        let mut at = None;
        // the heads come about once a second at least
        while self.heads.changed().await.is_ok() {
            if self.feed.strong_count() == 0 {
                return;
            }
            let heads = self.heads.borrow_and_update().clone();
            let Some(head) = heads.and_then(|heads| heads.get(&self.board).copied()) else {
                continue;
            };
            loop {
                match self.db.unless_lost(self.read(at, head)).await {
                    Ok(news) => {
                        at = Some(news.position);
                        let _ = self.sender.send(news); // nobody may be listening
                        self.sent.send_replace(at);
                        if at == Some(head) {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(board = %self.board, %error, cause = error.cause().map(tracing::field::display), "cannot read changes of a board now");
                        break;
                    }
                }
            }
        }
    }

    async fn read(&self, at: Option<Position>, head: Position) -> Result<News> {
        let Some(at) = at.filter(|at| at.revision < head.revision) else {
            return Ok(News {
                changes: Arc::new([]),
                position: head,
            });
        };
        let mut connection = self.db.read().await?;
        let (after, up_to) = (at.revision, head.revision);
        let changes = store::changes(&mut connection, &self.board, after, up_to, PAGE).await?;
        let last = changes.last().map_or(up_to, |change| change.entry.revision);
        Ok(News {
            position: Position {
                revision: last,
                ..head
            },
            changes: changes.into(),
        })
    }
}
