//! Session boards: nobody is shown anything older than what he has seen.

use std::sync::Arc;

use authguardian_history::{History, Position, Recorder, check};
use serde_json::json;
use tokio::time::Instant;

use super::{
    SESSION as BOARD, Site, open, read_session as read, wanderer::Wanderer, write_session as write,
};
use crate::{
    edge::{Edge, Launch},
    faces::speaker::{Face, Speaker},
};

#[tokio::test]
async fn a_write_is_read_on_every_face_and_out_of_the_replica_once_it_is_there() {
    let (control_plane, api_key) = open().await;
    let site = Site::start(&control_plane, "host", &api_key).await;
    let mut speakers = Vec::new();
    for face in Face::ALL {
        speakers.push(Speaker::begin(face, &site.edge, &api_key).await);
    }
    let mut local = 0;
    for number in 0..20_u32 {
        site.client
            .call("blackboard_write", write("k", number))
            .await;
        let told = site.client.call("blackboard_read", read("k")).await;
        assert_eq!(told["value"], number);
        local += u32::from(told["copies"] == 0);
        for speaker in &mut speakers {
            let arguments = read("k").to_string();
            let told = speaker
                .call_with("blackboard_read", &arguments)
                .await
                .unwrap();
            assert_eq!(told["value"], number);
            local += u32::from(told["copies"] == 0);
        }
    }
    // how often depends on how fast the replica hears of it here
    assert!(local > 0, "the replica has never answered");
}

#[tokio::test]
async fn the_replica_answers_who_has_been_told_and_others_are_forwarded() {
    let (control_plane, api_key) = open().await;
    let site = Site::start(&control_plane, "host", &api_key).await;
    let other = control_plane.api_key(&["orchestrator"], false).await;
    let other = site.edge.client(&other);
    other.resource("grants://active").await;
    let told = site.client.call("blackboard_write", write("k", 1)).await;
    assert_eq!(told["copies"], 1);
    site.client.call("blackboard_read", read("k")).await;
    let is_here = async || {
        let told = site.client.call("blackboard_read", read("k")).await;
        told["copies"] == 0
    };
    crate::wait::until_async("the replica has come so far", is_here).await;
    site.cut();
    let told = site.client.call("blackboard_read", read("k")).await;
    assert_eq!((&told["value"], &told["copies"]), (&json!(1), &json!(0)));
    let absent = site
        .client
        .refusal("blackboard_read", read("nowhere"))
        .await;
    assert_eq!(absent, "KEY_NOT_FOUND");
    let list = json!({"board": BOARD});
    let list = site.client.call("blackboard_list", list).await;
    assert_eq!(list["entries"].as_array().unwrap().len(), 1);
    let mut ahead = read("k");
    ahead["after_revision"] = json!(format!("{}.{}", told["epoch"], 1_000));
    let (unknown, ahead, refused) = tokio::join!(
        other.refusal("blackboard_read", read("k")),
        site.client.refusal("blackboard_read", ahead),
        site.client.refusal("blackboard_write", write("k", 2)),
    );
    // nobody here knows what this one has seen, and the replica has not come so far
    assert_eq!([&*unknown, &*ahead], ["UNAVAILABLE"; 2]);
    assert!(
        ["UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&&*refused),
        "{refused}"
    );
}

#[tokio::test]
async fn whoever_goes_from_edge_to_edge_reads_nothing_older_while_control_planes_come_and_go() {
    const WANDERERS: usize = 6;
    const CALLS: usize = 120;
    let (first, api_key) = open().await;
    let second = first.beside().await;
    let servers = [first.url(), second.url()];
    let mut edges = Vec::new();
    for (number, order) in [[0, 1], [1, 0], [0, 1]].into_iter().enumerate() {
        let launch = Launch::at(&order.map(|at| servers[at].clone()));
        edges.push(Edge::start_with(&first, &format!("host-{number}"), launch).await);
    }
    let began = Instant::now();
    let recorder = Arc::new(Recorder::new(move || began.elapsed()));
    let wanderers: Vec<_> = (0..WANDERERS)
        .map(|name| {
            let mut wanderer = Wanderer {
                name: format!("wanderer-{name}"),
                prefix: String::new(),
                agent: "data_analyst".to_owned(),
                clients: edges.iter().map(|edge| edge.client(&api_key)).collect(),
                seen: None,
                recorder: recorder.clone(),
            };
            tokio::spawn(async move {
                for number in 0..CALLS {
                    wanderer.go_on(name, number).await;
                }
            })
        })
        .collect();
    let done = |part: usize| {
        let recorder = recorder.clone();
        crate::wait::until_async("they have come so far", async move || {
            let calls = recorder.history().operations;
            calls.iter().filter(|call| call.end.is_some()).count() >= part
        })
    };
    done(WANDERERS * CALLS / 4).await;
    let stopped = second.stop().await;
    done(WANDERERS * CALLS / 2).await;
    let _second = stopped.start().await;
    for wanderer in wanderers {
        wanderer.await.unwrap();
    }
    let history = History {
        began: Position {
            epoch: 1,
            revision: 0,
        },
        ..recorder.history()
    };
    let report = check::sessions(&history).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.reads > WANDERERS * CALLS / 3, "{report:?}");
    assert!(report.writes > WANDERERS * CALLS / 6, "{report:?}");
}
