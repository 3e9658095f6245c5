//! What operators do.

use authguardian_proto::reason::Reason;
use control_plane::budgets::{MAX_AMOUNT, NewBudget, State, Terms, Window};

use super::{needs, once, spent, task, terms, why};
use crate::{
    records::problem,
    rig::{Rig, admin},
};

#[tokio::test]
async fn terms_that_do_not_fit_are_refused_by_field_and_nothing_is_made() {
    let rig = Rig::open().await;
    let with = |spoil: fn(&mut Terms)| {
        let mut terms = terms();
        spoil(&mut terms);
        NewBudget {
            task: task("t"),
            terms,
        }
    };
    for (new, field) in [
        (with(|terms| terms.unit.clear()), "budget.unit"),
        (
            with(|terms| terms.unit = "Tokens".to_owned()),
            "budget.unit",
        ),
        (with(|terms| terms.total = 0), "budget.total"),
        (with(|terms| terms.total = MAX_AMOUNT + 1), "budget.total"),
        (
            with(|terms| terms.thresholds = vec![80, 50]),
            "budget.thresholds",
        ),
        (
            with(|terms| terms.thresholds = vec![0]),
            "budget.thresholds",
        ),
        (
            with(|terms| terms.thresholds = vec![101]),
            "budget.thresholds",
        ),
        (
            with(|terms| terms.carries_over = true),
            "budget.carries_over",
        ),
        (with(|terms| terms.owner = "x".repeat(201)), "budget.owner"),
        (
            with(|terms| terms.spenders = vec!["no agent".to_owned()]),
            "budget.spenders",
        ),
        (
            with(|terms| terms.spenders = vec!["a".to_owned(), "a".to_owned()]),
            "budget.spenders",
        ),
    ] {
        let refused = problem(rig.app.budgets.create(admin(), new).await);
        assert_eq!(
            (refused.reason, refused.field.as_deref()),
            (Reason::InvalidArgument, Some(field))
        );
    }
    let none = rig.app.budgets.get(&task("t")).await;
    assert_eq!(none.unwrap_err().reason(), Reason::BudgetNotFound);
}

#[tokio::test]
async fn a_budget_is_made_once_and_the_same_request_is_told_the_same() {
    let rig = Rig::open().await;
    let new = NewBudget {
        task: task("t"),
        terms: terms(),
    };
    let made = rig
        .app
        .budgets
        .create(once("a"), new.clone())
        .await
        .unwrap();
    assert_eq!(
        rig.app
            .budgets
            .create(once("a"), new.clone())
            .await
            .unwrap(),
        made
    );
    assert_eq!(made.terms.thresholds, [50, 80, 100]);
    assert_eq!(made.terms.spenders, ["*"]);
    let again = rig.app.budgets.create(once("b"), new).await;
    assert_eq!(why(again), Reason::RevisionConflict);
    let topped = rig
        .app
        .budgets
        .top_up(once("c"), task("t"), 5)
        .await
        .unwrap();
    rig.app
        .budgets
        .top_up(once("c"), task("t"), 5)
        .await
        .unwrap();
    assert_eq!(topped.terms.total, 10_005);
    assert_eq!(rig.view("t").await.account.total, 10_005);
    for amount in [0, MAX_AMOUNT] {
        let refused = problem(rig.app.budgets.top_up(once(""), task("t"), amount).await);
        assert_eq!(refused.field.as_deref(), Some("amount"));
    }
}

#[tokio::test]
async fn a_frozen_budget_gives_nothing_and_leases_nothing_until_it_is_thawed() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 100).await;
    rig.app
        .budgets
        .freeze(once("f"), task("t"), true)
        .await
        .unwrap();
    let mut more = spent(&slice, 50);
    more.ask.needed = 100;
    let frozen = rig.told(&mut machine, "t", more).await.unwrap();
    assert_eq!(
        (frozen.granted, frozen.lease.is_zero(), frozen.reported),
        (100, true, 50)
    );
    rig.app
        .budgets
        .freeze(once("g"), task("t"), false)
        .await
        .unwrap();
    let thawed = rig.told(&mut machine, "t", more).await.unwrap();
    assert_eq!((thawed.granted, thawed.lease.is_positive()), (200, true));
}

