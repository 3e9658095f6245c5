//! What happens to budgets beyond spending: as the audit log calls it, and as machines are
//! told of it.

use authguardian_proto::ids::{MachineId, TaskId};

use crate::events::ChangeBody;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Create,
    TopUp,
    Rebalance,
    /// Of a machine's slice.
    Settle(MachineId),
    Freeze,
    Thaw,
    Close,
    /// A machine is silent.
    Fence(MachineId),
    /// So much was spent, percent of the total.
    Threshold(u32),
    /// Callers wait for what lies idle elsewhere.
    Want,
    /// A machine knows more than the database: that was restored.
    Hold(MachineId),
    /// Machines have told what a restored database did not know.
    Release,
}

impl Act {
    /// As the audit log calls it.
    pub(super) const fn action(self) -> &'static str {
        self.names().0
    }

    /// What machines are told.
    pub(super) fn change(self, task: &TaskId) -> ChangeBody {
        ChangeBody::BudgetChanged {
            task_id: task.clone(),
            what: self.names().1.to_owned(),
            percent: match self {
                Self::Threshold(percent) => percent,
                _ => 0,
            },
            machine_id: match self {
                Self::Settle(machine) | Self::Fence(machine) | Self::Hold(machine) => Some(machine),
                _ => None,
            },
        }
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Create => ("budget.create", "created"),
            Self::TopUp => ("budget.top_up", "topped_up"),
            Self::Rebalance => ("budget.rebalance", "rebalanced"),
            Self::Settle(_) => ("budget.settle", "settled"),
            Self::Freeze => ("budget.freeze", "frozen"),
            Self::Thaw => ("budget.thaw", "thawed"),
            Self::Close => ("budget.close", "closed"),
            Self::Fence(_) => ("budget.fence", "fenced"),
            Self::Threshold(_) => ("budget.threshold", "threshold"),
            Self::Want => ("budget.want", "wanted"),
            // machines do the same about it as where operators freeze and thaw
            Self::Hold(_) => ("budget.hold", "frozen"),
            Self::Release => ("budget.release", "thawed"),
        }
    }
}
