//! Keeping the replica up: hearing of what others write, and handing over what is
//! written here.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    blackboard::v1::{FollowResponse, OpenRequest, follow_response::About},
    reason::{Problem, Reason},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Here;
use crate::{
    core::Core,
    replica::Failed,
    upstream::{ReplicaFollow, Upstream},
};

/// How often the lease is renewed, and how far the replica has come is told.
const OPEN_EVERY: Duration = Duration::from_mins(5);

/// How long an edge is not ready for want of its boards.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Most writes that are handed over at once.
const WRITES: usize = 512;

/// Between the beginnings of two that are not full: what is written meanwhile goes
/// together. The first after a pause goes at once.
const HAND_OVER_EVERY: Duration = Duration::from_millis(20);

/// After a failure, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3);

/// Why the replica is not kept up for a while.
enum Broken {
    /// The control plane is away, or refuses.
    Upstream(Problem),
    /// The disk has failed, or the edge is stopping.
    Replica(Failed),
}

impl From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        Self::Upstream(problem)
    }
}

impl From<Failed> for Broken {
    fn from(failed: Failed) -> Self {
        Self::Replica(failed)
    }
}

impl Core {
    /// Waits until the replica, if there is one, has had all that there was, or
    /// for a while.
    pub async fn replica_caught_up(&self) {
        let Some(here) = self.here() else { return };
        let mut caught_up = here.has_caught_up.subscribe();
        // in vain: what is not here yet is asked for at the control plane
        let _ = tokio::time::timeout(CATCH_UP, caught_up.wait_for(|had| *had)).await;
    }

    /// Keeps the replica up until `stop`, where there is one.
    pub async fn keep_replica(self: Arc<Self>, stop: CancellationToken) {
        let Some(here) = self.here.clone() else {
            return;
        };
        let kept = async {
            tokio::join!(here.hear(&self), here.hand_over(&self));
        };
        stop.run_until_cancelled(kept).await;
        // what is left to be handed over is on disk
        here.replica.close().await;
    }
}

impl Here {
    /// Opens the replica and hears of changes, again and again.
    async fn hear(&self, core: &Core) {
        let mut retry = RETRY_MIN;
        loop {
            let began = Instant::now();
            let Err(broken) = self.try_to_hear(core.upstream()).await;
            if began.elapsed() > RETRY_MAX {
                retry = RETRY_MIN;
            }
            if !go_on_after(broken, "hear of boards") {
                return;
            }
            tokio::time::sleep(core.ambient().jittered(retry)).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    async fn try_to_hear(&self, upstream: &Upstream) -> Result<std::convert::Infallible, Broken> {
        loop {
            self.open(upstream).await?;
            let until = Instant::now() + OPEN_EVERY;
            let mut follow = upstream.follow_boards(self.replica.positions()).await?;
            while Instant::now() < until {
                tokio::select! {
                    heard = self.hear_next(&mut follow) => heard?,
                    () = self.to_be_opened.notified() => break,
                }
            }
        }
    }

    async fn open(&self, upstream: &Upstream) -> Result<(), Broken> {
        // what is handed over meanwhile would be known to the control plane, and not here
        let _turn = self.turn.lock().await;
        let (incarnation, counter) = self.replica.last_actor();
        let request = OpenRequest {
            incarnation,
            counter,
            have: self.replica.positions(),
        };
        let opened = upstream.open_replica(request).await?;
        if incarnation != 0 && opened.incarnation != incarnation {
            tracing::warn!(
                incarnation = opened.incarnation,
                "this replica is older than what it wrote once: it goes on as another"
            );
        }
        let (incarnation, counter) = (opened.incarnation, opened.counter);
        self.replica.confirm(incarnation, counter).await?;
        self.opened_in.send_replace(Some(opened.epoch));
        Ok(())
    }

    async fn hear_next(&self, follow: &mut ReplicaFollow) -> Result<(), Broken> {
        let messages = follow.next().await?;
        for message in &messages {
            if let Some(About::Suspended(suspended)) = &message.about {
                self.suspended.store(Arc::new(suspended.clone()));
            }
        }
        let is_alive = |message: &FollowResponse| matches!(message.about, Some(About::Alive(_)));
        let has_all = messages.last().is_some_and(is_alive);
        if messages.iter().any(is_for_the_replica) {
            self.replica.take(messages).await?;
        }
        if has_all {
            self.has_caught_up
                .send_if_modified(|had| !std::mem::replace(had, true));
        }
        Ok(())
    }

    /// Hands writes over as they come, in their order.
    async fn hand_over(&self, core: &Core) {
        let mut waiting = self.replica.waiting();
        let mut retry = RETRY_MIN;
        let mut next = Instant::now();
        while waiting.wait_for(|count| *count > 0).await.is_ok() {
            let many = waiting.wait_for(|count| *count >= WRITES as u64);
            // as many as go at once, or what there is by then
            let _ = tokio::time::timeout_at(next, many).await;
            next = Instant::now() + HAND_OVER_EVERY;
            match self.try_to_hand_over(core.upstream()).await {
                Ok(()) => retry = RETRY_MIN,
                Err(broken) => {
                    if !go_on_after(broken, "hand writes to boards over") {
                        return;
                    }
                    tokio::time::sleep(core.ambient().jittered(retry)).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn try_to_hand_over(&self, upstream: &Upstream) -> Result<(), Broken> {
        let mut opened_in = self.opened_in.subscribe();
        // the sender lives as long as this
        let _ = opened_in.wait_for(Option::is_some).await;
        let _turn = self.turn.lock().await;
        let Some(epoch) = *self.opened_in.borrow() else {
            return Ok(());
        };
        let outgoing = self.replica.outgoing(WRITES)?;
        let Some(first) = outgoing.first() else {
            return Ok(());
        };
        let incarnation = first.incarnation;
        let writes = outgoing.into_iter().map(|write| write.pushed).collect();
        let answer = match upstream.push_writes(incarnation, epoch, writes).await {
            Err(problem) if problem.reason == Reason::Compacted => {
                // a restored database may have lost what was handed over before
                self.opened_in.send_replace(None);
                self.to_be_opened.notify_one();
                return Err(problem.into());
            }
            answer => answer?,
        };
        for refused in &answer.refused {
            tracing::warn!(
                board = refused.board,
                key = refused.key,
                reason = refused.reason,
                detail = refused.detail,
                "the control plane has refused a write, which is undone"
            );
        }
        let (counter, refused) = (answer.counter, answer.refused);
        self.replica
            .handed_over(incarnation, counter, refused)
            .await?;
        Ok(())
    }
}

/// Tells of a failure; `false`: it is of no use to go on.
fn go_on_after(broken: Broken, what: &str) -> bool {
    match broken {
        Broken::Upstream(problem) => {
            let (reason, detail) = (problem.reason, problem.detail);
            tracing::debug!(%reason, detail, "cannot {what} for a while");
            true
        }
        Broken::Replica(Failed::Closed) => false,
        Broken::Replica(Failed::Storage(cause)) => {
            tracing::error!(%cause, "the replica of boards has failed: cannot {what}");
            true
        }
    }
}

fn is_for_the_replica(message: &FollowResponse) -> bool {
    !matches!(
        message.about,
        None | Some(About::Alive(_) | About::Suspended(_))
    )
}
