//! The eight budgets.

use control_plane::budgets::{NewBudget, Terms, Window};

use super::super::site::terms;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) total: u64,
    /// Most that is asked for at once.
    pub(super) most: u64,
    pub(super) window: Window,
    pub(super) parent: Option<&'static str>,
    /// More is spent of it than was set aside, and without that.
    pub(super) is_loose: bool,
}

/// Parents before their children.
pub(super) const ALL: [Task; 8] = [
    Task::of("plenty", 1 << 50, 5000),
    Task::of("scarce", 20_000, 50),
    Task::of("tiny", 400, 20),
    Task {
        window: Window::Minute,
        ..Task::of("by/minute", 4000, 40)
    },
    Task {
        window: Window::Day,
        ..Task::of("by/day", 2_000_000, 500)
    },
    Task::of("parent", 3_000_000, 500),
    Task {
        parent: Some("parent"),
        ..Task::of("child", 500_000, 200)
    },
    Task {
        is_loose: true,
        ..Task::of("loose", 200_000, 100)
    },
];

impl Task {
    const fn of(name: &'static str, total: u64, most: u64) -> Self {
        Self {
            name,
            total,
            most,
            window: Window::None,
            parent: None,
            is_loose: false,
        }
    }

    /// As operators make it.
    pub(super) fn made(&self) -> NewBudget {
        NewBudget {
            task: self.name.parse().unwrap(),
            terms: Terms {
                window: self.window,
                parent: self.parent.map(|parent| parent.parse().unwrap()),
                thresholds: vec![50, 80, 100],
                ..terms(self.total)
            },
        }
    }

    /// What all budgets below it were made with.
    fn of_children(&self) -> u64 {
        let children = ALL.iter().filter(|task| task.parent == Some(self.name));
        children.map(|task| task.total).sum()
    }

    /// What can be set aside of it itself.
    pub(super) fn own(&self) -> u64 {
        self.total - self.of_children()
    }
}

/// Where a task stands.
pub(super) fn at(name: &str) -> usize {
    ALL.iter().position(|task| task.name == name).unwrap()
}
