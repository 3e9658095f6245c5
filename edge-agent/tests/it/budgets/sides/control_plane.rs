//! The control plane's side of one budget.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    time::Duration,
};

use authguardian_proto::ids::MachineId;
use control_plane::budgets::{
    self, Account, Amount, Ask, Budget, Held, Hold, Kind, Plan, State, Terms, Window,
};
use edge_agent::slices::{self, Told};
use time::OffsetDateTime;

use super::{Call, Reply, Violation};

/// One budget, as the tables have it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ControlPlane {
    pub(crate) budget: Budget,
    lease: Duration,
    /// By window.
    pub(crate) accounts: BTreeMap<Option<OffsetDateTime>, Account>,
    pub(crate) held: Vec<Held>,
    /// The last call of each machine that was taken.
    pub(crate) taken: BTreeMap<MachineId, u64>,
    /// Which machines have told all that they remember since a hold began, and since when
    /// they remember.
    told: BTreeMap<MachineId, (OffsetDateTime, OffsetDateTime)>,
    /// Of which an operator has said what they spent, in the present hold.
    words: BTreeSet<MachineId>,
}

impl ControlPlane {
    pub(crate) fn new(total: Amount, window: Window, lease: Duration) -> Self {
        let terms = Terms {
            unit: "tokens".to_owned(),
            total,
            parent: None,
            window,
            carries_over: false,
            thresholds: Vec::new(),
            owner: String::new(),
            spenders: Vec::new(),
        };
        Self {
            budget: Budget {
                task: "task".parse().unwrap(),
                terms,
                state: State::Active,
                created_at: OffsetDateTime::UNIX_EPOCH,
                recalled_at: None,
                counted: 0,
                is_released: false,
                hold: None,
            },
            lease,
            accounts: BTreeMap::new(),
            held: Vec::new(),
            taken: BTreeMap::new(),
            told: BTreeMap::new(),
            words: BTreeSet::new(),
        }
    }

    /// Takes a call, as long as no later one was taken.
    pub(crate) fn exchange(
        &mut self,
        call: &Call,
        now: Duration,
    ) -> Result<Option<Reply>, Violation> {
        if !self.would_take(call) {
            return Ok(None);
        }
        self.taken.insert(call.machine, call.number);
        let mut plan = self.plan(now);
        let mut answers = Vec::new();
        for told in &call.told {
            let answer = plan.exchange(call.machine, call.journal, report(told));
            let answer = answer.map_err(|refused| format!("{refused}: {told:?}"))?;
            answers.push(heard(&answer));
        }
        if plan.doubted.is_some() {
            return Err(format!("{call:?} tells more than is known"));
        }
        self.keep(plan)?;
        self.note_recall(call);
        let recall = self.budget.hold.filter(|hold| hold.is_open);
        let told = self.told.get(&call.machine).map(|(told, _)| *told);
        let recall = recall.filter(|hold| told < Some(hold.since));
        Ok(Some(Reply {
            call: call.clone(),
            answers,
            at: now,
            recall: recall.map(|hold| hold.since),
        }))
    }

    fn note_recall(&mut self, call: &Call) {
        if let (Some(told), Some(since)) = (call.recalled, call.remembers_since) {
            self.told.insert(call.machine, (told, moment(since)));
        }
    }

    /// The database is as it was at an earlier time, and is fenced.
    pub(crate) fn put_back(&mut self, backup: Self, as_of: Duration, now: Duration) {
        *self = backup;
        // what an earlier hold still waits for, this one does too
        let earlier = self.budget.hold.filter(|hold| hold.is_open);
        let as_of = earlier.map_or(moment(as_of), |hold| hold.as_of.min(moment(as_of)));
        self.budget.hold = Some(Hold {
            since: moment(now),
            as_of,
            is_open: true,
        });
        self.words.clear();
        for held in self.held.iter_mut().filter(|held| !held.slice.is_closed) {
            held.is_restored = true;
        }
    }

    /// Ends the hold where all of these machines have told.
    pub(crate) fn release(
        &mut self,
        machines: &[MachineId],
        now: Duration,
    ) -> Result<(), Violation> {
        let Some(hold) = self.budget.hold.filter(|hold| hold.is_open) else {
            return Ok(());
        };
        let has_told = |machine: &MachineId| {
            let told = self.told.get(machine);
            told.is_some_and(|(told, since)| *told >= hold.since && *since <= hold.as_of)
        };
        let mut machines = machines.iter();
        if machines.all(|machine| has_told(machine) || self.words.contains(machine)) {
            return self.thaw(now);
        }
        Ok(())
    }

    /// An operator ends the hold.
    pub(crate) fn thaw(&mut self, now: Duration) -> Result<(), Violation> {
        let mut plan = self.plan(now);
        plan.release();
        self.budget = plan.budget.clone();
        self.keep(plan)
    }

    pub(crate) fn would_take(&self, call: &Call) -> bool {
        self.taken
            .get(&call.machine)
            .is_none_or(|taken| *taken < call.number)
    }

