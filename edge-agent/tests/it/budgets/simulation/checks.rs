//! What holds after every step.

use control_plane::budgets::Amount;
use time::OffsetDateTime;

use super::{
    super::sides::{Machine, Violation},
    world::World,
};

impl World {
    pub(super) fn check(&self) -> Result<(), Violation> {
        self.control_plane.check()?;
        self.machines.iter().try_for_each(Machine::check)?;
        if self.has_overrun || self.has_operated {
            return Ok(());
        }
        for (window, account) in &self.control_plane.accounts {
            let used = self.truly_used(*window);
            // until all have told, what one has got from another may seem to be too much
            let is_held = self.control_plane.budget.is_held();
            let is_over = account.overdraft > self.uncovered(*window) && !is_held;
            if used > account.total || is_over {
                return Err(format!("{used} are spent or set aside: {account:?}"));
            }
        }
        Ok(())
    }

    /// What was told beyond forgotten slices of a window that has ended: nothing covers it any
    /// more, for nobody can spend from it.
    fn uncovered(&self, window: Option<OffsetDateTime>) -> Amount {
        if window == self.control_plane.window(self.now) {
            return 0;
        }
        let held = self.control_plane.held.iter();
        let restored = held.filter(|held| held.is_restored && held.window == window);
        restored.map(|held| held.slice.overdraft()).sum()
    }

    /// What was spent in a window, or is set aside.
    fn truly_used(&self, window: Option<OffsetDateTime>) -> Amount {
        let machines = self.machines.iter();
        let used = machines.flat_map(|machine| {
            let is_in = move |journal: i64, epoch: u64| {
                let slice = self.control_plane.slice(machine.id, epoch);
                slice.is_some_and(|held| held.journal == journal && held.window == window)
            };
            let spent = machine
                .truth
                .iter()
                .filter(move |((journal, epoch), _)| is_in(*journal, *epoch));
            let reserved = machine
                .reservations
                .iter()
                .filter(move |(epoch, _)| is_in(machine.journal, *epoch));
            let spent = spent.map(|(_, truth)| truth.spent());
            spent.chain(reserved.map(|(_, amount)| *amount))
        });
        used.sum()
    }
}
