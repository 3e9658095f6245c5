//! An edge that stands still for longer than the bound, as a suspended host
//! does, and goes on in the belief that no time has passed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use control_plane::{audit::Context, events::RevocationTarget};
use futures::future::join_all;
use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    BOUND,
    held::{Held, becomes, verdict},
};
use crate::{
    edge::{Edge, RestClient, read},
    rig::ControlPlane,
    wait::until,
};

const EDGES: usize = 4;
/// Requests that each edge has not read when it goes on.
const WAITING: usize = 16;
/// Callers at each edge that ask all the time.
const BUSY: usize = 4;

#[tokio::test]
async fn an_edge_that_stood_still_calls_nothing_good_that_was_revoked_meanwhile() {
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    control_plane.agent("orchestrator", 900).await;
    let key = control_plane
        .api_key(&["data_analyst", "orchestrator"], false)
        .await;
    let names: Vec<String> = (0..EDGES).map(|number| format!("host-{number}")).collect();
    let edges = join_all(names.iter().map(|name| Edge::start(&control_plane, name))).await;
    let clients: Vec<RestClient> = edges.iter().map(|edge| edge.client(&key)).collect();
    let ended = Held::of(&clients[0], "data_analyst", "SAP_API").await;
    let spared = Held::of(&clients[0], "orchestrator", "SAP_API").await;
    for client in &clients {
        assert_eq!(verdict(&ended.validate(client).await), "valid");
    }

    // some of these are under way whenever an edge stops
    let over = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = clients
        .iter()
        .flat_map(|client| (0..BUSY).map(|_| ask_on(client, &ended, &over)))
        .collect();
    for client in &clients {
        ask(client, &ended).await.unwrap();
    }
    let paused_at = Instant::now();
    for edge in &edges {
        edge.pause();
    }
    let waiting: Vec<_> = clients
        .iter()
        .flat_map(|client| (0..WAITING).map(|_| ask(client, &ended)))
        .collect();
    let analyst = RevocationTarget::Agent("data_analyst".parse().unwrap());
    let revoked = control_plane
        .app
        .grants
        .revoke_matching(Context::system(), analyst, "");
    revoked.await.unwrap();
    until("the pause is longer than the bound", || {
        paused_at.elapsed() > BOUND + Duration::from_millis(500)
    })
    .await;
    assert!(
        waiting.iter().all(|answer| !answer.is_finished()),
        "an edge that stands still has answered"
    );
    let resumed_at = Instant::now();
    for edge in &edges {
        edge.resume();
    }

    for answer in waiting {
        let answer = answer.await.unwrap();
        assert_ne!(verdict(&answer), "valid", "{answer}");
    }
    for client in &clients {
        becomes(client, &ended, "GRANT_REVOKED").await;
        becomes(client, &spared, "valid").await;
    }
    over.store(true, Ordering::Relaxed);
    for answers in join_all(busy).await {
        let late = answers.unwrap().into_iter();
        for (_, answer) in late.filter(|(heard_at, _)| *heard_at > resumed_at) {
            assert_ne!(verdict(&answer), "valid", "{answer}");
        }
    }
}

/// Asks again and again until it is over; tells when it was answered, and what.
fn ask_on(
    client: &RestClient,
    held: &Held,
    over: &Arc<AtomicBool>,
) -> JoinHandle<Vec<(Instant, Value)>> {
    let (client, held, over) = (client.clone(), held.clone(), over.clone());
    tokio::spawn(async move {
        let mut answers = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let request = client.post("validate_token").json(&held.question());
            // no answer at all is better than a stale one
            if let Ok(response) = request.send().await {
                answers.push((Instant::now(), read(response).await.1));
            }
        }
        answers
    })
}

/// Asks, and does not wait for the answer.
fn ask(client: &RestClient, held: &Held) -> JoinHandle<Value> {
    let (client, held) = (client.clone(), held.clone());
    tokio::spawn(async move { held.validate(&client).await })
}
