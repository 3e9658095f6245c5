//! Three edges share a key's limit instead of multiplying it.

use std::{sync::Arc, time::Duration};

use authguardian_proto::network::Networks;
use futures::future::join_all;
use tokio::time::Instant;

use super::{Made, Tally, of_all};
use crate::{
    edge::{Edge, RestClient},
    rig::ControlPlane,
};

const RATE: f64 = 40.0;
const BURST: f64 = 80.0;

struct Fleet {
    control_plane: ControlPlane,
    key: Made,
    edges: Vec<Edge>,
}

impl Fleet {
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        control_plane.agent("data_analyst", 800).await;
        let limits = of_all(&format!("{RATE}/{BURST}"));
        let key = control_plane
            .limited_key(&["data_analyst"], limits, Networks::default())
            .await;
        let names = ["host-0", "host-1", "host-2"];
        let edges = join_all(names.map(|name| Edge::start(&control_plane, name))).await;
        Self {
            control_plane,
            key,
            edges,
        }
    }

    fn clients(&self) -> Vec<RestClient> {
        self.edges
            .iter()
            .map(|edge| edge.client(&self.key.1))
            .collect()
    }
}

/// Calls through a client without a pause, for so long.
async fn hammer(client: RestClient, tally: Arc<Tally>, span: Duration) {
    let began = Instant::now();
    while began.elapsed() < span {
        tally.call(&client).await;
    }
}

/// Calls through these clients at the same time; tells what came of it and how
/// long it took, first call to last answer.
async fn rush(clients: &[RestClient], seconds: u64) -> (Arc<Tally>, f64) {
    let tally = Arc::new(Tally::default());
    let began = Instant::now();
    let span = Duration::from_secs(seconds);
    let calls = clients
        .iter()
        .map(|client| hammer(client.clone(), Arc::clone(&tally), span));
    join_all(calls).await;
    (tally, began.elapsed().as_secs_f64())
}

fn whole(calls: u64) -> f64 {
    f64::from(u32::try_from(calls).unwrap())
}

#[tokio::test]
async fn three_edges_let_no_more_through_than_one_may() {
    let fleet = Fleet::start().await;
    let clients = fleet.clients();

    let (alone, seconds) = rush(&clients[..1], 3).await;
    let most = BURST + RATE * seconds + 1.0;
    assert!(whole(alone.passed()) <= most, "{} > {most}", alone.passed());
    // less than all only where this machine is too busy to call so often
    let calls = whole(alone.passed() + alone.limited());
    let least = (0.8 * (BURST + RATE * 3.0)).min(0.8 * calls);
    assert!(
        whole(alone.passed()) >= least,
        "{} < {least}",
        alone.passed()
    );
    assert!(alone.limited() > 0, "the limit was not reached");

    // two more come while the first has all of it, and then they share it
    let (together, seconds) = rush(&clients, 8).await;
    let most = 1.1 * (BURST + RATE * seconds) + 3.0 + 1.0;
    let passed = whole(together.passed());
    assert!(passed <= most, "{passed} > {most} in {seconds} s");
    assert!(together.limited() > 0, "the limit was not reached");

    // and none of them has been left out
    let (tallies, seconds) = {
        let began = Instant::now();
        let rushes = clients
            .iter()
            .map(|client| rush(std::slice::from_ref(client), 4));
        let tallies = join_all(rushes).await;
        (tallies, began.elapsed().as_secs_f64())
    };
    let passed: Vec<f64> = tallies
        .iter()
        .map(|(tally, _)| whole(tally.passed()))
        .collect();
    let all: f64 = passed.iter().sum();
    // on a busy machine not all of the burst was used up before
    let most = 1.1 * (BURST + RATE * seconds) + 3.0 + 1.0;
    assert!(all <= most, "{passed:?} in {seconds} s");
    for edge in &passed {
        assert!(*edge >= all / 6.0, "uneven: {passed:?}");
    }
    drop(fleet.control_plane);
}
