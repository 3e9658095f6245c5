//! Budgets that are taken from others.

use authguardian_proto::reason::Reason;
use control_plane::budgets::{NewBudget, Terms, Window};

use super::{once, spent, task, terms, why};
use crate::{records::problem, rig::Rig, wait::until_async};

fn of(parent: &str, total: u64) -> Terms {
    Terms {
        total,
        parent: Some(task(parent)),
        ..terms()
    }
}

async fn refused(rig: &Rig, terms: Terms) -> (Reason, Option<String>) {
    let new = NewBudget {
        task: task("child"),
        terms,
    };
    let refused = problem(rig.app.budgets.create(once(""), new).await);
    (refused.reason, refused.field)
}

#[tokio::test]
async fn what_a_child_has_is_outstanding_of_its_parent() {
    let rig = Rig::open().await;
    rig.budget("parent", terms()).await;
    rig.budget("child", of("parent", 4000)).await;
    let account = rig.view("parent").await.account;
    assert_eq!((account.outstanding, account.rest()), (4000, 6000));
    rig.app
        .budgets
        .top_up(once("t"), task("child"), 1000)
        .await
        .unwrap();
    assert_eq!(rig.view("parent").await.account.rest(), 5000);
    let over = rig.app.budgets.top_up(once("u"), task("child"), 5001).await;
    assert_eq!(why(over), Reason::BudgetExhausted);
    assert_eq!(rig.view("child").await.account.total, 5000);
    assert_eq!(
        rig.moved("parent").await,
        [
            "created 10000",
            "child_created 4000",
            "child_topped_up 1000"
        ]
    );
}

#[tokio::test]
async fn a_child_that_does_not_fit_its_parent_is_refused_and_nothing_is_moved() {
    let rig = Rig::open().await;
    let windowed = Terms {
        window: Window::Day,
        ..terms()
    };
    rig.budget("parent", terms()).await;
    rig.budget("daily", windowed.clone()).await;
    rig.budget("frozen", terms()).await;
    rig.app
        .budgets
        .freeze(once("f"), task("frozen"), true)
        .await
        .unwrap();
    assert_eq!(
        refused(&rig, of("parent", 10_001)).await.0,
        Reason::BudgetExhausted
    );
    assert_eq!(refused(&rig, of("frozen", 1)).await.0, Reason::BudgetFrozen);
    let nowhere = refused(&rig, of("nowhere", 1)).await;
    assert_eq!(
        nowhere,
        (Reason::BudgetNotFound, Some("budget.parent".to_owned()))
    );
    let daily = refused(&rig, of("daily", 1)).await;
    assert_eq!(
        daily,
        (Reason::InvalidArgument, Some("budget.parent".to_owned()))
    );
    let own = Terms {
        parent: Some(task("parent")),
        ..windowed
    };
    assert_eq!(refused(&rig, own).await.1.as_deref(), Some("budget.window"));
    for parent in ["parent", "daily", "frozen"] {
        assert_eq!(rig.view(parent).await.account.outstanding, 0);
    }
}

#[tokio::test]
async fn a_closed_child_is_counted_at_its_parent_once_all_of_it_was_told() {
    let rig = Rig::open().await;
    rig.budget("parent", terms()).await;
    rig.budget("child", of("parent", 4000)).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "child", 1000).await;
    let early = rig.app.budgets.close(once("p"), task("parent")).await;
    assert_eq!(why(early), Reason::RevisionConflict);
    rig.app
        .budgets
        .close(once("c"), task("child"))
        .await
        .unwrap();
    assert_eq!(rig.view("parent").await.account.outstanding, 4000);

    let asked = rig.told(&mut machine, "child", spent(&slice, 700)).await;
    assert_eq!(asked.unwrap().give_back, 300, "nobody can have it any more");
    let mut end = spent(&slice, 700);
    end.returned = 300;
    rig.told(&mut machine, "child", end).await.unwrap();
    // by the job
    until_async("the parent has counted it", async || {
        rig.view("parent").await.account.outstanding == 0
    })
    .await;
    let account = rig.view("parent").await.account;
    assert_eq!(
        (account.reported, account.overdraft, account.rest()),
        (700, 0, 9300)
    );
    assert_eq!(
        rig.moved("parent").await,
        [
            "created 10000",
            "child_created 4000",
            "child_spent 700",
            "child_closed 3300"
        ]
    );

    // what comes after that is overdraft, of both
    end.spent = 900;
    rig.told(&mut machine, "child", end).await.unwrap();
    until_async("the parent has counted that too", async || {
        rig.view("parent").await.account.reported == 900
    })
    .await;
    assert_eq!(rig.view("child").await.account.overdraft, 200);
    assert_eq!(rig.view("parent").await.account.overdraft, 200);
    assert_eq!(rig.app.budgets.count_children().await.unwrap(), 0);
}

#[tokio::test]
async fn a_child_of_which_nothing_is_out_is_counted_as_it_is_closed() {
    let rig = Rig::open().await;
    rig.budget("parent", terms()).await;
    rig.budget("child", of("parent", 4000)).await;
    rig.app
        .budgets
        .close(once("c"), task("child"))
        .await
        .unwrap();
    let account = rig.view("parent").await.account;
    assert_eq!((account.outstanding, account.rest()), (0, 10_000));
    rig.app
        .budgets
        .close(once("p"), task("parent"))
        .await
        .unwrap();
}
