//! Subscriptions to keys and boards, on every face.

use serde_json::{Value, json};

use crate::{
    edge::{Edge, Launch},
    faces::speaker::{Face, Speaker},
    rig::{ControlPlane, Rig},
};

pub(crate) const UPDATED: &str = "notifications/resources/updated";
const WATCH: &str = "blackboard.v1.BlackboardService/Watch";

/// Subscribes in the way of the face's revision; what it is refused with.
pub(crate) async fn subscribe(
    speaker: &mut Speaker,
    face: Face,
    uris: &[&str],
) -> Result<(), Value> {
    if face == Face::Stateless {
        let filter = json!({"notifications": {"resourceSubscriptions": uris}});
        let id = speaker.ask("subscriptions/listen", filter).await;
        let told = speaker
            .next(|message| {
                message["method"] == "notifications/subscriptions/acknowledged"
                    || message["id"] == id
            })
            .await;
        return match told.get("error") {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        };
    }
    for uri in uris {
        let answer = speaker
            .request("resources/subscribe", json!({ "uri": uri }))
            .await;
        if let Some(error) = answer.get("error") {
            return Err(error.clone());
        }
    }
    Ok(())
}

async fn write(rig: &Rig, board: &str, key: &str, value: Value) {
    let arguments = json!({"board": board, "key": key, "value": value});
    rig.edge
        .client(&rig.api_key)
        .call("blackboard_write", arguments)
        .await;
}

#[tokio::test]
async fn every_face_hears_of_the_keys_that_it_subscribed_to_and_of_no_others() {
    const URI: &str = "blackboard://strong/tasks%2Fa%20b";
    let rig = Rig::start().await;
    for face in Face::ALL {
        let mut speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
        subscribe(&mut speaker, face, &[URI, "blackboard://strong/later"])
            .await
            .unwrap();
        write(&rig, "strong", "tasks/a", json!(1)).await;
        write(&rig, "strong", "tasks/a b/c", json!(1)).await;
        write(&rig, "eventual", "tasks/a b", json!(1)).await;
        write(
            &rig,
            "strong",
            "tasks/a b",
            json!({"by": format!("{face:?}")}),
        )
        .await;
        let told = speaker.notified(UPDATED).await;
        assert_eq!(told["params"]["uri"], URI, "{face:?}");
        let read = speaker
            .request("resources/read", json!({ "uri": URI }))
            .await;
        let text = read["result"]["contents"][0]["text"].as_str().unwrap();
        let read: Value = serde_json::from_str(text).unwrap();
        assert_eq!(read["value"]["by"], format!("{face:?}"));
        // what comes later has not been overtaken by anything
        write(&rig, "strong", "later", json!(1)).await;
        let told = speaker.notified(UPDATED).await;
        assert_eq!(
            told["params"]["uri"], "blackboard://strong/later",
            "{face:?}"
        );
        assert!(!speaker.has_kept(UPDATED), "{face:?}");
    }
}

