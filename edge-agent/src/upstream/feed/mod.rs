//! One stream of changes from the control plane: listed, followed, resumed
//! where it broke, and proved to be complete by pings of the edge's own.

mod guard;
mod position;
mod pulse;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    common::v1::Position,
    events::v1::{
        self as pb, ListRevocationsRequest, StreamPosition, WatchRequest, WatchResponse,
        event_service_client::EventServiceClient, watch_response::Message,
    },
    grant_token::Rev,
    ids::MachineId,
    reason::{Problem, Reason},
    status::from_status,
};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

pub use self::guard::Guard;
use self::position::Followed;
use super::{Change, Event, EventLog, Standing, standing::is_of_machine};
use crate::{
    clock::Ambient,
    dial::Channel,
    freshness::{Freshness, Proof},
};

/// Changes that a slow reader may be behind before it has to relist.
const CAPACITY: usize = 4096;
/// The control plane tells its progress every second; after this silence the
/// stream is taken for broken.
const SILENCE: Duration = Duration::from_secs(5);
/// For all parts of a list.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// After a break, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3);
/// While this machine's calls are refused.
const REFUSED: Duration = Duration::from_secs(2);
/// Edges that have to list again at the same moment spread over this span.
const SPREAD: Duration = Duration::from_secs(1);

/// Who must have taken a change before anything is proved that counts it in.
pub trait Follower: Send + Sync {
    /// Takes a change; in the order of the streams, never concurrently.
    fn follow(&self, change: &Change);
}

/// The changes. Clones share one stream.
#[derive(Clone)]
pub struct Feed {
    ambient: Ambient,
    machine_id: MachineId,
    standing: Standing,
    freshness: Arc<Freshness>,
    followers: Arc<[Arc<dyn Follower>]>,
    changes: broadcast::Sender<Change>,
    events: Arc<EventLog>,
    followed: Arc<Mutex<Followed>>,
    guard: Arc<Guard>,
    resumed: Arc<Notify>,
    proved: watch::Sender<bool>,
}

impl Feed {
    /// A feed that nothing fills yet.
    pub fn new(
        ambient: Ambient,
        freshness: Arc<Freshness>,
        machine_id: MachineId,
        followers: Vec<Arc<dyn Follower>>,
    ) -> Self {
        Self {
            ambient,
            machine_id,
            standing: Standing::default(),
            freshness,
            followers: followers.into(),
            changes: broadcast::Sender::new(CAPACITY),
            events: EventLog::new(),
            followed: Arc::default(),
            guard: Arc::new(Guard::in_memory()),
            resumed: Arc::default(),
            proved: watch::Sender::new(false),
        }
    }

