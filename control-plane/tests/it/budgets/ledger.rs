//! The ledger: sums are constraints, and what does not add up is not written.

use super::{spent, task, terms};
use crate::rig::Rig;

/// What the database says to a statement.
async fn refused(rig: &Rig, statement: &'static str) -> String {
    let refused = sqlx::query(statement)
        .execute(rig.database.pool())
        .await
        .unwrap_err();
    let refused = refused.as_database_error().unwrap();
    refused.constraint().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn no_account_goes_beyond_its_total_nor_apart_from_its_movements() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 1000).await;
    rig.told(&mut machine, "t", spent(&slice, 400))
        .await
        .unwrap();
    for (statement, constraint) in [
        ("UPDATE budget_account SET outstanding = 10000", "budget_account_within_total"),
        ("UPDATE budget_account SET overdraft = 401", "budget_account_amounts"),
        ("UPDATE budget_account SET outstanding = outstanding + 1", "budget_account_sum"),
        ("UPDATE budget_account SET movements = movements - 1", "budget_account_sum"),
        ("UPDATE budget_movement SET amount = amount", "budget_movement_unchanged"),
        ("UPDATE budget_slice SET returned = granted + 1", "budget_slice_amounts"),
        ("UPDATE budget_slice SET is_closed = true", "budget_slice_closed"),
        (
            "INSERT INTO budget_movement SELECT task_id, begins_at, number + 2, kind, amount, machine_id, epoch, child,
                 before_total, before_reported, before_overdraft, before_outstanding, total, reported, overdraft, outstanding, occurred_at
             FROM budget_movement WHERE number = 2",
            "budget_movement_chain",
        ),
        (
            "INSERT INTO budget_movement SELECT task_id, begins_at, 4, 2, 7, machine_id, epoch, child,
                 total, reported, overdraft, outstanding, total, reported, overdraft, outstanding + 8, occurred_at
             FROM budget_movement WHERE number = 3",
            "budget_movement_moves",
        ),
    ] {
        assert_eq!(refused(&rig, statement).await, constraint, "{statement}");
    }
    rig.adds_up("t").await;
}

#[tokio::test]
async fn movements_are_told_by_the_page_the_newest_first() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 1000).await;
    for used in 1..=5 {
        rig.told(&mut machine, "t", spent(&slice, used))
            .await
            .unwrap();
    }
    let budgets = &rig.app.budgets;
    let (mut before, mut numbers) = (None, Vec::new());
    loop {
        let (_, page) = budgets.movements(&task("t"), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.movement.window, last.number));
        numbers.extend(page.iter().map(|one| one.number));
    }
    assert_eq!(numbers, [7, 6, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn old_movements_are_forgotten_but_for_the_last_of_an_account() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 1000).await;
    rig.clock.advance(std::time::Duration::from_hours(24 * 120));
    assert_eq!(rig.app.budgets.forget_history().await.unwrap(), 1);
    assert_eq!(rig.moved("t").await, ["granted 1000"]);
    rig.told(&mut machine, "t", spent(&slice, 5)).await.unwrap();
    assert_eq!(rig.moved("t").await, ["granted 1000", "reported 5"]);
}

#[tokio::test]
async fn a_budget_is_shown_with_a_thousand_slices_at_most_the_open_ones_among_them() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    rig.slice(&mut machine, "t", 1000).await;
    let many = "INSERT INTO budget_slice
                SELECT task_id, gen_random_uuid(), 1, begins_at, 1, 5, 0, 5, 0, 0, now() + interval '1 hour', now(), false, true
                FROM budget_slice, generate_series(1, 1100)";
    sqlx::query(many)
        .execute(rig.database.pool())
        .await
        .unwrap();
    let slices = rig.view("t").await.slices;
    assert_eq!(slices.len(), 1000);
    assert!(slices.iter().any(|held| held.machine == machine.id));
}
