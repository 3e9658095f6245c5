//! Edges that end and are killed, and what their next processes know.

use authguardian_proto::reason::Reason;
use control_plane::budgets::{Exchange, Memory, View};
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::site::{Site, comes_to, create, is_passing, open, settling, view};
use crate::{
    edge::{Edge, Launch},
    proxy::Proxy,
    rig::ControlPlane,
    wait::until_async,
};

#[tokio::test]
async fn an_edge_that_ends_gives_back_what_is_free_and_its_next_process_settles_the_rest() {
    const LEASE: Duration = Duration::from_secs(30);
    let (control_plane, api_key) = open(30).await;
    create(&control_plane, "q4", 1000).await;
    let mut a = Site::start(&control_plane, "a", &api_key).await;
    let b = Site::start(&control_plane, "b", &api_key).await;
    let first = a.reserve("q4", 300).await;
    a.settle("q4", &first, 100).await;
    let kept = a.reserve("q4", 50).await;
    let unused = a.reserve("q4", 70).await;

    let stopped = a.edge.stop().await;
    let account = view(&control_plane, "q4").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.rest()),
        (100, 120, 780)
    );
    // the others need not wait for a lease
    let began = Instant::now();
    let all = b.reserve("q4", 780).await;
    assert!(began.elapsed() < LEASE);
    b.lacks("q4", 1).await;

    a.edge = stopped.run_again().await;
    a.client = a.edge.client(&api_key);
    a.settle("q4", &kept, 50).await;
    a.settle("q4", &unused, 0).await;
    b.settle("q4", &all, 780).await;
    let told = |view: &View| view.account.reported == 930;
    comes_to(&control_plane, "q4", "all is told", told).await;
    // what is left can be had by everybody
    until_async("the rest is given back", async || {
        b.try_reserve("q4", 70).await.is_ok()
    })
    .await;
    a.edge.stop().await;
    b.edge.stop().await;
    let account = view(&control_plane, "q4").await.account;
    assert_eq!((account.reported, account.outstanding), (930, 70));
}

#[tokio::test]
async fn a_killed_edge_has_forgotten_nothing_and_reserves_nothing_before_it_was_heard() {
    const KEPT: u64 = 8;
    let (control_plane, api_key) = open(30).await;
    create(&control_plane, "q4", 100_000).await;
    let mut site = Site::start(&control_plane, "host", &api_key).await;
    site.spend("q4", 1000).await;
    let mut kept = Vec::new();
    for tokens in 1..=KEPT {
        kept.push((site.reserve("q4", tokens).await, tokens));
    }
    let mut spent = 1000;
    for tokens in 1..50 {
        site.spend("q4", tokens).await;
        spent += tokens;
    }
    let once =
        json!({"agent_id": super::site::AGENT, "task_id": "q4", "tokens": 3, "request_id": "r1"});
    site.client.call("report_spending", once.clone()).await;
    spent += 3;

    let killed = site.edge.kill().await;
    // the control plane is there, and cannot answer for the budget
    let mut held = control_plane.app.db.begin().await.unwrap();
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
        .execute(&mut *held)
        .await
        .unwrap();
    sqlx::query("SELECT FROM budget FOR UPDATE")
        .execute(&mut *held)
        .await
        .unwrap();
    site.edge = killed.run_again().await;
    site.client = site.edge.client(&api_key);
    let refusal = site.try_reserve("q4", 1).await.unwrap_err();
    assert!(is_passing(&refusal), "{refusal}");
    let (first, tokens) = kept.remove(0);
    site.settle("q4", &first, tokens).await;
    let again = settling("q4", &first, tokens);
    assert_eq!(
        site.client.refusal("report_spending", again).await,
        "ALREADY_SETTLED"
    );
    site.client.call("report_spending", once).await;
    drop(held);

    until_async("it goes on", async || {
        site.try_reserve("q4", 1).await.is_ok()
    })
    .await;
    for (reservation, tokens) in kept {
        site.settle("q4", &reservation, tokens).await;
    }
    spent += KEPT * (KEPT + 1) / 2;
    let told = |view: &View| view.account.reported == spent && view.slices[0].reserved == 1;
    let told = comes_to(&control_plane, "q4", "all is told", told).await;
    assert_eq!((told.slices.len(), told.account.overdraft), (1, 0));
}

/// Which process of the machine was heard last, and which of its exchanges.
async fn heard(control_plane: &ControlPlane) -> (i64, i64) {
    let mut connection = control_plane.app.db.read().await.unwrap();
    sqlx::query_as("SELECT incarnation, sequence FROM budget_exchange")
        .fetch_one(&mut *connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_an_earlier_process_said_is_not_heard_after_a_later_one() {
    let (control_plane, api_key) = open(30).await;
    create(&control_plane, "q4", 100_000).await;
    let first_way = Proxy::to(control_plane.edge_grpc).await;
    let launch = Launch::at(&[first_way.url()]);
    let edge = Edge::start_with(&control_plane, "host", launch).await;
    let mut site = Site {
        client: edge.client(&api_key),
        edge,
        way: first_way,
    };
    let mut spent = 0;
    for round in 1..=3 {
        // it holds far more than it spends
        let much = site.reserve("q4", 1000).await;
        site.settle("q4", &much, 100).await;
        spent += 100;
        let told = |view: &View| view.account.reported == spent;
        let told = comes_to(&control_plane, "q4", "it is told", told).await;
        let earlier = heard(&control_plane).await;

        // what it says now arrives late
        site.way.cut();
        site.spend("q4", 10).await;
        spent += 10;
        let refusal = site.try_reserve("q4", 50_000).await.unwrap_err();
        assert_eq!(refusal["reason"], "UNAVAILABLE", "{refusal}");
        let killed = site.edge.kill().await;
        let way = Proxy::to(control_plane.edge_grpc).await;
        site.edge = killed.through(Launch::at(&[way.url()])).run_again().await;
        site.client = site.edge.client(&api_key);
        let former = std::mem::replace(&mut site.way, way);
        until_async("the next process is heard", async || {
            heard(&control_plane).await.0 > earlier.0
        })
        .await;
        former.mend();
        site.spend("q4", round).await;
        spent += round;
        let slice = told.slices[0];
        let late = Exchange {
            machine: slice.machine,
            incarnation: earlier.0,
            sequence: earlier.1 + 1_000_000,
            journal: slice.journal,
            reports: Vec::new(),
            complete: false,
            memory: Memory::default(),
        };
        let refused = control_plane.app.budgets.exchange(late).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::RevisionConflict);
    }
    let told = |view: &View| view.account.reported == spent;
    let told = comes_to(&control_plane, "q4", "all is told", told).await;
    assert_eq!(told.account.overdraft, 0);
    site.edge.stop().await;
    let account = view(&control_plane, "q4").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.rest()),
        (spent, 0, 100_000 - spent)
    );
}