    /// An operator settles the open slices of a machine, where it has some that are not
    /// leased. Whether that was done.
    pub(crate) fn settle(
        &mut self,
        machine: MachineId,
        spent: Option<Amount>,
        now: Duration,
    ) -> Result<bool, Violation> {
        let mut plan = self.plan(now);
        let is_done = plan.settle(machine, spent).is_ok();
        if is_done {
            self.words.insert(machine);
            self.keep(plan)?;
        }
        Ok(is_done)
    }

    /// A machine's slice.
    pub(crate) fn slice(&self, machine: MachineId, epoch: u64) -> Option<&Held> {
        let epoch = i64::try_from(epoch).unwrap();
        let mut held = self.held.iter();
        held.find(|held| held.machine == machine && held.epoch == epoch)
    }

    /// When the present window began.
    pub(crate) fn window(&self, now: Duration) -> Option<OffsetDateTime> {
        let span = self.budget.terms.window.at(moment(now));
        span.map(|span| span.begins_at)
    }

    /// What there is in the present window.
    pub(crate) fn account(&self, now: Duration) -> Account {
        let account = self.accounts.get(&self.window(now)).copied();
        account.unwrap_or_else(|| Account::new(self.budget.terms.total))
    }

    fn plan(&self, now: Duration) -> Plan {
        let mut accounts = self.accounts.clone();
        accounts.insert(self.window(now), self.account(now));
        let now = moment(now);
        Plan {
            budget: self.budget.clone(),
            now,
            lease: self.lease.try_into().unwrap(),
            window: self.budget.terms.window.at(now),
            accounts,
            held: self.held.clone(),
            barred: BTreeSet::new(),
            late: self.late(),
            doubted: None,
            movements: Vec::new(),
            is_wanted: false,
        }
    }

    /// Machines that have not told all since the last hold.
    fn late(&self) -> BTreeSet<MachineId> {
        let Some(hold) = self.budget.hold else {
            return BTreeSet::new();
        };
        let machines = self.taken.keys().copied();
        let has_told = |machine: &MachineId| {
            let told = self.told.get(machine);
            told.is_some_and(|(told, _)| *told >= hold.since)
        };
        machines.filter(|machine| !has_told(machine)).collect()
    }

    /// Keeps what was done, where every movement rests on the one before it, and no account
    /// was ever above its total.
    fn keep(&mut self, plan: Plan) -> Result<(), Violation> {
        let mut accounts = self.accounts.clone();
        for movement in &plan.movements {
            // a window of which nothing was known begins with nothing
            let total = if movement.kind == Kind::Created {
                0
            } else {
                self.budget.terms.total
            };
            let fresh = || Account::new(total);
            let account = accounts.entry(movement.window).or_insert_with(fresh);
            if movement.before != *account {
                return Err(format!("{account:?} was moved by {movement:?}"));
            }
            *account = movement.after;
            check_account(account)?;
        }
        for (window, account) in &accounts {
            if plan.accounts.get(window) != Some(account) {
                return Err(format!(
                    "{:?} is not what was moved: {account:?}",
                    plan.accounts
                ));
            }
        }
        self.accounts = plan.accounts;
        self.held = plan.held;
        Ok(())
    }

    /// What always holds: no account is above its total, and each is the sum of its slices.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        for (window, account) in &self.accounts {
            check_account(account)?;
            let mut sums = Account::new(account.total);
            for held in self.held.iter().filter(|held| held.window == *window) {
                sums.reported += held.slice.reported;
                sums.overdraft += held.slice.overdraft();
                sums.outstanding += held.slice.outstanding();
            }
            if sums != *account {
                return Err(format!("slices come to {sums:?}, and not to {account:?}"));
            }
        }
        Ok(())
    }
}

/// By what changes of it.
impl Hash for ControlPlane {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (
            self.budget.state.as_str(),
            self.budget.recalled_at,
            self.budget.hold,
        )
            .hash(hasher);
        (
            &self.accounts,
            &self.held,
            &self.taken,
            &self.told,
            &self.words,
        )
            .hash(hasher);
    }
}

fn check_account(account: &Account) -> Result<(), Violation> {
    if account.reported + account.outstanding > account.total + account.overdraft {
        return Err(format!("more is out than the total: {account:?}"));
    }
    Ok(())
}

pub(crate) fn moment(since_boot: Duration) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + since_boot
}

/// As it comes over the wire.
fn report(told: &Told) -> budgets::Report {
    budgets::Report {
        epoch: told.epoch.try_into().unwrap(),
        granted: told.report.granted,
        returned: told.report.returned,
        spent: told.report.spent,
        reserved: told.report.reserved,
        ask: Ask {
            wanted: told.wanted,
            needed: told.needed,
        },
        ends: told.ends,
        window: told
            .window
            .map(|seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap()),
    }
}

/// Likewise.
fn heard(answer: &budgets::Answer) -> slices::Answer {
    slices::Answer {
        epoch: answer.epoch.try_into().unwrap(),
        granted: answer.granted,
        returned: answer.returned,
        reported: answer.reported,
        lease: answer.lease.try_into().unwrap_or_default(),
        give_back: answer.give_back,
        is_over: answer.is_over,
        window: answer.window.map(|span| span.begins_at.unix_timestamp()),
    }
}
