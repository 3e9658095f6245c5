//! Both sides of a budget under a simulated network and clock: three machines that spend, and
//! anything that can go wrong between them and the control plane. After every step nothing is
//! above the total, and nothing that was spent is forgotten; once all has come to rest the
//! control plane knows exactly what was spent, and all that is left can be spent.
//!
//! The same worlds with a fault of our own making are found out, so that the checks are known
//! to see such faults. `PROPTEST_CASES` asks for more histories (`make soak`).

mod checks;
mod fault;
mod network;
mod rest;
mod steps;
mod world;

use control_plane::budgets::Window;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

use super::sides::Violation;
use fault::Fault;
use steps::{Step, Trouble, steps};
use world::World;

/// Histories in which a fault of our own making has to be found.
const FAULTY: u32 = 2_000;

proptest! {
    #![proptest_config(Config { cases: cases(), max_shrink_iters: 20_000, ..Config::default() })]

    #[test]
    fn nothing_is_lost_where_only_messages_are(steps in steps(Trouble::Network)) {
        prop_assert_eq!(run(Window::None, None, &steps), Ok(()));
    }

    #[test]
    fn nothing_is_lost_where_processes_are_killed(steps in steps(Trouble::Kills)) {
        prop_assert_eq!(run(Window::None, None, &steps), Ok(()));
    }

    #[test]
    fn no_more_than_a_chunk_is_lost_with_power(steps in steps(Trouble::Power)) {
        prop_assert_eq!(run(Window::None, None, &steps), Ok(()));
    }

    #[test]
    fn no_more_is_spent_than_there_is_whatever_fails(steps in steps(Trouble::All)) {
        prop_assert_eq!(run(Window::None, None, &steps), Ok(()));
    }

    #[test]
    fn nothing_that_was_settled_is_spent_again_after_a_restore(steps in steps(Trouble::Restores)) {
        prop_assert_eq!(run(Window::None, None, &steps), Ok(()));
    }

    #[test]
    fn nothing_is_spent_again_in_a_window_after_a_restore(steps in steps(Trouble::Restores)) {
        prop_assert_eq!(run(Window::Minute, None, &steps), Ok(()));
    }

    #[test]
    fn no_more_is_spent_than_there_is_whatever_fails_and_is_restored(steps in steps(Trouble::Everything)) {
        prop_assert_eq!(run(Window::None, None, &steps), Ok(()));
    }

    #[test]
    fn no_more_is_spent_in_a_window_than_there_is(steps in steps(Trouble::All)) {
        prop_assert_eq!(run(Window::Minute, None, &steps), Ok(()));
    }
}

/// What was spent of the one is not what was spent of the other.
#[test]
fn a_slice_that_was_forgotten_with_its_disk_and_its_number_given_again_are_two() {
    let steps = [
        Step::Backup,
        Step::Reserve(0, 1),
        Step::Exchange(0),
        Step::LosePower(0, 1),
        Step::Restore,
        Step::Destroy(0),
    ];
    assert_eq!(run(Window::None, None, &steps), Ok(()));
}

/// What the first hold waits for is not known to the backup either that was made in it.
#[test]
fn a_hold_that_was_backed_up_waits_for_what_the_one_before_it_did() {
    let steps = [
        Step::Backup,
        Step::Reserve(1, 112),
        Step::Exchange(1),
        Step::Reserve(1, 15),
        Step::Sync(1),
        Step::Reserve(1, 1),
        Step::Restore,
        Step::Destroy(1),
        Step::Exchange(1),
        Step::Backup,
        Step::Restore,
    ];
    assert_eq!(run(Window::None, None, &steps), Ok(()));
}

/// Calls of before the restore arrive after it, and after the window they tell of.
#[test]
fn what_is_told_late_of_a_window_that_was_forgotten_is_not_spent_again() {
    let steps = [
        Step::Backup,
        Step::Reserve(2, 1),
        Step::Exchange(2),
        Step::Recall,
        Step::Reserve(2, 2),
        Step::Pass(38_615),
        Step::Exchange(2),
        Step::Send(2),
        Step::Send(2),
        Step::Pass(1),
        Step::Exchange(2),
        Step::Pass(11_380),
        Step::LosePower(2, 1),
        Step::Restore,
    ];
    assert_eq!(run(Window::Minute, None, &steps), Ok(()));
}

#[test]
fn a_crash_that_forgets_spending_is_found() {
    is_found(Fault::ForgetsSpending, Trouble::Power);
}

#[test]
fn a_lease_that_a_lost_answer_shortens_is_found() {
    is_found(Fault::ShortensLeases, Trouble::All);
}

#[test]
fn giving_back_what_is_not_on_disk_is_found() {
    is_found(Fault::TellsUnwritten, Trouble::Power);
}

#[test]
fn a_repeated_report_that_counts_twice_is_found() {
    is_found(Fault::CountsTwice, Trouble::Network);
}

#[test]
fn a_restored_database_that_is_not_held_is_found() {
    is_found(Fault::RestoresUnheld, Trouble::Restores);
}

/// The world goes through some steps, and comes to rest.
fn run(window: Window, fault: Option<Fault>, steps: &[Step]) -> Result<(), Violation> {
    let mut world = World::new(window, fault);
    for step in steps {
        world.take(step)?;
        world.check()?;
    }
    world.come_to_rest()?;
    world.check_rest()?;
    world.spend_the_rest()
}

/// Histories with a fault of our own making in them, always the same ones.
fn is_found(fault: Fault, trouble: Trouble) {
    let config = Config {
        cases: FAULTY,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let found = runner.run(&steps(trouble), |steps| {
        run(Window::None, Some(fault), &steps).map_err(TestCaseError::fail)
    });
    let Err(TestError::Fail(_, steps)) = found else {
        panic!("{fault:?} was not found in {FAULTY} histories");
    };
    assert_eq!(
        run(Window::None, None, &steps),
        Ok(()),
        "it is that fault which was found"
    );
}

/// Of each property; the environment asks for more.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(400)
}
