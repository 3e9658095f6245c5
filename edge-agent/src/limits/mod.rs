//! How often API keys may be used: this machine's leased shares of their
//! limits, kept without asking anybody. The control plane sees to it that the
//! shares of all machines stay within a limit; the bound stands there
//! (`identity/rates/shares`).
//!
//! A share that was leased ends by itself. Where none comes after it (the
//! control plane is away), one call every [`TRICKLE`] passes for each limit.

mod bucket;
mod meter;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use authguardian_proto::{
    ids::ApiKeyId,
    rate::{LimitId, RateLimits, Share, Use},
};
use tokio::sync::Notify;

use self::bucket::Bucket;
pub use self::bucket::Stop;
use crate::clock::Clock;

/// Between two calls without a lease.
pub const TRICKLE: Duration = Duration::from_secs(1);

/// How long a call waits for a share before it goes without.
const PATIENCE: Duration = Duration::from_millis(250);
/// What is due so soon is asked for together with what is due now.
const TOGETHER: Duration = Duration::from_millis(50);
/// Until it is asked again after no answer.
const PAUSE: Duration = Duration::from_millis(500);
/// Most limits that are asked for in one go.
const AT_ONCE: usize = 1000;

/// One time of asking for shares; there is no other until it is done.
#[derive(Debug)]
pub struct Round {
    asked_at: Duration,
    uses: Vec<(LimitId, Use)>,
    buckets: Vec<(Arc<Key>, Arc<Bucket>)>,
}

/// The limits of all keys that are in use here.
#[derive(Debug)]
pub struct Limits {
    clock: Arc<dyn Clock>,
    keys: papaya::HashMap<ApiKeyId, Arc<Key>>,
    /// A share is wanted before it is due.
    wanted: Notify,
    /// Shares were told, or not.
    told: Notify,
}

/// The limits of one key.
#[derive(Debug)]
struct Key {
    limits: Arc<RateLimits>,
    /// Of all calls.
    all: Option<Arc<Bucket>>,
    /// Of single tools.
    tools: BTreeMap<String, Arc<Bucket>>,
}

impl Limits {
    /// No key yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            keys: papaya::HashMap::new(),
            wanted: Notify::new(),
            told: Notify::new(),
        })
    }

    /// Takes one call of a tool (none: of all calls alone) from the limits of a
    /// key. Where there is no share, it waits a moment for one.
    ///
    /// # Errors
    /// How long to wait until the next call can pass.
    pub async fn check(
        &self,
        id: ApiKeyId,
        limits: &Arc<RateLimits>,
        tool: Option<&str>,
    ) -> Result<(), Duration> {
        if limits.are_none() {
            return Ok(());
        }
        match self.check_now(id, limits, tool) {
            Ok(()) => return Ok(()),
            Err(Stop::Full(wait)) => return Err(wait),
            Err(Stop::Missing) => {}
        }
        let key = self.key(id, limits);
        let mut told = self.told.notified();
        if key.hurry(tool, self.clock.since_boot()) {
            self.wanted.notify_one();
            let leased = async {
                // a round that had begun before is not the one that helps
                while !key.is_leased(tool) {
                    told.await;
                    told = self.told.notified();
                }
            };
            let _ = tokio::time::timeout(PATIENCE, leased).await;
        }
        key.check_or_trickle(tool)
    }

    /// Takes one call, from shares that are here.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn check_now(
        &self,
        id: ApiKeyId,
        limits: &Arc<RateLimits>,
        tool: Option<&str>,
    ) -> Result<(), Stop> {
        self.key(id, limits).check(tool)
    }

    /// Waits until shares are to be asked for; tells which. Whoever takes a
    /// round has to end it with [`Limits::take`] or [`Limits::put_off`].
    pub async fn round(&self) -> Round {
        loop {
            let next = match self.round_now() {
                Ok(round) => return round,
                Err(next) => next,
            };
            let pause = next.map_or(IDLE_LOOK, |next| {
                next.saturating_sub(self.clock.since_boot()).min(IDLE_LOOK)
            });
            // whatever comes first: the time, or somebody who cannot wait for it
            let _ = tokio::time::timeout(pause, self.wanted.notified()).await;
        }
    }

    /// The shares that are to be asked for now.
    ///
    /// # Errors
    /// Where none is due: since boot, when the next one is.
    pub fn round_now(&self) -> Result<Round, Option<Duration>> {
        let now = self.clock.since_boot();
        match self.due(now) {
            (due, next) if due.is_empty() => Err(next),
            (due, _) => Ok(Self::begin(now, due)),
        }
    }

    /// Ends a round with what was leased: one for each use, `None` where there
    /// is no such limit any more.
    pub fn take(&self, round: &Round, leased: &[Option<Share>]) {
        for ((id, told), ((key, bucket), leased)) in
            round.uses.iter().zip(round.buckets.iter().zip(leased))
        {
            match leased {
                Some(leased) if !told.release => bucket.take(round.asked_at, leased),
                // the key's next session knows its limits; this one goes on without
                None if !told.release => bucket.take(round.asked_at, &UNLIMITED),
                _ => self.forget(id, key),
            }
        }
        self.told.notify_waiters();
    }

    /// Ends a round without an answer.
    pub fn put_off(&self, round: &Round) {
        let now = self.clock.since_boot();
        for (_, bucket) in &round.buckets {
            bucket.postpone(now, PAUSE);
        }
        self.told.notify_waiters();
    }

    /// The limits of a key; where they have changed, with the shares of those
    /// that are left.
    fn key(&self, id: ApiKeyId, limits: &Arc<RateLimits>) -> Arc<Key> {
        let keys = self.keys.pin();
        if let Some(key) = keys.get(&id)
            && (Arc::ptr_eq(&key.limits, limits) || key.limits == *limits)
        {
            return key.clone();
        }
        let changed =
            |before: Option<&Arc<Key>>| Arc::new(Key::new(limits.clone(), before, &self.clock));
        keys.update_or_insert_with(id, |before| changed(Some(before)), || changed(None))
            .clone()
    }

    /// Buckets that are due, and when the next one is.
    fn due(&self, now: Duration) -> (Vec<Due>, Option<Duration>) {
        let mut due = Vec::new();
        let mut next: Option<Duration> = None;
        let mut is_due = false;
        let keys = self.keys.pin();
        for (id, key) in &keys {
            for (tool, bucket) in key.buckets() {
                let at = bucket.due();
                is_due |= at <= now;
                if at <= now + TOGETHER && due.len() < AT_ONCE {
                    let id = LimitId {
                        api_key_id: *id,
                        tool: tool.to_owned(),
                    };
                    due.push((id, key.clone(), bucket.clone()));
                } else {
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            }
        }
        if is_due {
            (due, next)
        } else {
            let soon = due.iter().map(|(_, _, bucket)| bucket.due());
            (Vec::new(), soon.chain(next).min())
        }
    }

    fn begin(asked_at: Duration, due: Vec<Due>) -> Round {
        let mut uses = Vec::with_capacity(due.len());
        let mut buckets = Vec::with_capacity(due.len());
        for (id, key, bucket) in due {
            uses.push((id, bucket.ask(asked_at)));
            buckets.push((key, bucket));
        }
        Round {
            asked_at,
            uses,
            buckets,
        }
    }

    /// A key that nobody uses any more; one whose limits were changed meanwhile
    /// is another.
    fn forget(&self, id: &LimitId, key: &Arc<Key>) {
        let unused = key.buckets().all(|(_, bucket)| !bucket.is_leased());
        if !unused {
            return;
        }
        let keys = self.keys.pin();
        let _ = keys.remove_if(&id.api_key_id, |_, known| Arc::ptr_eq(known, key));
    }
}

