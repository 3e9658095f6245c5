//! What the tests have in common: a control plane that gives what is asked for, as long as
//! there is some, and an edge with a clock that tests move.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use authguardian_proto::{
    budgets::v1::{
        Account, Budget, ExchangeRequest, ExchangeResponse, Recall, SliceAnswer, SliceReport, State,
    },
    ids::{AgentId, RequestId, TaskId},
    reason::{Problem, Reason},
};
use prost_types::Timestamp;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Ambient, manual::ManualClock},
    slices::{Amount, Reserved, Slices},
};

pub(super) const BOOT: &str = "11111111-0000-4000-8000-000000000000";
pub(super) const OTHER_BOOT: &str = "22222222-0000-4000-8000-000000000000";
const TICK: Duration = Duration::from_millis(1);
pub(super) const TTL: Duration = Duration::from_mins(1);

pub(super) fn agent(name: &str) -> AgentId {
    name.parse().unwrap()
}

pub(super) fn task(name: &str) -> TaskId {
    name.parse().unwrap()
}

pub(super) fn request(id: &str) -> RequestId {
    id.parse().unwrap()
}

/// One budget.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) total: Amount,
    pub(super) state: State,
    pub(super) spenders: Vec<String>,
    /// By epoch; all of one machine.
    pub(super) slices: BTreeMap<u64, Given>,
    /// What others hold.
    pub(super) elsewhere: Amount,
    /// So much is asked back.
    pub(super) give_back: Amount,
    /// Others have spent so much beyond what there is.
    pub(super) overdrawn: Amount,
    /// Nothing is given for now.
    pub(super) is_slow: bool,
    /// All slices up to this epoch are of a window that has ended.
    pub(super) over: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) journal: u64,
    pub(super) granted: Amount,
    pub(super) returned: Amount,
    pub(super) reported: Amount,
}

impl Given {
    fn outstanding(self) -> Amount {
        (self.granted).saturating_sub(self.returned + self.reported)
    }

    fn overdraft(self) -> Amount {
        (self.returned + self.reported).saturating_sub(self.granted)
    }
}

impl Desk {
    pub(super) fn of(total: Amount) -> Self {
        Self {
            total,
            state: State::Active,
            spenders: vec!["*".to_owned()],
            slices: BTreeMap::new(),
            elsewhere: 0,
            give_back: 0,
            overdrawn: 0,
            is_slow: false,
            over: 0,
        }
    }

    fn account(&self) -> Account {
        let current = || self.slices.range(self.over + 1..).map(|(_, given)| given);
        let reported: Amount = current().map(|given| given.reported).sum();
        let reported = reported + self.overdrawn;
        let overdraft: Amount = current().map(|given| given.overdraft()).sum();
        let overdraft = overdraft + self.overdrawn;
        let held: Amount = current().map(|given| given.outstanding()).sum();
        let outstanding = held + self.elsewhere;
        let used = reported - overdraft + outstanding;
        Account {
            total: self.total,
            reported,
            overdraft,
            outstanding,
            remaining: self.total.saturating_sub(used + overdraft),
            ..Account::default()
        }
    }

