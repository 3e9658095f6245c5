//! However much is spent: a machine tells of it about once a second.

use std::time::Duration;

use control_plane::budgets::View;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::site::{Site, comes_to, create, open, reserve, settle};
use crate::{rig::ControlPlane, wait::until};

const SPENDERS: usize = 8;

/// For how long, and how often at least, it is spent.
const TIME: Duration = Duration::from_secs(6);
const SPENT: u64 = 1000;

#[tokio::test]
async fn whatever_is_spent_a_machine_makes_about_one_exchange_a_second() {
    let (control_plane, api_key) = open(30).await;
    create(&control_plane, "q4", 1 << 50).await;
    let site = Site::start(&control_plane, "host", &api_key).await;
    // far ahead of its callers: nothing is short
    let much = site.reserve("q4", 1 << 40).await;
    site.settle("q4", &much, 0).await;
    let told = |view: &View| view.slices[0].reserved == 0;
    comes_to(&control_plane, "q4", "it has told", told).await;

    let stop = CancellationToken::new();
    let mut spenders = JoinSet::new();
    for _ in 0..SPENDERS {
        spenders.spawn(spend(site.client.clone(), stop.clone()));
    }
    // it has begun to tell
    let told = |view: &View| view.account.reported > 0;
    let before = comes_to(&control_plane, "q4", "it is spent from", told).await;
    let (since, first) = (Instant::now(), sequence(&control_plane).await);
    let calls = control_plane.calls("budgets.v1.SliceService/Exchange");
    until("it was spent for a while", || since.elapsed() >= TIME).await;
    let exchanges = sequence(&control_plane).await - first;
    let calls = control_plane.calls("budgets.v1.SliceService/Exchange") - calls;
    let took = since.elapsed();
    stop.cancel();
    let spent: u64 = spenders.join_all().await.into_iter().sum();
    let told = |view: &View| view.account.reported == spent;
    let after = comes_to(&control_plane, "q4", "all is told", told).await;

    println!(
        "{spent} reservations were settled in about {took:?}, and told in {exchanges} exchanges ({calls} calls)"
    );
    assert!(spent >= SPENT, "{spent}");
    let most = 2 * took.as_secs() + 1;
    assert!(exchanges <= most, "{exchanges} exchanges in {took:?}");
    assert!(calls <= most + 1, "{calls} calls in {took:?}");
    assert!(exchanges + 2 >= took.as_secs(), "it does not tell");
    assert_eq!(before.slices[0].epoch, after.slices[0].epoch);
}

/// Spends again and again; how much.
async fn spend(client: crate::edge::RestClient, stop: CancellationToken) -> u64 {
    let mut spent = 0;
    while !stop.is_cancelled() {
        let reservation = reserve(&client, "q4", 1).await.unwrap();
        settle(&client, "q4", &reservation, 1).await;
        spent += 1;
    }
    spent
}

/// Of the last exchange of the only machine.
async fn sequence(control_plane: &ControlPlane) -> u64 {
    let mut connection = control_plane.app.db.read().await.unwrap();
    let sequence: i64 = sqlx::query_scalar("SELECT sequence FROM budget_exchange")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    sequence.unsigned_abs()
}
