//! One publisher for each process: reads new changes, passes a barrier, then
//! sends. Nobody ever sees what a failover could still undo.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use authguardian_proto::{ids::BoardName, reason::Reason};
use tokio::{
    sync::{broadcast, watch},
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Change, Ends, Position, Stream, Subscription, epoch, position, proof, store, wakeup};
use crate::{
    db::{Db, Wake, Wakes, batch::Batcher},
    error::{Error, Result},
};

/// Without a wake-up, how long a change waits at most; also the interval of
/// progress marks.
const POLL: Duration = Duration::from_secs(1);

/// Between publications: a commit waits no longer for its turn than this.
const SPACING: Duration = Duration::from_millis(10);

/// How long a reader that is ahead of this process is waited for.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Most changes read at once.
pub(super) const PAGE: i64 = 1000;

/// Published batches that a slow subscriber may be behind before it gets `LAGGED`.
const BACKLOG: usize = 1024;

/// What subscribers get: changes of all streams, or only a mark that all up to
/// these heads has been sent.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) changes: Arc<[Change]>,
    pub(super) heads: Arc<Heads>,
}

/// Head of each stream.
pub type Heads = BTreeMap<Stream, Position>;

/// Head of each board's stream.
pub type BoardHeads = BTreeMap<BoardName, Position>;

/// Publishes committed changes to the subscriptions of this process.
#[derive(Debug)]
pub struct Publisher {
    pub(super) db: Db,
    sender: broadcast::Sender<Published>,
    published: watch::Sender<Option<Arc<Heads>>>,
    boards: watch::Sender<Option<Arc<BoardHeads>>>,
    wake: Arc<Wakes>,
    proofs: Batcher<proof::Operation>,
}

impl Publisher {
    /// Starts publishing until `stop`; its tasks are counted in `tasks`.
    pub fn start(db: Db, tasks: &TaskTracker, stop: &CancellationToken) -> Arc<Self> {
        let publisher = Arc::new(Self {
            sender: broadcast::Sender::new(BACKLOG),
            published: watch::Sender::new(None),
            boards: watch::Sender::new(None),
            wake: Arc::default(),
            proofs: Batcher::spawn(proof::Operation(db.clone())),
            db,
        });
        let outgoing = Arc::<Wakes>::default();
        let own = wakeup::OwnBackend::default();
        let pools = &publisher.db.pools;
        tasks.spawn(wakeup::tell_others(
            pools.clone(),
            own.clone(),
            Arc::clone(&outgoing),
            stop.clone(),
        ));
        tasks.spawn(wakeup::hear_others(
            pools.clone(),
            own,
            Arc::clone(&publisher.wake),
            stop.clone(),
        ));
        tasks.spawn(Arc::clone(&publisher).run(outgoing, stop.clone()));
        publisher
    }

    /// Changes after the given positions, and everything from then on. `None`
    /// begins at the head.
    ///
    /// # Errors
    /// `COMPACTED` when a position is of another epoch or too old; `UNAVAILABLE`
    /// before anything was published, and when a position is ahead of the
    /// database: see [`position::is_ahead`].
    pub async fn subscribe(
        self: &Arc<Self>,
        after: &[(Stream, Option<Position>)],
    ) -> Result<Subscription> {
        // first the live feed, then the backlog up to it: nothing falls between
        let feed = self.sender.subscribe();
        let heads = self.heads_reaching(after).await?;
        let mut connection = self.db.read().await?;
        let floors: BTreeMap<_, _> = store::heads(&mut connection)
            .await?
            .iter()
            .map(|head| (head.stream, head.floor))
            .collect();
        let mut from = Heads::new();
        for (stream, position) in after {
            let head = heads.get(stream).copied().ok_or_else(not_yet)?;
            let position = position.unwrap_or(head);
            let floor = floors.get(stream).copied().unwrap_or(0);
            let is_published = position.epoch == head.epoch && position.revision <= head.revision;
            if !is_published {
                return Err(self.judge(&mut connection, *stream, position).await?);
            }
            if position.revision < floor {
                return Err(position::compacted(*stream));
            }
            from.insert(*stream, position);
        }
        Ok(Subscription::new(self.db.clone(), feed, from, heads))
    }

    /// Where the streams end, read after this call began and proved by a barrier
    /// after that.
    ///
    /// # Errors
    /// `UNAVAILABLE` when they cannot be proved now.
    pub async fn proved_ends(&self) -> Result<Ends> {
        self.proofs.call(()).await
    }

    /// The heads of boards, proved now, each time that anything was committed, and
    /// about once a second; read for as long as somebody listens.
    pub fn board_heads(&self) -> watch::Receiver<Option<Arc<BoardHeads>>> {
        let heads = self.boards.subscribe();
        self.wake.wake(Wake::Boards);
        heads
    }