    fn hear(&mut self, journal: u64, report: &SliceReport) -> Option<SliceAnswer> {
        let asks = report.wanted > 0 || report.needed > 0;
        let last = self.slices.keys().next_back().copied().unwrap_or(0);
        let epoch = if report.epoch > 0 {
            report.epoch
        } else {
            let open = self.slices.range(self.over + 1..);
            let mut own = open.filter(|(_, given)| given.journal == journal);
            match own.next_back() {
                Some((epoch, _)) => *epoch,
                None if asks && self.state != State::Closed => {
                    let given = Given {
                        journal,
                        ..Given::default()
                    };
                    self.slices.insert(last + 1, given);
                    last + 1
                }
                None => 0,
            }
        };
        let is_over = epoch <= self.over;
        if report.epoch > 0 {
            let given = self.slices.get_mut(&epoch)?;
            assert!(report.returned <= given.granted, "{report:?} {given:?}");
            given.reported = given.reported.max(report.spent);
            given.returned = given.returned.max(report.returned);
        }
        let rest = self.account().remaining;
        let is_active = self.state == State::Active;
        if let Some(given) = self.slices.get_mut(&epoch)
            && is_active
            && !self.is_slow
            && !report.ends
            && !is_over
        {
            let covered = given.overdraft().min(rest);
            given.granted += covered;
            given.granted += report.wanted.max(report.needed).min(rest - covered);
        }
        let account = self.account();
        let given = self.slices.get(&epoch).copied().unwrap_or_default();
        let is_leased = is_active && !is_over && epoch > 0 && account.overdraft == 0;
        Some(SliceAnswer {
            epoch,
            granted: given.granted,
            returned: given.returned,
            reported: given.reported,
            lease_ms: if is_leased { 30_000 } else { 0 },
            give_back: self.give_back,
            is_over: is_over && epoch > 0,
            account: Some(account),
            ..SliceAnswer::default()
        })
    }
}

/// All budgets.
#[derive(Debug, Default)]
pub(super) struct Control {
    desks: Mutex<BTreeMap<String, Desk>>,
    pub(super) heard: Mutex<Vec<ExchangeRequest>>,
    is_away: std::sync::atomic::AtomicBool,
    /// What it says the time is.
    pub(super) time: Mutex<Option<Timestamp>>,
    /// What it asks for until that is told.
    pub(super) recalls: Mutex<Option<Recall>>,
}

impl Control {
    pub(super) fn with(name: &str, desk: Desk) -> Arc<Self> {
        let control = Self::default();
        control.desks.lock().unwrap().insert(name.to_owned(), desk);
        Arc::new(control)
    }

    pub(super) fn add(&self, name: &str, desk: Desk) {
        self.desks.lock().unwrap().insert(name.to_owned(), desk);
    }

    pub(super) fn change<R>(&self, name: &str, change: impl FnOnce(&mut Desk) -> R) -> R {
        change(self.desks.lock().unwrap().get_mut(name).unwrap())
    }

    pub(super) fn go_away(&self, away: bool) {
        let order = std::sync::atomic::Ordering::Relaxed;
        self.is_away.store(away, order);
    }

    pub(super) fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeResponse, Problem> {
        if self.is_away.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Problem::new(Reason::Unavailable, "away"));
        }
        self.heard.lock().unwrap().push(request.clone());
        let mut desks = self.desks.lock().unwrap();
        let named = |task: &str, epoch: u64| {
            let mut reports = request.slices.iter();
            reports.any(|report| report.task_id == task && report.epoch == epoch)
        };
        let mut slices = Vec::new();
        for report in &request.slices {
            slices.push(answer(&mut desks, request.journal, report)?);
        }
        if request.complete {
            for (name, desk) in desks.iter_mut() {
                let open: Vec<u64> = desk.slices.keys().copied().collect();
                for epoch in open {
                    let given = desk.slices[&epoch];
                    let is_open = epoch > desk.over || given.outstanding() > 0;
                    if is_open && given.journal == request.journal && !named(name, epoch) {
                        let report = SliceReport {
                            task_id: name.clone(),
                            epoch,
                            ..SliceReport::default()
                        };
                        let told = desk.hear(request.journal, &report).unwrap();
                        slices.push(with_budget(name, desk, told));
                    }
                }
            }
        }
        let time = *self.time.lock().unwrap();
        Ok(ExchangeResponse {
            slices,
            time,
            recall: self
                .recalls
                .lock()
                .unwrap()
                .filter(|recall| recall.held_since != request.recalled),
        })
    }
}

fn answer(
    desks: &mut BTreeMap<String, Desk>,
    journal: u64,
    report: &SliceReport,
) -> Result<SliceAnswer, Problem> {
    let Some(desk) = desks.get_mut(&report.task_id) else {
        return Ok(SliceAnswer {
            reason: Reason::BudgetNotFound.as_str().to_owned(),
            ..SliceAnswer::default()
        });
    };
    let told = desk.hear(journal, report);
    let told = told.ok_or_else(|| Problem::new(Reason::InvalidArgument, "no such slice"))?;
    Ok(with_budget(&report.task_id, desk, told))
}

