//! Whether the control plane takes this machine's calls, as far as was heard.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use authguardian_proto::reason::{Problem, Reason};

/// How this machine stands; clones are the same one. Written by the feed, read
/// before any call of a client is served.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<ArcSwapOption<Refusal>>);

#[derive(Debug)]
struct Refusal {
    problem: Problem,
    /// Since boot.
    heard_at: Duration,
}

impl Standing {
    /// Whether calls through this machine count.
    ///
    /// # Errors
    /// `MACHINE_BANNED`, `MACHINE_EVICTED`.
    pub fn check(&self) -> Result<(), Problem> {
        match &*self.0.load() {
            None => Ok(()),
            Some(refusal) => Err(refusal.problem.clone()),
        }
    }

    /// Calls are refused for this reason; returns whether that is news.
    pub(super) fn refuse(&self, reason: Reason, heard_at: Duration) -> bool {
        let problem = Problem::new(reason, detail(reason));
        let before = self.check().err();
        let is_news = before.is_none_or(|before| before.reason != reason);
        self.0.store(Some(Arc::new(Refusal { problem, heard_at })));
        is_news
    }

    /// Calls count.
    pub(super) fn take(&self) -> bool {
        self.0.swap(None).is_some()
    }

    /// A call that was made at this time was served. One that was on its way
    /// when the refusal was heard says nothing. Returns whether that is news.
    pub(super) fn served(&self, asked_at: Duration) -> bool {
        let later = |refusal: &Arc<Refusal>| refusal.heard_at < asked_at;
        self.0.load().as_ref().is_some_and(later) && self.take()
    }
}

/// Whether a reason is about this machine, and not about one call of it.
pub(super) fn is_of_machine(reason: Reason) -> bool {
    matches!(reason, Reason::MachineBanned | Reason::MachineEvicted)
}

fn detail(reason: Reason) -> &'static str {
    match reason {
        Reason::MachineEvicted => "this machine was evicted; it has to join again, as another",
        _ => "this machine is banned; ask an operator",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_refusal_is_news_once_and_holds_until_a_later_call_was_served() {
        let standing = Standing::default();
        assert!(standing.check().is_ok());
        assert!(!standing.served(SECOND), "it was good");
        assert!(standing.refuse(Reason::MachineBanned, 2 * SECOND));
        assert!(!standing.refuse(Reason::MachineBanned, 3 * SECOND));
        assert_eq!(standing.check().unwrap_err().reason, Reason::MachineBanned);
        assert!(!standing.served(3 * SECOND), "asked before");
        assert!(standing.check().is_err());
        assert!(standing.served(4 * SECOND));
        assert!(standing.check().is_ok());
        assert!(standing.refuse(Reason::MachineBanned, 5 * SECOND));
        assert!(standing.refuse(Reason::MachineEvicted, 6 * SECOND));
    }
}
