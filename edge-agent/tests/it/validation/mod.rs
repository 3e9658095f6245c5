//! Tokens are checked at the edge itself, and never called good on knowledge
//! that is older than they allow: revocations reach every edge, and whatever
//! keeps an edge from hearing of them ends in a refusal.

mod cut_off;
mod fleet;
mod held;
mod paused;
mod races;
mod restart;
mod rotation;
mod wall_clock;

use std::time::Duration;

/// How old an edge's knowledge may be when a token says nothing else.
pub(crate) const BOUND: Duration = Duration::from_secs(5);