    /// Heads up to which everything has been published.
    ///
    /// # Errors
    /// `UNAVAILABLE` when nothing could be published within 5 s of the start.
    pub async fn heads(&self) -> Result<Arc<Heads>> {
        let mut published = self.published.subscribe();
        let waited =
            tokio::time::timeout(Duration::from_secs(5), published.wait_for(Option::is_some));
        match waited.await {
            Ok(Ok(heads)) => heads.clone().ok_or_else(not_yet),
            _ => Err(not_yet()),
        }
    }

    /// The published heads, once they have come as far as these positions: a
    /// reader that comes from another control plane may know more than this
    /// one has published yet. What they do not reach soon is not of this epoch.
    async fn heads_reaching(&self, wanted: &[(Stream, Option<Position>)]) -> Result<Arc<Heads>> {
        let heads = self.heads().await?;
        let ahead = |heads: &Heads| {
            wanted.iter().any(|(stream, position)| {
                let known = heads.get(stream);
                position.is_some_and(|position| known.is_some_and(|head| position > *head))
            })
        };
        if !ahead(&heads) {
            return Ok(heads);
        }
        let mut published = self.published.subscribe();
        let caught_up = async {
            let reached =
                published.wait_for(|heads| heads.as_deref().is_some_and(|heads| !ahead(heads)));
            // the guard must not live across an await
            drop(reached.await);
        };
        // in vain: the caller finds out by comparing
        let _ = tokio::time::timeout(CATCH_UP, caught_up).await;
        self.heads().await
    }

    async fn run(self: Arc<Self>, outgoing: Arc<Wakes>, stop: CancellationToken) {
        let mut at: Option<Arc<Heads>> = None;
        let mut alone = false;
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let woken = tokio::select! {
                woken = self.db.committed.woken() => {
                    if !alone {
                        outgoing.wake(woken);
                    }
                    woken
                }
                woken = self.wake.woken() => woken,
                _ = poll.tick() => {
                    match self.db.unless_lost(self.look_around()).await {
                        Ok(is_alone) => alone = is_alone,
                        Err(error) => tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "cannot look at the database server now"),
                    }
                    Wake::Streams
                }
                () = stop.cancelled() => return,
            };
            if woken == Wake::Boards && self.boards.receiver_count() == 0 {
                continue;
            }
            loop {
                match self.db.unless_lost(self.publish(at.as_deref())).await {
                    Ok((heads, more)) => {
                        at = Some(heads);
                        if !more {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "cannot publish changes now");
                        break;
                    }
                }
            }
            // under load many commits are published together
            tokio::time::sleep(SPACING).await;
        }
    }

    /// Begins a new epoch where the server is another; tells whether this is
    /// the only control plane that listens on it.
    async fn look_around(&self) -> Result<bool> {
        let mut connection = self.db.read().await?;
        if let epoch::Seen::Restored(_) = epoch::arrive(&mut connection).await? {
            self.db.pools.arrive_again(&mut connection).await?;
        }
        Ok(store::listeners(&mut connection, wakeup::LISTENER).await? < 2)
    }

    /// Publishes what came after `at`; returns the new heads and whether more waits.
    async fn publish(&self, at: Option<&Heads>) -> Result<(Arc<Heads>, bool)> {
        // one transaction, whose commit is the barrier for all that it has read
        let mut connection = self.db.begin_read().await?;
        let current = store::heads(&mut connection).await?;
        let mut heads = Heads::new();
        let mut changes = Vec::new();
        let mut more = false;
        for head in current {
            let known = at.and_then(|at| at.get(&head.stream)).copied();
            let sent = match known {
                Some(known) if known == head.position => known,
                Some(known) if known.epoch == head.position.epoch => {
                    let (epoch, up_to) = (head.position.epoch, head.position.revision);
                    let new = store::read(
                        &mut connection,
                        head.stream,
                        epoch,
                        known.revision,
                        up_to,
                        PAGE,
                    )
                    .await?;
                    let last = new
                        .last()
                        .map_or(known.revision, |change| change.position.revision);
                    more |= last < up_to;
                    changes.extend(new);
                    Position {
                        epoch,
                        revision: last,
                    }
                }
                // at the start and in a new epoch subscribers list for themselves
                _ => head.position,
            };
            heads.insert(head.stream, sent);
        }
        let boards = if self.boards.receiver_count() > 0 {
            Some(store::board_heads(&mut connection).await?)
        } else {
            None
        };
        self.db.quorum.prove_by_commit(&mut connection).await?;
        self.db.quorum.commit(connection).await?;
        if let Some(boards) = boards {
            self.boards.send_replace(Some(Arc::new(boards)));
        }
        let heads = Arc::new(heads);
        // nobody listening is fine
        let _ = self.sender.send(Published {
            changes: changes.into(),
            heads: Arc::clone(&heads),
        });
        self.published.send_replace(Some(Arc::clone(&heads)));
        Ok((heads, more))
    }
}

pub(super) fn not_yet() -> Error {
    Error::new(
        Reason::Unavailable,
        "changes cannot be read from the database now; try again",
    )
}
