//! Noting what was spent.

use std::time::Duration;

use authguardian_proto::{
    ids::{AgentId, RequestId, ReservationId, TaskId},
    reason::Problem,
};

use super::{
    MAX_AMOUNT, Settled, Slices,
    holding::Stop,
    ledger::Amount,
    purse::{Purse, State},
    record::Record,
    refusal,
    requests::Done,
    wait::{Heard, Step, Wait},
};

impl Slices {
    /// What an agent had set aside has come to this; more than that is taken from what is
    /// free, and what is not there is overdraft.
    ///
    /// # Errors
    /// `RESERVATION_NOT_FOUND` also where it is another agent's, `ALREADY_SETTLED`,
    /// `LEASE_EXPIRED` where its time is over, `INVALID_ARGUMENT` for what is no amount,
    /// `UNAVAILABLE` where the disk does not take it. Nothing was done then.
    pub async fn settle(
        &self,
        agent: &AgentId,
        task: &TaskId,
        reservation: ReservationId,
        spent: Amount,
    ) -> Result<Settled, Problem> {
        refusal::check_amount(spent, 0)?;
        let purse = self.known_purse(task);
        let purse = purse.ok_or_else(|| refusal::not_reserved(reservation, task))?;
        loop {
            match self.settle_now(&purse, agent, reservation, spent) {
                Ok(settled) => return Ok(settled),
                Err(Step::Write(row)) => self.raise(&purse, row).await?,
                Err(Step::Refuse(problem)) => return Err(problem),
                Err(Step::Wait | Step::Again) => {
                    return Err(refusal::not_reserved(reservation, task));
                }
            }
        }
    }

    /// An agent has spent this without setting it aside; the same request id is the same
    /// spending. It is counted also where nothing may be spent any more.
    ///
    /// # Errors
    /// `BUDGET_NOT_FOUND`, `PERMISSION_DENIED` for an agent that may not spend from it,
    /// `BUDGET_FROZEN` where it is closed and nothing is held of it here, `UNAVAILABLE` where
    /// nothing is held of it here and the control plane is away; `REQUEST_ID_REUSED`,
    /// `INVALID_ARGUMENT` for what is no amount. Nothing was done then.
    pub async fn spend(
        &self,
        agent: &AgentId,
        task: &TaskId,
        request_id: &RequestId,
        spent: Amount,
    ) -> Result<Settled, Problem> {
        refusal::check_amount(spent, 1)?;
        let mut wait = Wait::new(self, self.purse(task)?, spent);
        loop {
            let purse = wait.purse.clone();
            let told = purse.told.notified();
            match self.spend_now(agent, request_id, spent, &wait) {
                Ok(settled) => return Ok(settled),
                Err(Step::Refuse(problem)) => return Err(problem),
                Err(Step::Write(row)) => self.raise(&purse, row).await?,
                Err(Step::Wait) => wait.wait(told).await,
                Err(Step::Again) => wait = Wait::new(self, self.purse(task)?, spent),
            }
        }
    }

    fn settle_now(
        &self,
        purse: &Purse,
        agent: &AgentId,
        reservation: ReservationId,
        spent: Amount,
    ) -> Result<Settled, Step> {
        let id = reservation.as_uuid();
        let now = self.ambient.clock.since_boot();
        let mut state = purse.state();
        let open = state.reservations.get(id);
        let Some(open) = open.filter(|open| open.by == *agent) else {
            let ended = state.reservations.ended(id);
            return Err(Step::Refuse(
                match ended.filter(|ended| ended.by == *agent) {
                    Some(ended) if ended.is_settled => refusal::already_settled(reservation),
                    Some(_) => refusal::released(reservation),
                    None => refusal::not_reserved(reservation, &purse.task),
                },
            ));
        };
        let (epoch, amount) = (open.epoch, open.amount);
        if open.until <= now {
            // also where it cannot be written now: its time is over
            let _ = state.release_expired(&purse.task, &self.journal, now);
            return Err(Step::Refuse(refusal::released(reservation)));
        }
        let overdraft = state.check_settle(epoch, amount, spent)?;
        let record = Record::Settle {
            t: state.pen.number(&self.journal),
            id,
            n: spent,
        };
        self.write(purse, &mut state, record)?;
        state.reservations.end(id, true);
        let settled = state.holding.settle(epoch, amount, spent);
        debug_assert_eq!(settled, Ok(overdraft), "it was looked at under this lock");
        Ok(self.settled(&mut state, spent, overdraft))
    }

