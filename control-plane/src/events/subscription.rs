//! One reader of the change streams: first the backlog, then the live feed,
//! in order and none twice.

use std::{collections::VecDeque, sync::Arc};

use authguardian_proto::reason::Reason;
use tokio::sync::broadcast;

use super::{
    Change, Position, Stream,
    position::compacted,
    publisher::{Heads, PAGE, Published},
    store,
};
use crate::{
    db::Db,
    error::{Error, Result},
};

/// What a reader gets.
#[derive(Debug, Clone)]
pub enum Message {
    /// The next changes, in order; at least one.
    Changes(Vec<Change>),
    /// All up to these heads has been sent.
    Progress(Vec<(Stream, Position)>),
}

/// A place in the streams that moves on.
#[derive(Debug)]
pub struct Subscription {
    db: Db,
    feed: broadcast::Receiver<Published>,
    /// What was sent, one for each wanted stream.
    sent: Heads,
    /// What the backlog has to reach before the live feed goes on.
    backlog_to: Option<Arc<Heads>>,
    ready: VecDeque<Message>,
}

impl Subscription {
    pub(super) fn new(
        db: Db,
        feed: broadcast::Receiver<Published>,
        after: Heads,
        backlog_to: Arc<Heads>,
    ) -> Self {
        Self {
            db,
            feed,
            sent: after,
            backlog_to: Some(backlog_to),
            ready: VecDeque::new(),
        }
    }

    /// The next message; waits for it. Not to be called again after an error.
    ///
    /// # Errors
    /// `LAGGED` when the reader was too slow, `COMPACTED` when the epoch has
    /// changed; both mean: list again.
    pub async fn next(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                if let Message::Changes(changes) = &message {
                    for change in changes {
                        self.sent.insert(change.stream, change.position);
                    }
                }
                return Ok(message);
            }
            if let Some(goal) = self.backlog_to.take() {
                self.read_backlog(goal).await?;
                continue;
            }
            match self.feed.recv().await {
                Ok(published) => self.take(&published)?,
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

    /// One page of each stream's backlog; the positions were published, so a
    /// barrier has proved them already.
    async fn read_backlog(&mut self, goal: Arc<Heads>) -> Result<()> {
        let mut more = false;
        let mut connection = self.db.read().await?;
        for (stream, position) in &self.sent {
            let Some(head) = goal
                .get(stream)
                .filter(|head| head.revision > position.revision)
            else {
                continue;
            };
            let (epoch, after) = (position.epoch, position.revision);
            let page =
                store::read(&mut connection, *stream, epoch, after, head.revision, PAGE).await?;
            match page.first() {
                Some(first) if first.position.revision == after + 1 => {}
                _ => return Err(compacted(*stream)),
            }
            more |= page
                .last()
                .is_some_and(|last| last.position.revision < head.revision);
            self.ready.push_back(Message::Changes(page));
        }
        if more {
            self.backlog_to = Some(goal);
        } else {
            self.mark(&goal);
        }
        Ok(())
    }

    fn take(&mut self, published: &Published) -> Result<()> {
        for (stream, sent) in &self.sent {
            if published
                .heads
                .get(stream)
                .is_some_and(|head| head.epoch != sent.epoch)
            {
                return Err(compacted(*stream));
            }
        }
        let new = published.changes.iter().filter(|change| {
            self.sent
                .get(&change.stream)
                .is_some_and(|sent| change.position > *sent)
        });
        let new: Vec<Change> = new.cloned().collect();
        if new.is_empty() {
            self.mark(&Arc::clone(&published.heads));
        } else {
            self.ready.push_back(Message::Changes(new));
        }
        Ok(())
    }

    fn mark(&mut self, heads: &Heads) {
        let wanted = self
            .sent
            .keys()
            .filter_map(|stream| Some((*stream, *heads.get(stream)?)));
        let mark = wanted.collect();
        self.ready.push_back(Message::Progress(mark));
    }
}

fn lagged() -> Error {
    Error::new(
        Reason::Lagged,
        "the reader was too slow: list again and begin at the head",
    )
}
