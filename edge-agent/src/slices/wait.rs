//! How a caller waits for what is not here yet, and what it is told where that does not come.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    ids::{AgentId, TaskId},
    reason::Problem,
};
use tokio::{sync::futures::Notified, time::Instant};

use super::{
    Slices,
    holding::{Row, Stop},
    ledger::Amount,
    purse::{Purse, State},
    refusal,
};

/// How long a caller waits.
const PATIENCE: Duration = Duration::from_millis(250);
/// What was told so lately is not asked for again, only to be refused again.
const FRESH: Duration = Duration::from_millis(250);

/// What a try has come to that is not done.
#[derive(Debug)]
pub(super) enum Step {
    /// It will not be.
    Refuse(Problem),
    /// This has to be on disk first.
    Write(Row),
    /// Something has to be heard first.
    Wait,
    /// The purse is not in use any more.
    Again,
}

/// A caller that may have to wait.
pub(super) struct Wait<'a> {
    slices: &'a Slices,
    pub(super) purse: Arc<Purse>,
    /// For so much.
    amount: Amount,
    began: Option<Began>,
}

#[derive(Debug, Clone, Copy)]
struct Began {
    /// What is asked after this many times has heard of the caller.
    asked: u64,
    deadline: Instant,
    is_late: bool,
}

/// What is known when a try is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) now: Duration,
    /// What is known of the budget is as new as the caller can expect.
    pub(super) is_fresh: bool,
    /// The control plane has answered since the caller began to wait.
    is_answered: bool,
    /// There is time, and a control plane.
    may_wait: bool,
}

impl<'a> Wait<'a> {
    /// Has not begun yet.
    pub(super) fn new(slices: &'a Slices, purse: Arc<Purse>, amount: Amount) -> Self {
        Self {
            slices,
            purse,
            amount,
            began: None,
        }
    }

    /// What is known now.
    pub(super) fn heard(&self, state: &State, now: Duration) -> Heard {
        let is_answered = self
            .began
            .is_some_and(|began| state.asking.answered > began.asked);
        let terms = state.terms.as_ref().filter(|_| !state.is_stale());
        let is_new = terms.is_some_and(|terms| terms.asked_at.saturating_add(FRESH) > now);
        let is_late = self.began.is_some_and(|began| began.is_late);
        Heard {
            now,
            is_fresh: is_answered || is_new,
            is_answered,
            may_wait: !is_late && !self.slices.is_quiet(now),
        }
    }

    /// Waits for something to be heard, for as long as the caller may.
    pub(super) async fn wait(&mut self, told: Notified<'_>) {
        let began = *self.began.get_or_insert_with(|| {
            let mut state = self.purse.state();
            state.wait_for(self.amount, true);
            state.rush(Duration::ZERO);
            Began {
                asked: state.asking.asked,
                deadline: Instant::now() + PATIENCE,
                is_late: false,
            }
        });
        self.slices.wanted.notify_one();
        let is_late = tokio::time::timeout_at(began.deadline, told).await.is_err();
        self.began = Some(Began { is_late, ..began });
    }

    /// It is over.
    pub(super) fn end(&mut self) {
        if self.began.take().is_some() {
            self.purse.state().wait_for(self.amount, false);
        }
    }
}

impl Drop for Wait<'_> {
    /// Also where the caller has gone.
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    fn wait_for(&mut self, amount: Amount, begins: bool) {
        self.waiting = if begins {
            self.waiting.saturating_add(amount)
        } else {
            self.waiting.saturating_sub(amount)
        };
        self.holding.wait(self.waiting);
        if self.waiting == 0 {
            self.rush(Duration::MAX);
        }
    }

    /// Whether an agent may spend from a budget that is there; `away`: nobody tells.
    ///
    /// # Errors
    /// What else to do.
    pub(super) fn check_spender(
        &self,
        task: &TaskId,
        agent: &AgentId,
        heard: Heard,
        away: impl FnOnce(&TaskId) -> Problem,
    ) -> Result<(), Step> {
        if self.is_gone {
            return Err(Step::Again);
        }
        if let Some(reason) = self.missing.filter(|_| heard.is_answered) {
            return Err(Step::Refuse(refusal::missing(task, reason)));
        }
        match self.terms.as_ref().filter(|_| self.missing.is_none()) {
            None => Err(heard.wait_or(|| away(task))),
            Some(terms) if !terms.lets(agent) => {
                Err(Step::Refuse(refusal::not_a_spender(agent, task)))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether a budget lets anything be set aside.
    ///
    /// # Errors
    /// What else to do.
    pub(super) fn check_active(&self, task: &TaskId, heard: Heard) -> Result<(), Step> {
        match self.terms.as_ref().filter(|terms| !terms.is_active()) {
            None => Ok(()),
            Some(terms) if heard.is_fresh => Err(Step::Refuse(refusal::not_active(task, terms))),
            Some(terms) => Err(heard.wait_or(|| refusal::not_active(task, terms))),
        }
    }

    /// What to do where an amount cannot be set aside now. That the budget has not so much is
    /// only said where that is known: what this machine lacks may be there all the same.
    pub(super) fn short(&self, task: &TaskId, amount: Amount, stop: Stop, heard: Heard) -> Step {
        let exhausted = || refusal::exhausted(task, self.remaining(), &self.unit, self.overdrawn());
        let short = |free| refusal::short(task, free, &self.unit);
        // what was known under a lease that has ended counts no more
        let is_leased = matches!(stop, Stop::Short(_));
        let is_hopeless = (heard.is_fresh || is_leased) && self.lacks(amount);
        // others may have what remains beyond that, and have not given it back in time
        let has_not = self.remaining() < amount || self.overdrawn() > 0;
        let is_known = is_hopeless || (heard.is_answered && has_not);
        match stop {
            Stop::Write(row) => Step::Write(row),
            Stop::Short(_) | Stop::Lease if heard.is_fresh && is_hopeless => {
                Step::Refuse(exhausted())
            }
            _ if is_known => heard.wait_or(exhausted),
            Stop::Short(free) => heard.wait_or(|| short(free)),
            Stop::Lease | Stop::None if heard.is_answered => heard.wait_or(|| short(0)),
            Stop::Lease => heard.wait_or(|| refusal::lease_expired(task)),
            Stop::None => heard.wait_or(|| refusal::away(task)),
        }
    }

    /// Whether the budget had not so much when it was told of last, whoever holds it, nor has
    /// anything happened to it since.
    fn lacks(&self, amount: Amount) -> bool {
        let needed = amount.saturating_add(self.holding.overdraft());
        let missing = needed.saturating_sub(self.holding.free());
        let terms = self.terms.as_ref().filter(|_| !self.is_stale());
        terms.is_some_and(|terms| terms.obtainable() < missing)
    }

    /// Something has happened to the budget since it was told of last.
    fn is_stale(&self) -> bool {
        self.asking.answered < self.stale
    }
}

impl Heard {
    /// Waits if that may help.
    pub(super) fn wait_or(self, problem: impl FnOnce() -> Problem) -> Step {
        if self.may_wait {
            Step::Wait
        } else {
            Step::Refuse(problem())
        }
    }
}
