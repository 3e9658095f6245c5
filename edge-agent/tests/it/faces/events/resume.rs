//! Going on from where a reader was, wherever that is by now.

use super::{Events, expire, grants};
use crate::{
    edge::Edge,
    rig::{ControlPlane, Rig},
    wait::until,
};

const LISTS: &str = "events.v1.EventService/ListRevocations";

#[tokio::test]
async fn a_reader_that_comes_again_misses_nothing_and_hears_nothing_twice() {
    let rig = Rig::start().await;
    let key = &rig.api_key;
    let mut first = Events::open(&rig.edge, key).await;
    first.position().await;
    let early = expire(&rig.control_plane, "data_analyst", 5).await;
    let told = first.events(2).await;
    assert_eq!(grants(&told), early[..2]);
    drop(first);
    let late = expire(&rig.control_plane, "data_analyst", 3).await;
    let missed: Vec<_> = early[2..].iter().chain(&late).cloned().collect();

    let last_id = &told[1].id;
    let mut by_header = Events::resume(&rig.edge, key, last_id).await;
    assert_eq!(grants(&by_header.events(6).await), missed);
    let query = format!("?last_event_id={last_id}");
    let mut by_query = Events::open_at(&rig.edge, key, &query).await;
    assert_eq!(grants(&by_query.events(6).await), missed);
    let live = expire(&rig.control_plane, "data_analyst", 1).await;
    for stream in [&mut by_header, &mut by_query] {
        assert_eq!(grants(&stream.events(1).await), live);
    }
}

#[tokio::test]
async fn a_reader_loses_nothing_when_its_edge_is_killed() {
    const MISSED: usize = 2_500;
    let rig = Rig::start().await;
    let key = &rig.api_key;
    let mut before = Events::open(&rig.edge, key).await;
    before.position().await;
    let heard = expire(&rig.control_plane, "data_analyst", 2).await;
    let told = before.events(2).await;
    assert_eq!(grants(&told), heard);
    let last_id = told[1].id.clone();
    let killed = rig.edge.kill().await;

    let mut missed = Vec::new();
    for _ in 0..5 {
        expire(&rig.control_plane, "orchestrator", MISSED / 5).await;
        missed.extend(expire(&rig.control_plane, "data_analyst", MISSED / 5).await);
    }
    let edge = killed.run_again().await;
    let mut after = Events::resume(&edge, key, &last_id).await;
    // while it catches up, more happens
    missed.extend(expire(&rig.control_plane, "data_analyst", 10).await);
    let told = after.events(missed.len()).await;
    assert_eq!(grants(&told), missed);
    let live = expire(&rig.control_plane, "data_analyst", 1).await;
    assert_eq!(grants(&after.events(1).await), live);
    drop(edge);
}

#[tokio::test]
async fn a_reader_goes_on_at_another_edge_that_may_be_behind_its_own() {
    let rig = Rig::start().await;
    let other = Edge::start(&rig.control_plane, "other").await;
    let mut here = Events::open(&rig.edge, &rig.api_key).await;
    here.position().await;
    other.pause();
    expire(&rig.control_plane, "data_analyst", 3).await;
    let told = here.events(3).await;
    let next = expire(&rig.control_plane, "data_analyst", 2).await;
    other.resume();
    let mut there = Events::resume(&other, &rig.api_key, &told[2].id).await;
    assert_eq!(grants(&there.events(2).await), next);
}

#[tokio::test]
async fn a_stream_goes_on_over_a_restart_of_the_control_plane() {
    let rig = Rig::start().await;
    let mut stream = Events::open(&rig.edge, &rig.api_key).await;
    stream.position().await;
    let elsewhere = rig.control_plane.beside().await;
    let stopped = rig.control_plane.stop().await;
    let missed = expire(&elsewhere, "data_analyst", 3).await;
    let _control_plane = stopped.start().await;
    assert_eq!(grants(&stream.events(3).await), missed);
}

/// What happens next is told.
async fn goes_on(stream: &mut Events, control_plane: &ControlPlane) {
    let live = expire(control_plane, "data_analyst", 2).await;
    let told = stream.events(2).await;
    assert_eq!(grants(&told), live);
}

#[tokio::test]
async fn what_can_no_longer_be_told_is_said_to_be_lost_and_the_stream_goes_on() {
    let rig = Rig::start().await;
    let mut before = Events::open(&rig.edge, &rig.api_key).await;
    let last_id = before.position().await;
    let killed = rig.edge.kill().await;
    expire(&rig.control_plane, "data_analyst", 3).await;
    rig.control_plane.forget_changes().await;
    expire(&rig.control_plane, "data_analyst", 1).await;
    let edge = killed.run_again().await;
    for lost in [
        last_id.as_str(),
        "grants:0.5",
        "grants:9.1",
        "grants:1.999999",
    ] {
        let mut after = Events::resume(&edge, &rig.api_key, lost).await;
        let told = after.event().await;
        assert_eq!(told.name, "COMPACTED", "{lost}: {told:?}");
        assert_eq!(told.data["reason"], "COMPACTED");
        let detail = told.data["detail"].as_str().unwrap();
        assert!(detail.contains("grants://active"), "{detail}");
        assert_eq!(told.data["resume_after"], told.id);
        goes_on(&mut after, &rig.control_plane).await;
        let mut again = Events::resume(&edge, &rig.api_key, &told.id).await;
        assert_eq!(again.event().await.name, "grant.expired", "{lost}");
    }
}

#[tokio::test]
async fn an_edge_that_missed_changes_tells_what_can_be_told_and_else_that_it_cannot() {
    let rig = Rig::start().await;
    let mut stream = Events::open(&rig.edge, &rig.api_key).await;
    stream.position().await;
    let elsewhere = rig.control_plane.beside().await;
    let stopped = rig.control_plane.stop().await;
    expire(&elsewhere, "data_analyst", 3).await;
    elsewhere.forget_changes().await;
    let control_plane = stopped.start().await;
    until("the edge has listed again", || {
        control_plane.calls(LISTS) > 0
    })
    .await;
    assert_eq!(stream.event().await.name, "COMPACTED");
    goes_on(&mut stream, &control_plane).await;
}
