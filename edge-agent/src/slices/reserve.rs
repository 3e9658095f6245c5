//! Setting an amount aside.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    ids::{AgentId, RequestId, ReservationId, TaskId},
    reason::Problem,
};
use uuid::Uuid;

use super::{
    Reserved, Slices,
    holding::Stop,
    ledger::Amount,
    purse::{Purse, State, millis},
    record::Record,
    refusal,
    requests::Done,
    reservations::Open,
    wait::{Heard, Step, Wait},
};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    agent: &'a AgentId,
    amount: Amount,
    ttl: Duration,
    request_id: Option<&'a RequestId>,
}

impl Slices {
    /// Sets an amount aside for an agent, for so long; the same request id is the same
    /// reservation. Where there is not enough here, waits a moment for more.
    ///
    /// # Errors
    /// `BUDGET_NOT_FOUND`, `PERMISSION_DENIED` for an agent that may not spend from it,
    /// `BUDGET_FROZEN` also where it is closed, `BUDGET_EXHAUSTED` where it is known that the
    /// budget has not so much; `LEASE_EXPIRED` and `UNAVAILABLE` where this machine has not, and
    /// no more comes; `REQUEST_ID_REUSED`, `INVALID_ARGUMENT` for what is no amount. Nothing
    /// was done then.
    pub async fn reserve(
        &self,
        agent: &AgentId,
        task: &TaskId,
        amount: Amount,
        ttl: Duration,
        request_id: Option<&RequestId>,
    ) -> Result<Reserved, Problem> {
        refusal::check_amount(amount, 1)?;
        let ask = Ask {
            agent,
            amount,
            ttl,
            request_id,
        };
        let mut wait = Wait::new(self, self.purse(task)?, amount);
        loop {
            let purse = wait.purse.clone();
            let told = purse.told.notified();
            match self.reserve_now(&ask, &wait) {
                Ok(reserved) => return Ok(reserved),
                Err(Step::Refuse(problem)) => return Err(problem),
                Err(Step::Write(row)) => self.raise(&purse, row).await?,
                Err(Step::Wait) => wait.wait(told).await,
                Err(Step::Again) => wait = Wait::new(self, self.purse(task)?, amount),
            }
        }
    }

    fn reserve_now(&self, ask: &Ask<'_>, wait: &Wait<'_>) -> Result<Reserved, Step> {
        let purse = &wait.purse;
        let now = self.ambient.clock.since_boot();
        let mut state = purse.state();
        if let Some(id) = ask.request_id
            && let Some(done) = state.requests.get(ask.agent, id)
        {
            let told = state.reserved_before(ask.amount, done, now);
            return told.map_err(Step::Refuse);
        }
        if self.is_ending() {
            return Err(Step::Refuse(refusal::stopping()));
        }
        let heard = wait.heard(&state, now);
        let away = match state.holding.present() {
            Some(_) => refusal::lease_expired,
            None => refusal::away,
        };
        state.check_spender(&purse.task, ask.agent, heard, away)?;
        state.check_active(&purse.task, heard)?;
        let epoch = self.find(purse, &mut state, ask.amount, heard)?;
        let id = self.ambient.uuid();
        self.set_aside(purse, &mut state, (id, epoch), ask, now)
            .map_err(Step::Refuse)
    }

    /// A slice in which there is enough.
    fn find(
        &self,
        purse: &Arc<Purse>,
        state: &mut State,
        amount: Amount,
        heard: Heard,
    ) -> Result<u64, Step> {
        loop {
            let stop = match state.holding.check_reserve(amount, heard.now) {
                Ok(epoch) => return Ok(epoch),
                Err(stop) => stop,
            };
            let is_short = matches!(stop, Stop::Short(_));
            let released = is_short
                && state
                    .release_expired(&purse.task, &self.journal, heard.now)
                    .map_err(|error| Step::Refuse(refusal::unwritten(error)))?;
            if !released {
                return Err(state.short(&purse.task, amount, stop, heard));
            }
        }
    }

    fn set_aside(
        &self,
        purse: &Purse,
        state: &mut State,
        (id, epoch): (Uuid, u64),
        ask: &Ask<'_>,
        now: Duration,
    ) -> Result<Reserved, Problem> {
        let until = millis(now.saturating_add(ask.ttl));
        let record = Record::Reserve {
            t: state.pen.number(&self.journal),
            id,
            epoch,
            n: ask.amount,
            until,
            by: ask.agent.as_str().into(),
            req: ask.request_id.map(|id| id.as_str().into()),
        };
        let unit = state.unit.clone();
        state
            .pen
            .write(&self.journal, (&purse.task, &unit), [record])
            .map_err(refusal::unwritten)?;
        let reserved = state.holding.reserve(ask.amount, now);
        debug_assert_eq!(reserved, Ok(epoch), "it was looked at under this lock");
        let until = Duration::from_millis(until);
        let open = Open {
            by: ask.agent.clone(),
            epoch,
            amount: ask.amount,
            until,
        };
        state.reservations.insert(id, open);
        if let Some(request_id) = ask.request_id {
            let amount = ask.amount;
            let done = Done::Reserved { id, amount };
            let by = ask.agent.as_str();
            state.requests.insert(by, request_id.as_str(), done);
        }
        self.moved(state);
        Ok(Reserved {
            reservation: ReservationId::from_uuid(id),
            granted: ask.amount,
            remaining: state.remaining(),
            unit,
            expires_in: until.saturating_sub(now),
        })
    }
}

impl State {
    /// What a request that is known has set aside.
    fn reserved_before(
        &self,
        asked: Amount,
        done: Done,
        now: Duration,
    ) -> Result<Reserved, Problem> {
        match done {
            Done::Reserved { id, amount } if amount == asked => {
                let open = self.reservations.get(id);
                Ok(Reserved {
                    reservation: ReservationId::from_uuid(id),
                    granted: amount,
                    remaining: self.remaining(),
                    unit: self.unit.clone(),
                    expires_in: open.map_or(Duration::ZERO, |open| open.until.saturating_sub(now)),
                })
            }
            Done::Reserved { .. } | Done::Spent { .. } => Err(refusal::reused()),
        }
    }
}