#[tokio::test]
async fn a_closed_budget_takes_what_was_spent_and_gives_nothing() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 100).await;
    rig.app.budgets.close(once("c"), task("t")).await.unwrap();
    let told = rig
        .told(&mut machine, "t", spent(&slice, 60))
        .await
        .unwrap();
    assert_eq!((told.reported, told.lease.is_zero()), (60, true));
    let mut other = rig.spender("other").await;
    let none = rig.told(&mut other, "t", needs(1)).await.unwrap();
    assert_eq!(none.epoch, 0);
    assert_eq!(rig.view("t").await.budget.state, State::Closed);
    for refused in [
        rig.app.budgets.top_up(once(""), task("t"), 1).await,
        rig.app.budgets.freeze(once(""), task("t"), false).await,
    ] {
        assert_eq!(why(refused), Reason::BudgetFrozen);
    }
}

#[tokio::test]
async fn a_silent_slice_is_settled_once_its_lease_has_ended_and_what_comes_later_is_overdraft() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 1000).await;
    rig.told(&mut machine, "t", spent(&slice, 300))
        .await
        .unwrap();
    let settle = async |spent| {
        rig.app
            .budgets
            .settle(once(""), task("t"), machine.id, spent)
            .await
    };
    assert_eq!(why(settle(None).await), Reason::RevisionConflict);
    rig.leases_end().await;
    for spent in [299, 1001] {
        assert_eq!(
            problem(settle(Some(spent)).await).field.as_deref(),
            Some("spent")
        );
    }
    let settled = settle(Some(500)).await.unwrap();
    let told: Option<String> = sqlx::query_scalar(
        "SELECT body->>'machine_id' FROM change WHERE stream = 'budgets' ORDER BY revision DESC LIMIT 1",
    )
    .fetch_one(rig.database.pool())
    .await
    .unwrap();
    assert_eq!(told, Some(machine.id.to_string()));
    assert_eq!(settled.released, 500);
    assert_eq!(why(settle(None).await), Reason::ReservationNotFound);
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.rest()),
        (500, 0, 9500)
    );

    let late = rig
        .told(&mut machine, "t", spent(&slice, 800))
        .await
        .unwrap();
    assert_eq!((late.is_over, late.lease.is_zero()), (true, true));
    let account = rig.view("t").await.account;
    assert_eq!((account.reported, account.overdraft), (800, 300));
    rig.adds_up("t").await;
}

#[tokio::test]
async fn what_lies_idle_is_asked_back_when_an_operator_says_so() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 1000).await;
    let mut report = spent(&slice, 300);
    report.reserved = 100;
    rig.told(&mut machine, "t", report).await.unwrap();
    assert_eq!(
        rig.app
            .budgets
            .rebalance(once("r"), task("t"))
            .await
            .unwrap(),
        600
    );
    let asked = rig.told(&mut machine, "t", report).await.unwrap();
    assert_eq!(asked.give_back, 600);
    let done = rig.told(&mut machine, "t", report).await.unwrap();
    assert_eq!(done.give_back, 0, "asked for once");
}

#[tokio::test]
async fn agents_see_the_budgets_that_they_may_spend_from() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let of = |agent: &str| Terms {
        spenders: vec![agent.to_owned()],
        window: Window::Day,
        ..terms()
    };
    rig.budget("mine", of("data_analyst")).await;
    rig.budget("theirs", of("somebody_else")).await;
    let mine = rig
        .app
        .budgets
        .get_as(&session, &task("mine"))
        .await
        .unwrap();
    assert!(mine.window.is_some());
    let theirs = rig.app.budgets.get_as(&session, &task("theirs")).await;
    assert_eq!(theirs.unwrap_err().reason(), Reason::PermissionDenied);
}

#[tokio::test]
async fn every_act_is_in_the_audit_log_and_told_to_machines() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let budgets = &rig.app.budgets;
    budgets.top_up(admin(), task("t"), 5).await.unwrap();
    budgets.rebalance(admin(), task("t")).await.unwrap();
    budgets.freeze(admin(), task("t"), true).await.unwrap();
    budgets.freeze(admin(), task("t"), false).await.unwrap();
    budgets.close(admin(), task("t")).await.unwrap();
    let audited: Vec<String> = sqlx::query_scalar(
        "SELECT action || ' ' || subject FROM audit_trail WHERE action LIKE 'budget.%' ORDER BY sequence",
    )
    .fetch_all(rig.database.pool())
    .await
    .unwrap();
    let acts = ["create", "top_up", "rebalance", "freeze", "thaw", "close"];
    assert_eq!(audited, acts.map(|act| format!("budget.{act} t")));
    let told: Vec<String> = sqlx::query_scalar(
        "SELECT body->>'what' FROM change WHERE stream = 'budgets' ORDER BY revision",
    )
    .fetch_all(rig.database.pool())
    .await
    .unwrap();
    assert_eq!(
        told,
        [
            "created",
            "topped_up",
            "rebalanced",
            "frozen",
            "thawed",
            "closed"
        ]
    );
}
