//! Exchanges of slices by the batch: what machines have spent, and what they get, in one
//! transaction for all that come at the same time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    ids::{MachineId, TaskId},
    reason::Reason,
};
use time::OffsetDateTime;

use super::{
    Settings,
    budget::Budget,
    hold::{Memory, Recall},
    locked::{self, Locked},
    news::Act,
    plan::{Answer, Refused, Report},
    store::{self, Recalls},
};
use crate::{
    audit,
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
    },
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
    identity, policy,
};

/// Between two times that all machines are told that a budget is wanted.
const PAUSE: Duration = Duration::from_millis(200);

/// What a machine tells of its slices, all at once.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Whose.
    pub machine: MachineId,
    /// Of which process.
    pub incarnation: i64,
    /// Which of its exchanges.
    pub sequence: i64,
    /// Of the machine's journal.
    pub journal: i64,
    /// Each task and epoch once.
    pub reports: Vec<(TaskId, Report)>,
    /// Whether those are all that it knows of.
    pub complete: bool,
    /// What it says of its memory.
    pub memory: Memory,
}

/// What a machine is told.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Of its slices.
    pub slices: Vec<Told>,
    /// Our time.
    pub time: OffsetDateTime,
    /// It is to tell all that it remembers; `None`: it has, or nothing is held.
    pub recall: Option<Recall>,
}

/// What a machine is told of one slice.
#[derive(Debug, Clone)]
pub struct Told {
    /// Of which budget.
    pub task: TaskId,
    /// It, and what there is of the slice.
    pub slice: std::result::Result<(Budget, Answer), NoSlice>,
}

/// Why there is nothing to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlice {
    /// There is no such budget.
    NoBudget,
    /// Nobody may spend from it at this machine.
    Barred,
    /// Its numbers were not taken.
    Refused(Refused),
}

impl NoSlice {
    /// As a reason.
    pub const fn reason(self) -> Reason {
        match self {
            Self::NoBudget => Reason::BudgetNotFound,
            Self::Barred => Reason::PermissionDenied,
            Self::Refused(_) => Reason::InvalidArgument,
        }
    }
}

/// The batch operation.
pub(super) struct Operation {
    db: Db,
    ambient: Ambient,
    settings: Settings,
    /// When it was told last that a budget is wanted, on the steady clock.
    wanted: Mutex<HashMap<TaskId, Duration>>,
}

impl Operation {
    pub(super) fn new(db: Db, ambient: Ambient, settings: Settings) -> Self {
        Self {
            db,
            ambient,
            settings,
            wanted: Mutex::default(),
        }
    }

    /// Those of which it was not told a moment ago.
    fn to_be_told<'a>(&self, wanted: impl Iterator<Item = &'a TaskId>) -> Vec<ChangeBody> {
        let now = self.ambient.clock.since_boot();
        let mut told = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| *at + PAUSE > now);
        let mut changes = Vec::new();
        for task in wanted {
            if !told.contains_key(task) {
                told.insert(task.clone(), now);
                changes.push(Act::Want.change(task));
            }
        }
        changes
    }
}

impl batch::Operation for Operation {
    type Request = Exchange;
    type Reply = Heard;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "budgets.exchange", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Exchange]) -> Result<Served<Heard>> {
        let mut tx = self.db.begin().await?;
        let taken = take(&mut tx, requests).await?;
        let taken_requests = || {
            requests
                .iter()
                .filter(|exchange| is_taken(exchange, &taken))
        };
        if taken.is_empty() {
            return Ok(Served::now(requests.iter().map(|_| Err(late())).collect()));
        }
        let complete: Vec<MachineId> = taken_requests()
            .filter(|exchange| exchange.complete)
            .map(|exchange| exchange.machine)
            .collect();
        let mut tasks = BTreeSet::new();
        if !complete.is_empty() {
            tasks = store::tasks_of(&mut tx, &complete).await?;
        }
        let mut named = Vec::new();
        for exchange in taken_requests() {
            for (task, report) in &exchange.reports {
                tasks.insert(task.clone());
                named.push((task.clone(), exchange.machine, report.epoch));
            }
        }
        let mut locked = Locked::lock(&mut tx, &tasks, &named, self.settings.lease).await?;
        let machines: Vec<MachineId> = taken.keys().copied().collect();
        let machines = identity::machine::machines(&mut tx, &machines).await?;
        locked.bar(&machines, &policy::suspensions(&mut tx).await?);
        let recalls = recalls(&mut tx, &mut locked, taken_requests(), &machines).await?;
        let now = self.ambient.clock.now();
        let mut replies = Vec::with_capacity(requests.len());
        for exchange in requests {
            replies.push(if is_taken(exchange, &taken) {
                Ok(Heard {
                    slices: hear(&mut locked, exchange, &tasks),
                    time: now,
                    recall: recalls.asked(exchange),
                })
            } else {
                Err(late())
            });
        }
        note_recalls(&mut tx, taken_requests(), &recalls).await?;
        let reached = locked.write(&mut tx).await?;
        let (mut changes, mut entries) = locked::told(&reached);
        changes.extend(self.to_be_told(locked.wanted()));
        let (held, noted) = locked::doubts(locked.doubted());
        changes.extend(held);
        entries.extend(noted);
        audit::append(&mut tx, now, &entries).await?;
        events::append(&mut tx, Stream::Budgets, now, &changes).await?;
        let confirmation = self.db.commit_batch(tx).await?;
        Ok(Served {
            replies,
            confirmation,
        })
    }
}

