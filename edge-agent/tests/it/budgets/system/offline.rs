//! Machines that are cut off: they spend to the end of their leases, and tell afterwards.

use authguardian_proto::reason::Reason;
use control_plane::audit::Context;
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::site::{AGENT, Site, comes_to, create, open, view};
use crate::wait::until_async;

const LEASE_SECONDS: u32 = 2;

#[tokio::test]
async fn a_machine_that_is_cut_off_spends_to_the_end_of_its_lease_and_tells_afterwards() {
    let (control_plane, api_key) = open(LEASE_SECONDS).await;
    create(&control_plane, "q4", 1_000_000).await;
    let a = Site::start(&control_plane, "a", &api_key).await;
    let b = Site::start(&control_plane, "b", &api_key).await;
    // it holds far more than it can spend by then
    let much = a.reserve("q4", 500_000).await;
    a.settle("q4", &much, 100).await;
    let kept = a.reserve("q4", 50).await;
    let told = |view: &control_plane::budgets::View| {
        view.account.reported == 100 && view.slices[0].reserved == 50
    };
    let before = comes_to(&control_plane, "q4", "it has told", told).await;
    let held = before.account.outstanding;
    assert!(held >= 499_900, "{before:?}");

    let cut_at = Instant::now();
    a.cut();
    let (mut alone, mut last) = (0, cut_at);
    let refusal = loop {
        let now = Instant::now();
        match a.try_reserve("q4", 1).await {
            Ok(reservation) => {
                a.settle("q4", &reservation, 1).await;
                (alone, last) = (alone + 1, now);
            }
            Err(problem) => break problem,
        }
    };
    assert_eq!(refusal["reason"], "LEASE_EXPIRED", "{refusal}");
    assert!(alone > 0, "it does not spend alone");
    let lease = Duration::from_secs(LEASE_SECONDS.into());
    assert!(last < cut_at + lease, "it has spent beyond its lease");
    // what was spent is noted all the same
    a.settle("q4", &kept, 20).await;
    let more = json!({"agent_id": AGENT, "task_id": "q4", "tokens": 5, "request_id": "r1"});
    a.client.call("report_spending", more).await;

    let is_silent =
        |view: &control_plane::budgets::View| view.suspense() == held && view.slices[0].is_silent;
    let silent = comes_to(&control_plane, "q4", "it is silent", is_silent).await;
    assert_eq!(silent.account.reported, 100, "nothing has arrived");
    let rest = silent.account.rest();
    assert_eq!(rest, 999_900 - held);
    let status = b
        .client
        .call("budget_status", json!({"task_id": "q4"}))
        .await;
    assert_eq!(
        (&status["suspense"], &status["remaining"]),
        (&json!(held), &json!(rest))
    );
    b.lacks("q4", rest + 1).await;

    a.mend();
    let spent = 100 + alone + 20 + 5;
    let arrived = |view: &control_plane::budgets::View| {
        view.account.reported == spent && view.suspense() == 0
    };
    let after = comes_to(&control_plane, "q4", "it has told the rest", arrived).await;
    assert_eq!(after.account.overdraft, 0);
    until_async("it goes on", async || a.try_reserve("q4", 1).await.is_ok()).await;
}

#[tokio::test]
async fn what_a_machine_tells_after_it_was_settled_is_overdraft_until_that_is_covered() {
    let (control_plane, api_key) = open(LEASE_SECONDS).await;
    create(&control_plane, "q4", 1000).await;
    let budgets = &control_plane.app.budgets;
    let a = Site::start(&control_plane, "a", &api_key).await;
    let b = Site::start(&control_plane, "b", &api_key).await;
    let first = a.reserve("q4", 300).await;
    a.settle("q4", &first, 100).await;
    let kept = a.reserve("q4", 50).await;
    let told = |view: &control_plane::budgets::View| {
        view.account.reported == 100 && view.slices[0].reserved == 50
    };
    let before = comes_to(&control_plane, "q4", "it has told", told).await;
    let held = before.account.outstanding;
    let machine = before.slices[0].machine;
    let task = || "q4".parse().unwrap();
    let early = budgets.settle(Context::system(), task(), machine, None);
    assert_eq!(early.await.unwrap_err().reason(), Reason::RevisionConflict);

    a.cut();
    a.settle("q4", &kept, 50).await;
    let is_silent = |view: &control_plane::budgets::View| view.suspense() == held;
    comes_to(&control_plane, "q4", "it is silent", is_silent).await;
    let settled = budgets.settle(Context::system(), task(), machine, None);
    let settled = settled.await.unwrap();
    assert_eq!(settled.released, held);
    b.spend("q4", 900).await;
    let all = |view: &control_plane::budgets::View| view.account.reported == 1000;
    comes_to(&control_plane, "q4", "all is spent", all).await;

    a.mend();
    let late = |view: &control_plane::budgets::View| view.account.reported == 1050;
    let over = comes_to(&control_plane, "q4", "it has told the rest", late).await;
    assert_eq!(over.account.overdraft, 50);
    for site in [&a, &b] {
        until_async("nothing can be set aside", async || {
            let refusal = site.try_reserve("q4", 1).await;
            refusal.is_err_and(|problem| problem["reason"] == "BUDGET_EXHAUSTED")
        })
        .await;
    }
    let topped_up = budgets.top_up(Context::system(), task(), 100);
    topped_up.await.unwrap();
    let covered = view(&control_plane, "q4").await.account;
    // who is first to ask may have some of it already
    let left = covered.rest() + covered.outstanding;
    assert_eq!((covered.overdraft, left), (0, 50));
    until_async("it goes on", async || a.try_reserve("q4", 50).await.is_ok()).await;
}