    fn spend_now(
        &self,
        agent: &AgentId,
        request_id: &RequestId,
        spent: Amount,
        wait: &Wait<'_>,
    ) -> Result<Settled, Step> {
        let purse = &wait.purse;
        let now = self.ambient.clock.since_boot();
        let mut state = purse.state();
        if let Some(done) = state.requests.get(agent, request_id) {
            return state.spent_before(spent, done).map_err(Step::Refuse);
        }
        let heard = wait.heard(&state, now);
        state.check_spender(&purse.task, agent, heard, refusal::unheard)?;
        let epoch = state.slice_to_spend(&purse.task, spent, heard)?;
        let overdraft = state.check_settle(epoch, 0, spent)?;
        let record = Record::Spend {
            t: state.pen.number(&self.journal),
            epoch,
            n: spent,
            over: overdraft,
            by: agent.as_str().into(),
            req: request_id.as_str().into(),
        };
        self.write(purse, &mut state, record)?;
        let settled = state.holding.settle(epoch, 0, spent);
        debug_assert_eq!(settled, Ok(overdraft), "it was looked at under this lock");
        state.holding.spent(spent, now);
        let done = Done::Spent {
            amount: spent,
            overdraft,
        };
        let by = agent.as_str();
        state.requests.insert(by, request_id.as_str(), done);
        Ok(self.settled(&mut state, spent, overdraft))
    }

    fn write(&self, purse: &Purse, state: &mut State, record: Record<'_>) -> Result<(), Step> {
        let State { pen, unit, .. } = state;
        let written = pen.write(&self.journal, (&purse.task, unit), [record]);
        let written = written.map_err(|error| Step::Refuse(refusal::unwritten(error)));
        written.map(drop)
    }

    fn settled(&self, state: &mut State, recorded: Amount, overdraft: Amount) -> Settled {
        self.moved(state);
        if overdraft > 0 && state.tell_by(Duration::ZERO) {
            self.wanted.notify_one();
        }
        Settled {
            recorded,
            overdraft,
            remaining: state.remaining(),
            unit: state.unit.clone(),
        }
    }
}

impl State {
    /// What settling would come to: the overdraft of it.
    fn check_settle(&self, epoch: u64, reserved: Amount, spent: Amount) -> Result<Amount, Step> {
        let slice = self.holding.kept().find(|slice| slice.epoch == epoch);
        let before = slice.map_or(0, |slice| slice.report.spent);
        if before.saturating_add(spent) > MAX_AMOUNT {
            return Err(Step::Refuse(refusal::too_much()));
        }
        let checked = self.holding.check_settle(epoch, reserved, spent);
        checked.map_err(Step::Write)
    }

    /// The slice that spending counts in for which nothing was set aside: the present one,
    /// leased or not; where there is none and none comes, the last one that there was.
    fn slice_to_spend(&self, task: &TaskId, spent: Amount, heard: Heard) -> Result<u64, Step> {
        if let Some(present) = self.holding.present() {
            return Ok(present.epoch);
        }
        let step = match self.check_active(task, heard) {
            Ok(()) => self.short(task, spent, Stop::None, heard),
            Err(step) => step,
        };
        match (step, self.holding.latest()) {
            (Step::Refuse(_), Some(epoch)) => Ok(epoch),
            (step, _) => Err(step),
        }
    }

    /// What a request that is known has spent.
    fn spent_before(&self, spent: Amount, done: Done) -> Result<Settled, Problem> {
        match done {
            Done::Spent { amount, overdraft } if amount == spent => Ok(Settled {
                recorded: amount,
                overdraft,
                remaining: self.remaining(),
                unit: self.unit.clone(),
            }),
            Done::Spent { .. } | Done::Reserved { .. } => Err(refusal::reused()),
        }
    }
}