/// The process and number of the exchange that counts of each machine.
type Taken = HashMap<MachineId, (i64, i64)>;

/// Which exchanges are later than all that were taken before.
async fn take(connection: &mut sqlx::PgConnection, requests: &[Exchange]) -> Result<Taken> {
    let mut latest: BTreeMap<MachineId, (i64, i64)> = BTreeMap::new();
    for exchange in requests {
        let order = (exchange.incarnation, exchange.sequence);
        let known = latest.entry(exchange.machine).or_insert(order);
        *known = (*known).max(order);
    }
    let all: Vec<_> = latest
        .iter()
        .map(|(machine, order)| (*machine, order.0, order.1))
        .collect();
    let noted: HashSet<MachineId> = store::note_exchanges(connection, &all).await?;
    Ok(latest
        .into_iter()
        .filter(|(machine, _)| noted.contains(machine))
        .collect())
}

fn is_taken(exchange: &Exchange, taken: &Taken) -> bool {
    taken.get(&exchange.machine) == Some(&(exchange.incarnation, exchange.sequence))
}

fn late() -> Error {
    Error::new(
        Reason::RevisionConflict,
        "a later exchange of this machine was taken; call again with newer numbers",
    )
}

/// Reads what machines have told of their memory, and what those tell of windows that are
/// over.
async fn recalls<'a>(
    connection: &mut sqlx::PgConnection,
    locked: &mut Locked,
    requests: impl Iterator<Item = &'a Exchange>,
    machines: &[identity::Machine],
) -> Result<Recalls> {
    let told: Vec<(&TaskId, MachineId, Report)> = requests
        .flat_map(|exchange| {
            let reports = exchange.reports.iter();
            reports.map(|(task, report)| (task, exchange.machine, *report))
        })
        .collect();
    locked.read_windows(connection, &told).await?;
    let ids: Vec<MachineId> = machines.iter().map(|machine| machine.id).collect();
    let recalls = store::recalls(connection, &ids).await?;
    locked.know(machines, &recalls);
    Ok(recalls)
}

/// Notes which machines have told all that they remember.
async fn note_recalls<'a>(
    connection: &mut sqlx::PgConnection,
    requests: impl Iterator<Item = &'a Exchange>,
    recalls: &Recalls,
) -> Result<()> {
    let newest = recalls.newest.map(|newest| newest.since);
    let told = requests.filter_map(|exchange| {
        let told = exchange
            .memory
            .recalled
            .filter(|told| Some(*told) <= newest);
        Some((exchange.machine, told?, exchange.memory.since?))
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() {
        return Ok(());
    }
    store::note_recalls(connection, &told).await
}

fn hear(locked: &mut Locked, exchange: &Exchange, tasks: &BTreeSet<TaskId>) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::with_capacity(exchange.reports.len());
    for (task, report) in &exchange.reports {
        told.push(Told {
            task: task.clone(),
            slice: hear_one(locked, exchange, task, *report),
        });
    }
    if exchange.complete {
        for task in tasks {
            told.extend(forgotten(locked, exchange, task));
        }
    }
    told
}

fn hear_one(
    locked: &mut Locked,
    exchange: &Exchange,
    task: &TaskId,
    report: Report,
) -> std::result::Result<(Budget, Answer), NoSlice> {
    let machine = exchange.machine;
    let plan = locked.get_mut(task).ok_or(NoSlice::NoBudget)?;
    let answer = plan
        .exchange(machine, exchange.journal, report)
        .map_err(NoSlice::Refused)?;
    if answer.epoch == 0 && plan.barred.contains(&machine) {
        return Err(NoSlice::Barred);
    }
    Ok((plan.budget.clone(), answer))
}

/// What the machine has of a budget and did not name: it never heard of it.
fn forgotten(locked: &mut Locked, exchange: &Exchange, task: &TaskId) -> Vec<Told> {
    let Some(plan) = locked.get_mut(task) else {
        return Vec::new();
    };
    let is_named = |epoch: i64| {
        let mut reports = exchange.reports.iter();
        reports.any(|(of, report)| of == task && report.epoch == epoch)
    };
    let asks = exchange
        .reports
        .iter()
        .any(|(of, report)| of == task && report.epoch == 0);
    let own = plan.held.iter().filter(|held| {
        held.machine == exchange.machine
            && held.journal == exchange.journal
            && !held.slice.is_closed
            && !held.is_restored
            && !asks
            && !is_named(held.epoch)
    });
    let reports: Vec<Report> = own
        .map(|held| Report {
            epoch: held.epoch,
            granted: held.slice.granted,
            returned: held.slice.returned,
            spent: held.slice.reported,
            ..Report::default()
        })
        .collect();
    let told = reports.into_iter().filter_map(|report| {
        let answer = plan
            .exchange(exchange.machine, exchange.journal, report)
            .ok()?;
        Some(Told {
            task: task.clone(),
            slice: Ok((plan.budget.clone(), answer)),
        })
    });
    told.collect()
}
