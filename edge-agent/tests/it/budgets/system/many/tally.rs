//! What spenders were told, and what must not be as far as they know.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use control_plane::budgets::Window;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use super::task::{self, Task};
use crate::wait::DEADLINE;

/// Whose spending of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Of {
    pub(super) edge: usize,
    /// Which one its machine has had.
    pub(super) disk: u32,
    pub(super) task: usize,
}

/// All that was heard.
#[derive(Debug, Default, Clone)]
pub(super) struct Heard {
    /// Calls that were done.
    pub(super) acknowledged: usize,
    /// Attempts without a definite answer …
    pub(super) unknown: usize,
    /// … and calls that were repeated until there was one.
    pub(super) resolved: usize,
    /// Settlements that were acknowledged …
    pub(super) settled: usize,
    /// … and what they come to.
    pub(super) spent: u64,
    pub(super) overdraft: u64,
    /// What was set aside on a disk that was destroyed before it was settled.
    pub(super) lost: usize,
    /// By reason.
    pub(super) refused: BTreeMap<String, usize>,
    /// By edge: refused since its lease had ended, or nothing was heard of it.
    pub(super) lapsed: BTreeMap<usize, usize>,
}

/// What spenders know together.
pub(super) struct Tally {
    heard: watch::Sender<Heard>,
    disks: Vec<AtomicU32>,
    spent: Mutex<BTreeMap<Of, u64>>,
    /// By task.
    bounds: Vec<Bound>,
    violations: Mutex<Vec<String>>,
}

/// What is set aside or spent of a task at least.
struct Bound {
    task: Task,
    /// Never less than what it is.
    total: AtomicU64,
    held: Mutex<BTreeMap<i64, u64>>,
}

impl Tally {
    pub(super) fn new(edges: usize) -> Self {
        let bounds = task::ALL.map(|task| Bound {
            task,
            total: AtomicU64::new(task.own()),
            held: Mutex::default(),
        });
        Self {
            heard: watch::Sender::new(Heard::default()),
            disks: (0..edges).map(|_| AtomicU32::new(0)).collect(),
            spent: Mutex::default(),
            bounds: bounds.into(),
            violations: Mutex::default(),
        }
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// What was acknowledged.
    pub(super) fn spent(&self) -> BTreeMap<Of, u64> {
        self.spent.lock().unwrap().clone()
    }

    /// Which disk an edge has.
    pub(super) fn disk(&self, edge: usize) -> u32 {
        self.disks[edge].load(Ordering::SeqCst)
    }

    /// It has another one now. Between its processes.
    pub(super) fn replace_disk(&self, edge: usize) {
        self.disks[edge].fetch_add(1, Ordering::SeqCst);
    }

    /// A total is about to be raised.
    pub(super) fn raise(&self, task: usize, by: u64) {
        self.bounds[task].total.fetch_add(by, Ordering::SeqCst);
    }

    /// The window of a task that it is now.
    pub(super) fn window(&self, task: usize) -> i64 {
        let now = clock_gettime(ClockId::Realtime).tv_sec;
        match self.bounds[task].task.window {
            Window::Minute => now / 60,
            Window::Day => now / 86_400,
            _ => 0,
        }
    }

    /// So much was set aside between now and when this was the window; of which it is
    /// known to be, so that it can be taken off.
    pub(super) fn holds(&self, task: usize, began: i64, amount: u64) -> Option<i64> {
        let bound = &self.bounds[task];
        if bound.task.is_loose || self.window(task) != began {
            return None;
        }
        let mut held = bound.held.lock().unwrap();
        let held = held.entry(began).or_default();
        *held += amount;
        let total = bound.total.load(Ordering::SeqCst);
        if *held > total {
            let name = bound.task.name;
            self.violates(format!(
                "{held} of {total} of {name} are set aside or spent"
            ));
        }
        Some(began)
    }

    /// So much of that may be free again from now on.
    pub(super) fn releases(&self, task: usize, window: Option<i64>, amount: u64) {
        if let Some(window) = window {
            let mut held = self.bounds[task].held.lock().unwrap();
            *held.entry(window).or_default() -= amount;
        }
    }

    /// A settlement was acknowledged, or that it was one before.
    pub(super) fn settles(&self, of: Of, amount: u64, overdraft: u64) {
        *self.spent.lock().unwrap().entry(of).or_default() += amount;
        if overdraft > 0 && !self.bounds[of.task].task.is_loose {
            self.violates(format!("{overdraft} of {amount} are overdraft: {of:?}"));
        }
        self.heard.send_modify(|heard| {
            heard.settled += 1;
            heard.spent += amount;
            heard.overdraft += overdraft;
        });
    }

    pub(super) fn hears(&self, what: impl FnOnce(&mut Heard)) {
        self.heard.send_modify(what);
    }

    /// Something that must not be.
    pub(super) fn violates(&self, what: String) {
        self.violations.lock().unwrap().push(what);
    }

    /// Fails the test where there was something that must not be.
    pub(super) fn is_sound(&self) {
        let violations = self.violations.lock().unwrap();
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// Waits until so many more calls were done.
    pub(super) async fn acknowledges(&self, more: usize) {
        let enough = self.heard.borrow().acknowledged + more;
        self.comes_to(|heard| heard.acknowledged >= enough).await;
    }

    /// Waits until each of these edges has refused to set more aside.
    pub(super) async fn lapses(&self, edges: &[usize]) {
        let before = self.heard().lapsed;
        let of = |lapsed: &BTreeMap<usize, usize>, edge| lapsed.get(edge).copied().unwrap_or(0);
        self.comes_to(|heard| {
            let mut edges = edges.iter();
            edges.all(|edge| of(&heard.lapsed, edge) > of(&before, edge))
        })
        .await;
    }

    async fn comes_to(&self, enough: impl FnMut(&Heard) -> bool) {
        let mut heard = self.heard.subscribe();
        let enough = tokio::time::timeout(DEADLINE, heard.wait_for(enough)).await;
        assert!(
            enough.is_ok(),
            "still not after {DEADLINE:?}, but {:?}",
            self.heard()
        );
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} settlements of {} in all acknowledged and counted once each, {} of it overdraft; {} attempts unknown, \
             {} calls resolved by repeating, {} reservations lost with their disks; refused {:?}",
            self.settled,
            self.spent,
            self.overdraft,
            self.unknown,
            self.resolved,
            self.lost,
            self.refused
        )
    }
}
