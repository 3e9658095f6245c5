//! The official conformance suite of MCP, on the edge that users run and on its
//! transports with the suite's own fixtures behind them.

use std::path::PathBuf;

use crate::{
    clients::source,
    edge::{Edge, Launch},
    rig::{ControlPlane, Rig},
};

mod suite;
mod with_key;

use with_key::WithKey;

/// The edge's faces with the suite's fixtures behind them.
const FIXTURE: &str = env!("CARGO_BIN_EXE_conformance-edge");

/// What users run has none of the suite's fixtures.
async fn edge(revision: &str) {
    let rig = Rig::start().await;
    let way = WithKey::before(&rig.edge.url, &rig.api_key).await;
    suite::run(&way.url, revision, &of_the_edge(revision)).await;
}

/// With the fixtures, nothing may fail.
async fn transports(revision: &str) {
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let launch = Launch {
        program: Some(FIXTURE),
        ..Launch::at(&[control_plane.url()])
    };
    let edge = Edge::start_with(&control_plane, "host", launch).await;
    let way = WithKey::before(&edge.url, &api_key).await;
    let list = expected_failures("transports.yaml");
    suite::run(&way.url, revision, &list).await;
}

fn of_the_edge(revision: &str) -> PathBuf {
    expected_failures(&format!("edge.{revision}.yaml"))
}

fn expected_failures(name: &str) -> PathBuf {
    source("edge-agent/tests/it/conformance").join(name)
}

#[tokio::test]
async fn the_edge_does_all_of_2026_07_28_that_needs_no_fixture() {
    edge("2026-07-28").await;
}

#[tokio::test]
async fn the_edge_does_all_of_2025_11_25_that_needs_no_fixture() {
    edge("2025-11-25").await;
}

#[tokio::test]
async fn the_transports_do_all_of_2026_07_28() {
    transports("2026-07-28").await;
}

#[tokio::test]
async fn the_transports_do_all_of_2025_11_25() {
    transports("2025-11-25").await;
}

#[test]
fn every_expected_failure_is_a_single_check_with_its_reason() {
    for revision in ["2026-07-28", "2025-11-25"] {
        let list = std::fs::read_to_string(of_the_edge(revision)).unwrap();
        for entry in list.lines().filter_map(|line| line.strip_prefix("  - ")) {
            let (check, reason) = entry.split_once("  # ").unwrap();
            assert!(check.contains(':'), "{entry}");
            assert!(
                reason.starts_with("fixture: ") || reason.starts_with("removed: "),
                "{entry}"
            );
        }
    }
}