#[tokio::test]
async fn a_whole_board_is_heard_of_and_a_key_that_is_deleted_or_ends() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    let (all, key) = ("blackboard://session/", "blackboard://session/k");
    let mut of_all = Speaker::begin(Face::WebSocket, &rig.edge, &rig.api_key).await;
    let mut of_key = Speaker::begin(Face::Stateless, &rig.edge, &rig.api_key).await;
    subscribe(&mut of_all, Face::WebSocket, &[all])
        .await
        .unwrap();
    subscribe(&mut of_key, Face::Stateless, &[key])
        .await
        .unwrap();
    let put = json!({"board": "session", "key": "k", "value": 1});
    let brief = json!({"board": "session", "key": "k", "value": 1, "ttl_seconds": 1});
    for (tool, arguments) in [
        ("blackboard_write", put.clone()),
        ("blackboard_delete", json!({"board": "session", "key": "k"})),
        ("blackboard_write", brief),
    ] {
        client.call(tool, arguments).await;
        assert_eq!(of_key.notified(UPDATED).await["params"]["uri"], key);
        assert_eq!(of_all.notified(UPDATED).await["params"]["uri"], all);
    }
    // it ends by itself
    assert_eq!(of_key.notified(UPDATED).await["params"]["uri"], key);
    let gone = client
        .refusal("blackboard_read", json!({"board": "session", "key": "k"}))
        .await;
    assert_eq!(gone, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_with_the_reason() {
    let rig = Rig::start().await;
    for face in Face::ALL {
        let mut speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
        let refused = subscribe(&mut speaker, face, &["blackboard://no-such/a"])
            .await
            .unwrap_err();
        assert_eq!(
            refused["data"]["reason"], "BOARD_NOT_FOUND",
            "{face:?}: {refused}"
        );
        // no resource at all
        let read = speaker
            .request("resources/read", json!({"uri": "blackboard://strong/%zz"}))
            .await;
        assert!(read.get("error").is_some(), "{face:?}: {read}");
        let read = speaker
            .request(
                "resources/read",
                json!({"uri": "blackboard://strong/nothing"}),
            )
            .await;
        assert_eq!(
            read["error"]["data"]["reason"], "KEY_NOT_FOUND",
            "{face:?}: {read}"
        );
    }
}

#[tokio::test]
async fn subscribers_of_one_key_share_one_stream_that_ends_with_the_last_of_them() {
    let rig = Rig::start().await;
    let before = rig.control_plane.calls(WATCH);
    let mut speakers = Vec::new();
    for face in Face::ALL {
        let mut speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
        subscribe(&mut speaker, face, &["blackboard://strong/shared"])
            .await
            .unwrap();
        speakers.push(speaker);
    }
    write(&rig, "strong", "shared", json!(1)).await;
    for speaker in &mut speakers {
        speaker.notified(UPDATED).await;
    }
    // over stdio it is not the key that calls but a session of its own
    assert_eq!(rig.control_plane.calls(WATCH), before + 2);
    // whoever subscribes twice is told once
    let mut last = speakers.pop().unwrap();
    drop(speakers);
    subscribe(&mut last, Face::Stdio, &["blackboard://strong/shared"])
        .await
        .unwrap();
    write(&rig, "strong", "shared", json!(2)).await;
    last.notified(UPDATED).await;
    let stopped = last
        .request(
            "resources/unsubscribe",
            json!({"uri": "blackboard://strong/shared"}),
        )
        .await;
    assert!(stopped.get("result").is_some(), "{stopped}");
    write(&rig, "strong", "shared", json!(3)).await;
    last.request("ping", json!({})).await;
    assert!(!last.has_kept(UPDATED));
}

#[tokio::test]
async fn a_subscription_goes_on_at_another_control_plane_and_misses_nothing() {
    const URI: &str = "blackboard://strong/k";
    let first = ControlPlane::start().await;
    first.agent("data_analyst", 800).await;
    let api_key = first.api_key(&["data_analyst"], false).await;
    let second = first.beside().await;
    let edge = Edge::start_with(&first, "host", Launch::at(&[first.url(), second.url()])).await;
    let other = Edge::start_with(&second, "other", Launch::at(&[second.url()])).await;
    let mut listeners = Vec::new();
    for face in [Face::WebSocket, Face::Stateless] {
        let mut speaker = Speaker::begin(face, &edge, &api_key).await;
        subscribe(&mut speaker, face, &[URI]).await.unwrap();
        listeners.push(speaker);
    }
    let put = |value: u32| json!({"board": "strong", "key": "k", "value": value});
    other
        .client(&api_key)
        .call("blackboard_write", put(1))
        .await;
    for listener in &mut listeners {
        listener.notified(UPDATED).await;
    }
    let _stopped = first.stop().await;
    // while the edge has nobody to hear it from, or already has again
    other
        .client(&api_key)
        .call("blackboard_write", put(2))
        .await;
    for listener in &mut listeners {
        assert_eq!(listener.notified(UPDATED).await["params"]["uri"], URI);
    }
}