fn with_budget(name: &str, desk: &Desk, told: SliceAnswer) -> SliceAnswer {
    SliceAnswer {
        budget: Some(Budget {
            task_id: name.to_owned(),
            unit: "tokens".to_owned(),
            total: desk.total,
            thresholds: vec![50, 80, 100],
            spenders: desk.spenders.clone(),
            state: desk.state.into(),
            ..Budget::default()
        }),
        ..told
    }
}

/// An edge.
pub(super) struct Edge {
    pub(super) dir: TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) ambient: Ambient,
    pub(super) slices: Arc<Slices>,
    pub(super) control: Arc<Control>,
    stop: CancellationToken,
}

impl Edge {
    pub(super) fn new(control: &Arc<Control>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, ambient) = ManualClock::ambient();
        let slices = Slices::open_as(dir.path(), ambient.clone(), BOOT).unwrap();
        slices.begin(1);
        Self {
            dir,
            clock,
            ambient,
            slices,
            control: control.clone(),
            stop: CancellationToken::new(),
        }
    }

    /// Keeps up with the control plane from now on, as time goes by.
    pub(super) fn keep(&self) {
        let (slices, control) = (self.slices.clone(), self.control.clone());
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        let ticking = async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                clock.advance(TICK);
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(ticking));
        let keeping = async move {
            loop {
                let round = slices.round().await;
                match control.exchange(round.request()) {
                    Ok(response) => slices.take(round, response).await,
                    Err(problem) => slices.put_off(&round, &problem),
                }
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(keeping));
        tokio::spawn(self.slices.clone().tend(stop));
    }

    /// One exchange, now.
    pub(super) async fn exchange(&self) {
        self.clock.advance(Duration::from_millis(20));
        if let Ok(round) = self.slices.round_now().await {
            match self.control.exchange(round.request()) {
                Ok(response) => self.slices.take(round, response).await,
                Err(problem) => self.slices.put_off(&round, &problem),
            }
        }
    }

    /// Has somebody wait for an amount.
    pub(super) fn want(&self, amount: Amount) {
        if let Some(purse) = self.slices.known_purse(&task("t")) {
            purse.state().holding.wait(amount);
        }
    }

    /// Kills the process, and begins another.
    pub(super) fn restart(&mut self, boot: &str) {
        self.stop.cancel();
        self.stop = CancellationToken::new();
        let opened = Slices::open_as(self.dir.path(), self.ambient.clone(), boot);
        self.slices = opened.unwrap();
        self.slices.begin(2);
    }

    pub(super) async fn reserve(&self, amount: Amount) -> Result<Reserved, Problem> {
        let (agent, task) = (agent("a"), task("t"));
        self.slices.reserve(&agent, &task, amount, TTL, None).await
    }

    /// All that is known of a task.
    pub(super) fn image(&self, name: &str) -> Image {
        let purse = self.slices.known_purse(&task(name)).unwrap();
        let state = purse.state();
        let mut kept: Vec<_> = state.holding.kept().collect();
        kept.sort_by_key(|slice| slice.epoch);
        let open = state.reservations.all_open();
        let ended = state.reservations.all_ended();
        let requests = state.requests.iter();
        Image {
            kept: format!("{kept:?}"),
            open: open
                .map(|(id, open)| (id.to_string(), format!("{open:?}")))
                .collect(),
            ended: ended.map(|ended| format!("{ended:?}")).collect(),
            requests: requests.map(|request| format!("{request:?}")).collect(),
            past: self
                .slices
                .memory()
                .all()
                .map(|past| format!("{past:?}"))
                .collect(),
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What outlasts a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    kept: String,
    open: BTreeMap<String, String>,
    ended: Vec<String>,
    requests: Vec<String>,
    past: Vec<String>,
}