    /// Remembers with this how far the streams were followed, and believes no
    /// control plane that stands behind.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self {
            guard: Arc::new(guard),
            ..self
        }
    }

    /// Every change from now on. A lagging reader takes it as
    /// [`Change::Everything`].
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// What clients are told of the changes, after all who follow have taken them.
    pub fn events(&self) -> &Arc<EventLog> {
        &self.events
    }

    /// How old what was heard can be.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Whether the control plane takes this machine's calls.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Waits until everything was heard once.
    pub async fn reached(&self) {
        // the sender lives as long as self
        let _ = self.proved.subscribe().wait_for(|proved| *proved).await;
    }

    /// Fills the feed until told to stop.
    pub async fn run(self, channel: Channel, stop: CancellationToken) {
        let follow = self.keep_following(channel.clone(), &stop);
        let prove = self.keep_proving(channel, &stop);
        // beside the rest: a disk that is slow makes nothing stale
        tokio::join!(follow, prove, self.guard.keep_saving(&stop));
    }

    async fn keep_following(&self, channel: Channel, stop: &CancellationToken) {
        let mut replacements = channel.replacements();
        let mut client = EventServiceClient::new(channel);
        let mut retry = RETRY_MIN;
        loop {
            let began = self.ambient.clock.since_boot();
            let problem = tokio::select! {
                () = stop.cancelled() => return,
                // resumed at once where it stands, on the connection that is used now
                Ok(()) = replacements.changed() => continue,
                problem = self.follow(&mut client) => problem,
            };
            self.hear(&problem);
            let pause = if is_of_machine(problem.reason) {
                self.ambient.jittered(REFUSED)
            } else if matches!(problem.reason, Reason::Compacted | Reason::Lagged) {
                tracing::warn!(reason = %problem.reason, "changes were missed, all is listed again");
                self.followed().forget();
                self.ambient.part_of(SPREAD)
            } else {
                tracing::warn!(reason = %problem.reason, detail = problem.detail, "the stream of changes broke");
                self.ambient.jittered(retry)
            };
            // it held for a while: the next break is a new one
            let held = self.ambient.clock.since_boot().saturating_sub(began) > SILENCE;
            retry = if held {
                RETRY_MIN
            } else {
                (retry * 2).min(RETRY_MAX)
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads one stream to its end, which is always a problem.
    async fn follow(&self, client: &mut EventServiceClient<Channel>) -> Problem {
        match self.try_follow(client).await {
            Ok(()) => Problem::new(Reason::Unavailable, "the stream ended"),
            Err(problem) => problem,
        }
    }

    async fn try_follow(&self, client: &mut EventServiceClient<Channel>) -> Result<(), Problem> {
        if !self.followed().is_known() {
            in_time(LIST_TIMEOUT, self.list(client)).await?;
        }
        if self.followed().lacks_some() {
            self.take_up(client).await;
        }
        let request = self.request();
        let opening = in_time(SILENCE, async {
            client
                .watch(request)
                .await
                .map_err(|status| from_status(&status))
        });
        let opened = opening.await.inspect_err(|problem| {
            if problem.reason == Reason::InvalidArgument {
                self.followed().forget_newest();
            }
            self.guard.hear(problem);
        });
        let mut stream = opened?.into_inner();
        self.resumed.notify_one();
        let next = async |stream: &mut tonic::Streaming<WatchResponse>| {
            stream
                .message()
                .await
                .map_err(|status| from_status(&status))
        };
        while let Some(message) = in_time(SILENCE, next(&mut stream)).await? {
            self.take(message)?;
        }
        Ok(())
    }

    /// What it is asked for.
    fn request(&self) -> WatchRequest {
        let followed = self.followed();
        WatchRequest {
            after: followed.request(),
            seen: followed.seen(),
            from_client: false,
        }
    }

    /// Follows also what a control plane did not have that was asked before.
    async fn take_up(&self, client: &mut EventServiceClient<Channel>) {
        let asking = client.get_heads(pb::GetHeadsRequest::default());
        match in_time(SILENCE, async {
            asking.await.map_err(|status| from_status(&status))
        })
        .await
        {
            Ok(heads) => self.followed().take_up(heads.into_inner().heads),
            Err(problem) => {
                tracing::debug!(reason = %problem.reason, detail = problem.detail, "cannot ask for newer streams");
            }
        }
    }

    /// Begins anew: everything may be different, and this is what was revoked.
    async fn list(&self, client: &mut EventServiceClient<Channel>) -> Result<(), Problem> {
        let floor = self.guard.floor();
        let mut parts = client
            .list_revocations(ListRevocationsRequest {})
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        let mut heads = Vec::new();
        while let Some(part) = parts
            .message()
            .await
            .map_err(|status| from_status(&status))?
        {
            if heads.is_empty() {
                self.guard.judge(&floor, &part.heads, part.restored_epoch)?;
                self.tell(Change::Everything);
            }
            for revocation in part.revocations {
                let change = Change::read(revocation, self.machine_id);
                if let Some(change) = change.map_err(|_| unreadable())? {
                    self.hand_on(&change);
                }
            }
            heads = part.heads;
        }
        for head in heads {
            self.advance(head.stream, head.position);
        }
        let (is_known, head) = {
            let followed = self.followed();
            (followed.is_known(), followed.position(EventLog::STREAM))
        };
        if !is_known {
            return Err(Problem::new(Reason::Internal, "the list names no heads"));
        }
        if let Some(head) = head {
            self.events.begin_anew(head);
        }
        Ok(())
    }

    /// A stream was followed up to here.
    fn advance(&self, stream: String, position: Option<Position>) {
        self.guard.advance(&stream, position);
        self.followed().advance(stream, position);
    }

    fn take(&self, message: WatchResponse) -> Result<(), Problem> {
        match message.message {
            Some(Message::Changes(changes)) => {
                let mut events = Vec::new();
                let mut changes = changes.changes.into_iter();
                let taken = changes.try_for_each(|change| self.take_one(change, &mut events));
                // also those before one that cannot be read: they will not come again
                self.events.add(events);
                taken?;
            }
            Some(Message::Progress(progress)) => {
                for head in progress.heads {
                    self.advance(head.stream, head.position);
                }
            }
            None => {}
        }
        self.settle();
        Ok(())
    }

    fn take_one(
        &self,
        change: pb::Change,
        events: &mut Vec<(Rev, Option<Event>)>,
    ) -> Result<(), Problem> {
        let (stream, position) = (change.stream.clone(), change.position);
        let occurred_at = change.occurred_at;
        let event = Event::read(&change);
        let unplaced = Event::of_agent(&change).or_else(|| Event::of_budget(&change));
        let change = Change::read(change, self.machine_id).map_err(|_| unreadable())?;
        if let Some(change) = change {
            self.take_change(change);
        }
        self.followed().see(&stream, position, occurred_at);
        self.advance(stream, position);
        events.extend(event);
        if let Some(event) = unplaced {
            self.events.tell(event);
        }
        Ok(())
    }

    fn take_change(&self, change: Change) {
        if let Change::Machine { refused } = &change {
            match refused {
                // first: whoever begins anew is refused
                Some(reason) => _ = self.refuse(*reason),
                None => _ = self.standing.take(),
            }
        }
        self.tell(change);
    }

    /// What the control plane has said of a call of the feed's own: when it
    /// refuses this machine, all that was begun through it ends.
    fn hear(&self, problem: &Problem) {
        let reason = problem.reason;
        if is_of_machine(reason) && self.refuse(reason) {
            self.tell(Change::Machine {
                refused: Some(reason),
            });
        }
    }

    /// Returns whether that is news.
    fn refuse(&self, reason: Reason) -> bool {
        let is_news = self.standing.refuse(reason, self.freshness.since_boot());
        if is_news {
            tracing::error!(%reason, "the control plane refuses all calls of this machine");
        }
        is_news
    }

    /// A call that was made at this time was served.
    fn served(&self, asked_at: Duration) {
        if self.standing.served(asked_at) {
            tracing::info!("the control plane takes this machine's calls again");
        }
    }

    /// A proof that holds once the streams were followed to these heads.
    fn expect(&self, proof: Proof, heads: Vec<StreamPosition>) {
        self.followed().wait_for(proof, heads);
        self.settle();
    }

    fn settle(&self) {
        let proof = self.followed().proved();
        if let Some(proof) = proof {
            self.freshness.prove(proof);
            self.proved
                .send_if_modified(|proved| !std::mem::replace(proved, true));
        }
    }

    fn tell(&self, change: Change) {
        self.hand_on(&change);
        // nobody listening is no error
        let _ = self.changes.send(change);
    }

    fn hand_on(&self, change: &Change) {
        for follower in self.followers.iter() {
            follower.follow(change);
        }
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Problem::new(
            Reason::Unavailable,
            format!("nothing was heard for {} seconds", limit.as_secs()),
        ))
    })
}

fn unreadable() -> Problem {
    Problem::new(
        Reason::Internal,
        "a revocation cannot be understood by this edge; update it",
    )
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed({:?} old)", self.freshness.age())
    }
}

#[cfg(test)]
mod tests;
