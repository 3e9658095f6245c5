//! Budgets by window.

use control_plane::budgets::{Terms, Window};
use time::{Duration, OffsetDateTime};

use super::{needs, once, spent, task, terms};
use crate::rig::Rig;

fn monthly(carries_over: bool) -> Terms {
    Terms {
        window: Window::Month,
        carries_over,
        ..terms()
    }
}

impl Rig {
    /// The percents that were told as reached, the first first.
    async fn alerted(&self) -> Vec<String> {
        let told = "SELECT body->>'percent' FROM change
                    WHERE stream = 'budgets' AND body->>'what' = 'threshold' ORDER BY revision";
        sqlx::query_scalar(told)
            .fetch_all(self.database.pool())
            .await
            .unwrap()
    }

    /// All that is known of a budget is of some window before.
    async fn was_before(&self, name: &str, begins_at: OffsetDateTime) {
        let span = Window::Month.at(begins_at).unwrap();
        let mut connection = self.database.pool().acquire().await.unwrap();
        for statement in [
            "ALTER TABLE budget_movement DISABLE TRIGGER budget_movement_unchanged",
            "UPDATE budget_movement SET begins_at = $1 WHERE task_id = $3 AND $2 > $1",
            "ALTER TABLE budget_movement ENABLE TRIGGER budget_movement_unchanged",
            "UPDATE budget_account SET begins_at = $1, ends_at = $2 WHERE task_id = $3",
            "UPDATE budget_slice SET begins_at = $1, leased_until = $1 WHERE task_id = $3 AND $2 > $1",
        ] {
            let query = sqlx::query(sqlx::AssertSqlSafe(statement));
            let query = if statement.contains('$') {
                query.bind(span.begins_at).bind(span.ends_at).bind(name)
            } else {
                query
            };
            query.execute(&mut *connection).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_slice_ends_with_its_window_and_what_was_spent_of_it_counts_there() {
    let rig = Rig::open().await;
    rig.budget("t", monthly(false)).await;
    let mut machine = rig.spender("m").await;
    let old = rig.slice(&mut machine, "t", 1000).await;
    let present = rig.view("t").await.window.unwrap();
    rig.was_before("t", present.begins_at - Duration::DAY).await;

    let told = rig.told(&mut machine, "t", spent(&old, 400)).await.unwrap();
    assert_eq!(
        (told.is_over, told.lease.is_zero(), told.give_back),
        (true, true, 0)
    );
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.total, account.reported, account.outstanding),
        (10_000, 0, 0)
    );

    let forgot = rig.slice(&mut machine, "t", 1000).await;
    let told_again = (forgot.epoch, forgot.is_over);
    assert_eq!(
        told_again,
        (1, true),
        "the machine may not have heard of it"
    );
    let both = vec![("t", spent(&old, 400)), ("t", needs(1000))];
    let told = rig.tell(&mut machine, both).await.unwrap();
    let (_, new) = told[1].slice.as_ref().unwrap();
    assert_eq!((new.epoch, new.granted), (2, 1000));
    let mut rest = spent(&old, 400);
    rest.returned = 600;
    let told = rig.told(&mut machine, "t", rest).await.unwrap();
    assert!(told.is_over);
    let open = rig.view("t").await.slices;
    assert_eq!(
        open.len(),
        1,
        "the old one holds nothing any more: {open:?}"
    );
    rig.app.budgets.carry_over().await.unwrap();
    assert_eq!(
        rig.view("t").await.account.total,
        10_000,
        "nothing is carried over"
    );
}

#[tokio::test]
async fn what_is_left_is_carried_over_as_it_becomes_free() {
    let rig = Rig::open().await;
    rig.budget("t", monthly(true)).await;
    let mut machine = rig.spender("m").await;
    let old = rig.slice(&mut machine, "t", 1000).await;
    let present = rig.view("t").await.window.unwrap();
    rig.was_before("t", present.begins_at - Duration::DAY).await;
    rig.app.budgets.carry_over().await.unwrap();
    assert_eq!(rig.view("t").await.account.total, 19_000);

    let mut rest = spent(&old, 400);
    rest.returned = 600;
    rig.told(&mut machine, "t", rest).await.unwrap();
    rig.app.budgets.carry_over().await.unwrap();
    let account = rig.view("t").await.account;
    assert_eq!((account.total, account.rest()), (19_600, 19_600));
}

#[tokio::test]
async fn windows_that_nobody_spent_in_carry_over_too() {
    let rig = Rig::open().await;
    rig.budget("t", monthly(true)).await;
    let present = rig.view("t").await.window.unwrap();
    rig.was_before("t", present.begins_at - Duration::days(70))
        .await;
    rig.app.budgets.carry_over().await.unwrap();
    let (_, movements) = rig
        .app
        .budgets
        .movements(&task("t"), None, 100)
        .await
        .unwrap();
    let windows = movements
        .iter()
        .filter(|one| one.movement.kind.as_str() == "created")
        .count() as u64;
    assert_eq!(windows, 4, "three before this one");
    assert_eq!(rig.view("t").await.account.total, 40_000);
}

#[tokio::test]
async fn what_is_left_goes_through_windows_that_have_ended_before() {
    let rig = Rig::open().await;
    rig.budget("t", monthly(true)).await;
    let mut machine = rig.spender("m").await;
    let old = rig.slice(&mut machine, "t", 1000).await;
    let present = rig.view("t").await.window.unwrap();
    rig.was_before("t", present.begins_at - Duration::days(70))
        .await;
    rig.app.budgets.carry_over().await.unwrap();
    assert_eq!(rig.view("t").await.account.total, 39_000);

    let mut rest = spent(&old, 400);
    rest.returned = 600;
    rig.told(&mut machine, "t", rest).await.unwrap();
    rig.app.budgets.carry_over().await.unwrap();
    assert_eq!(rig.view("t").await.account.total, 39_600);
    assert_eq!(rig.app.budgets.carry_over().await.unwrap(), 0);
}

#[tokio::test]
async fn windows_that_nobody_spent_in_carry_over_also_after_one_that_was_spent() {
    let rig = Rig::open().await;
    rig.budget("t", monthly(true)).await;
    let mut machine = rig.spender("m").await;
    let all = rig.slice(&mut machine, "t", 10_000).await;
    rig.told(&mut machine, "t", spent(&all, 10_000))
        .await
        .unwrap();
    let present = rig.view("t").await.window.unwrap();
    rig.was_before("t", present.begins_at - Duration::days(70))
        .await;
    rig.app.budgets.carry_over().await.unwrap();
    assert_eq!(rig.view("t").await.account.total, 30_000);
    assert_eq!(rig.app.budgets.carry_over().await.unwrap(), 0, "once");
}

#[tokio::test]
async fn carrying_over_reaches_no_threshold() {
    let rig = Rig::open().await;
    rig.budget("t", monthly(true)).await;
    let mut machine = rig.spender("m").await;
    let old = rig.slice(&mut machine, "t", 1000).await;
    rig.told(&mut machine, "t", spent(&old, 400)).await.unwrap();
    let present = rig.view("t").await.window.unwrap();
    rig.was_before("t", present.begins_at - Duration::DAY).await;
    rig.app.budgets.carry_over().await.unwrap();
    // what it held yet is now all that the old window has
    rig.told(&mut machine, "t", spent(&old, 1000))
        .await
        .unwrap();
    assert_eq!(rig.view("t").await.account.total, 19_000);
    assert!(rig.alerted().await.is_empty());
}

#[tokio::test]
async fn what_a_settled_machine_tells_of_a_window_that_has_ended_is_overdraft_there() {
    let rig = Rig::open().await;
    rig.budget("t", monthly(false)).await;
    rig.budget("other", monthly(false)).await;
    let mut machine = rig.spender("m").await;
    let old = rig.slice(&mut machine, "t", 1000).await;
    let present = rig.view("t").await.window.unwrap();
    rig.was_before("t", present.begins_at - Duration::DAY).await;
    let budgets = &rig.app.budgets;
    budgets
        .settle(once(""), task("t"), machine.id, None)
        .await
        .unwrap();

    let late = vec![("t", spent(&old, 700)), ("other", needs(5))];
    let told = rig.tell(&mut machine, late).await.unwrap();
    let (_, slice) = told[0].slice.as_ref().unwrap();
    assert_eq!((slice.reported, slice.is_over), (700, true));
    assert!(told[1].slice.is_ok());
    let (total, overdraft): (i64, i64) = sqlx::query_as(
        "SELECT total, overdraft FROM budget_account WHERE task_id = 't' ORDER BY begins_at LIMIT 1",
    )
    .fetch_one(rig.database.pool())
    .await
    .unwrap();
    assert_eq!((total, overdraft), (10_000, 700));
}
