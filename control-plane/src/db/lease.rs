//! The leader lease: until when the server that answers can have no successor.
//!
//! A primary whose Patroni is dead goes on serving, and a standby that has not
//! switched yet goes on confirming its commits, while another node has been
//! promoted already. No question to PostgreSQL finds that out. Patroni promotes
//! nobody before the old leader's lease in etcd has ended; so whatever ended
//! before that can be believed, and nothing later.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use authguardian_proto::reason::Reason;

use super::{Pools, etcd::Etcd};
use crate::{
    clock::SharedClock,
    error::{Error, Result},
};

/// Taken off the end of a lease: for the difference of two steady clocks over
/// its length, and for rounding.
const MARGIN: Duration = Duration::from_millis(500);

/// Between two looks while the primary has the lease, and while it has not.
const PERIOD: Duration = Duration::from_millis(500);
const HURRY: Duration = Duration::from_millis(100);

/// What is known of the leader's lease now.
pub struct Lease {
    clock: SharedClock,
    known: ArcSwap<std::result::Result<Held, String>>,
}

/// A node leads.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// What it writes; no other primary has this one.
    timeline: i64,
    /// CLOCK_BOOTTIME of this machine.
    until: Duration,
}

impl Lease {
    /// Nothing is known until `follow` has looked.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            known: ArcSwap::from_pointee(Err("was not looked for yet".to_owned())),
        }
    }

    /// How long the leader's lease lasts at least.
    ///
    /// # Errors
    /// Why nobody is known to lead.
    pub fn remaining(&self) -> std::result::Result<Duration, String> {
        let held = self.known.load();
        let held = held.as_ref().as_ref().map_err(Clone::clone)?;
        held.until
            .checked_sub(self.clock.since_boot())
            .filter(|remaining| !remaining.is_zero())
            .ok_or_else(|| "has ended".to_owned())
    }

    /// Whether somebody leads now.
    ///
    /// # Errors
    /// `UNAVAILABLE`: what is begun now could not be believed.
    pub fn check(&self) -> Result<()> {
        self.remaining().map(drop).map_err(|why| {
            Error::new(
                Reason::Unavailable,
                format!("no database node is known to lead: the leader's lease {why}; try again"),
            )
        })
    }

    /// Whether the server that writes this timeline leads at this moment.
    pub(super) fn covers(&self, timeline: i64) -> bool {
        let held = self.known.load();
        matches!(&**held, Ok(held) if held.timeline == timeline && self.clock.since_boot() < held.until)
    }

    /// Looks once.
    pub(super) async fn look(&self, etcd: &Etcd, pools: &Pools) {
        // before the question: the answer may have been true only then
        let asked = self.clock.since_boot();
        let leader = match etcd.leader().await {
            Ok(leader) => leader,
            // what was promised until then still holds
            Err(error) => {
                if self.remaining().is_err() {
                    let why = format!("cannot be read from etcd: {error}");
                    self.known.store(Arc::new(Err(why)));
                }
                return;
            }
        };
        let now = leader.and_then(|leader| {
            let timeline = pools.timeline_of(&leader.host, leader.port).ok_or_else(|| {
                format!(
                    "is that of `{}` at `{}:{}`, which is not to be written to, or is none of `database.url`",
                    leader.name, leader.host, leader.port
                )
            })?;
            let until = (asked + leader.ttl).saturating_sub(MARGIN);
            Ok(Held { timeline, until })
        });
        self.known.store(Arc::new(now));
    }

    /// Looks again and again, until nobody else asks any more.
    pub(super) async fn follow(self: Arc<Self>, etcd: Etcd, pools: Pools) {
        while Arc::strong_count(&self) > 1 {
            let settled = pools
                .timeline()
                .is_some_and(|timeline| self.covers(timeline));
            tokio::time::sleep(if settled { PERIOD } else { HURRY }).await;
            self.look(&etcd, &pools).await;
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?})", self.remaining())
    }
}
