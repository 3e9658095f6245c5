//! What happens in a world.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::world::MACHINES;

/// One thing that happens. Machines are numbered; of reservations and messages there may be
/// none.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// So many milliseconds pass.
    Pass(u64),
    /// An agent wants to set this aside.
    Reserve(usize, u64),
    /// Such a part of a reservation was spent, in percent.
    Settle(usize, Index, u64),
    /// A reservation was not settled in time.
    Release(usize, Index),
    /// What was written comes to disk.
    Sync(usize),
    /// A machine tells what it has.
    Send(usize),
    /// Likewise, and both the call and its reply arrive at once.
    Exchange(usize),
    /// A message arrives.
    Deliver(Index),
    /// A message arrives, and will again.
    Repeat(Index),
    /// A message is lost.
    Lose(Index),
    /// A process is killed, and starts again.
    Kill(usize),
    /// A process ends as it should, and starts again.
    End(usize),
    /// The power fails when so many of the lines that were not on disk have come there.
    LosePower(usize, usize),
    /// A disk is lost.
    Destroy(usize),
    /// An operator settles what a silent machine holds: with what it has told, or some
    /// percent of what it had.
    Operate(usize, Option<u64>),
    /// An operator freezes the budget, or thaws it.
    Freeze(bool),
    /// An operator asks back what is idle.
    Recall,
    /// The database is backed up.
    Backup,
    /// It is put back to the last backup, and fenced.
    Restore,
    /// The control plane looks whether all have told that a hold waits for.
    EndHold,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// Messages are lost, repeated and late.
    Network,
    /// And processes are killed, operators ask back and freeze.
    Kills,
    /// And power is lost.
    Power,
    /// And disks are lost, operators settle, and agents spend more than they had set aside.
    All,
    /// As [`Trouble::Power`], and the database is put back to a backup.
    Restores,
    /// All of it.
    Everything,
}

/// Histories with some trouble in them.
pub(super) fn steps(trouble: Trouble) -> impl Strategy<Value = Vec<Step>> {
    let loses = matches!(trouble, Trouble::All | Trouble::Everything);
    let most_spent = if loses { 105 } else { 100 };
    let is = |least: Trouble| u32::from(trouble >= least);
    let step = prop_oneof![
        40 => usual(most_spent),
        4 * is(Trouble::Kills) => killing(),
        2 * is(Trouble::Power) => losing_power(),
        2 * u32::from(loses) => losing(),
        3 * is(Trouble::Restores) => restoring(),
    ];
    vec(step, 1..120)
}

fn usual(most_spent: u64) -> impl Strategy<Value = Step> {
    let machine = 0..MACHINES;
    prop_oneof![
        2 => time().prop_map(Step::Pass),
        9 => (machine.clone(), 1..200_u64).prop_map(|(machine, amount)| Step::Reserve(machine, amount)),
        5 => (machine.clone(), any::<Index>(), 0..=most_spent)
            .prop_map(|(machine, which, percent)| Step::Settle(machine, which, percent)),
        1 => (machine.clone(), any::<Index>()).prop_map(|(machine, which)| Step::Release(machine, which)),
        3 => machine.clone().prop_map(Step::Sync),
        5 => machine.clone().prop_map(Step::Send),
        8 => machine.prop_map(Step::Exchange),
        12 => any::<Index>().prop_map(Step::Deliver),
        2 => any::<Index>().prop_map(Step::Repeat),
        1 => any::<Index>().prop_map(Step::Lose),
    ]
}

/// Mostly a moment, and now and then longer than a lease.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 1..700_u64, 2 => 1..15_000_u64, 1 => 1..50_000_u64]
}

fn killing() -> impl Strategy<Value = Step> {
    let machine = 0..MACHINES;
    prop_oneof![
        3 => machine.clone().prop_map(Step::Kill),
        1 => machine.prop_map(Step::End),
        1 => any::<bool>().prop_map(Step::Freeze),
        3 => Just(Step::Recall),
    ]
}

fn losing_power() -> impl Strategy<Value = Step> {
    (0..MACHINES, 0..4_usize).prop_map(|(machine, lines)| Step::LosePower(machine, lines))
}

fn restoring() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Backup),
        1 => Just(Step::Restore),
        2 => Just(Step::EndHold),
    ]
}

fn losing() -> impl Strategy<Value = Step> {
    let machine = 0..MACHINES;
    let declared = proptest::option::of(0..=100_u64);
    prop_oneof![
        1 => machine.clone().prop_map(Step::Destroy),
        2 => (machine, declared).prop_map(|(machine, percent)| Step::Operate(machine, percent)),
    ]
}