/// A bucket that is due, of which key.
type Due = (LimitId, Arc<Key>, Arc<Bucket>);

/// How often it is looked whether something is due, where nothing is.
const IDLE_LOOK: Duration = Duration::from_mins(1);

/// For what is no limit any more, until the next session.
const UNLIMITED: Share = Share {
    per_second: 1e9,
    burst: u32::MAX,
    tokens: 4e9,
    lease: Duration::from_secs(5),
    again: Duration::from_secs(1),
};

impl Round {
    /// What to ask for.
    pub fn uses(&self) -> &[(LimitId, Use)] {
        &self.uses
    }
}

impl Key {
    fn new(limits: Arc<RateLimits>, before: Option<&Arc<Self>>, clock: &Arc<dyn Clock>) -> Self {
        let fresh = || Arc::new(Bucket::new(clock.clone()));
        let all_before = before.and_then(|key| key.all.clone());
        let tool_before = |tool: &str| before.and_then(|key| key.tools.get(tool).cloned());
        Self {
            all: limits.all.map(|_| all_before.unwrap_or_else(fresh)),
            tools: limits
                .tools
                .keys()
                .map(|tool| (tool.clone(), tool_before(tool).unwrap_or_else(fresh)))
                .collect(),
            limits,
        }
    }

    fn buckets(&self) -> impl Iterator<Item = (&str, &Arc<Bucket>)> {
        let all = self.all.iter().map(|bucket| ("", bucket));
        let tools = self.tools.iter();
        all.chain(tools.map(|(tool, bucket)| (tool.as_str(), bucket)))
    }

    /// What a call is taken from, the narrower limit first: what it refuses is
    /// not to use up the wider one.
    fn concerned(&self, tool: Option<&str>) -> impl Iterator<Item = &Arc<Bucket>> {
        let own = tool.and_then(|tool| self.tools.get(tool));
        own.into_iter().chain(&self.all)
    }

    fn check(&self, tool: Option<&str>) -> Result<(), Stop> {
        if !self.is_leased(tool) {
            return Err(Stop::Missing);
        }
        self.concerned(tool).try_for_each(|bucket| bucket.check())
    }

    /// A call that has waited for its share as long as it may.
    fn check_or_trickle(&self, tool: Option<&str>) -> Result<(), Duration> {
        self.concerned(tool).try_for_each(|bucket| {
            let checked = match bucket.check() {
                Err(Stop::Missing) => bucket.trickle(),
                checked => checked,
            };
            checked.map_err(|stop| match stop {
                Stop::Full(wait) => wait,
                Stop::Missing => TRICKLE,
            })
        })
    }

    fn is_leased(&self, tool: Option<&str>) -> bool {
        self.concerned(tool).all(|bucket| bucket.is_leased())
    }

    fn hurry(&self, tool: Option<&str>, now: Duration) -> bool {
        let mut hurries = true;
        for bucket in self.concerned(tool).filter(|bucket| !bucket.is_leased()) {
            hurries &= bucket.hurry(now);
        }
        hurries
    }
}
