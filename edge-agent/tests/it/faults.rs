//! Kill -9 of each part under load: nothing that was acknowledged is lost,
//! nothing is done twice. `make soak` repeats each fault.

use std::{sync::Arc, time::Duration};

use control_plane::db::private_postgres::{Options, PrivatePostgres};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    edge::Edge,
    load::Load,
    rig::{Rig, Stopped},
};

/// How often each fault is done; one unless set.
const ROUNDS: &str = "AUTHGUARDIAN_FAULT_ROUNDS";

fn rounds() -> usize {
    std::env::var(ROUNDS).map_or(1, |rounds| rounds.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_edge_loses_nothing_that_was_acknowledged() {
    let rig = Rig::start().await;
    let load = Load::start(&rig.edge.client(&rig.api_key));
    let mut edge = rig.edge;
    for _ in 0..rounds() {
        load.progress().await;
        edge = edge.kill_and_run().await;
        load.progress().await;
    }
    load.check().await;
    drop(edge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_control_plane_loses_nothing_that_was_acknowledged() {
    let Rig {
        control_plane,
        edge,
        api_key,
    } = Rig::start().await;
    let stopped = control_plane.stop().await;
    let mut process = stopped.spawn();
    let load = Load::start(&edge.client(&api_key));
    for _ in 0..rounds() {
        load.progress().await;
        process.kill().await.unwrap();
        process = stopped.spawn();
        load.progress().await;
    }
    load.check().await;
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgresql_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut postgres = PrivatePostgres::start(Options::new(dir.path()))
        .await
        .unwrap();
    let control_plane = Stopped::new(postgres.url(), Arc::new(()), |_| {})
        .await
        .start()
        .await;
    control_plane.agent("data_analyst", 800).await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let edge = Edge::start(&control_plane, "host").await;
    let load = Load::start(&edge.client(&api_key));
    for _ in 0..rounds() {
        load.progress().await;
        let pid = i32::try_from(postgres.pid())
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        tokio::time::timeout(Duration::from_mins(1), postgres.exited())
            .await
            .unwrap();
        postgres = PrivatePostgres::start(Options::new(dir.path()))
            .await
            .unwrap();
        load.progress().await;
    }
    load.check().await;
    control_plane.stop().await;
    postgres.stop().await;
}
