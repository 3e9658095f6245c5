//! What the edge tells by itself, on every face that can be told.

use serde_json::json;

use super::speaker::{Face, Speaker};
use crate::{
    edge::{Edge, Launch, asking, http},
    held::Held,
    rig::{ControlPlane, Rig},
};

/// Subscribes to the caller's grants, in the way of the face's revision.
async fn subscribe(speaker: &mut Speaker, face: Face) {
    if face == Face::Stateless {
        let filter = json!({"notifications": {"resourceSubscriptions": ["grants://active"]}});
        speaker.ask("subscriptions/listen", filter).await;
        speaker
            .notified("notifications/subscriptions/acknowledged")
            .await;
    } else {
        let subscribed = speaker
            .request("resources/subscribe", json!({"uri": "grants://active"}))
            .await;
        assert!(subscribed.get("result").is_some(), "{face:?}: {subscribed}");
    }
}

#[tokio::test]
async fn every_face_gets_a_grant_hears_of_it_and_sees_it_revoked() {
    let rig = Rig::start().await;
    let mut listeners = Vec::new();
    for face in Face::ALL {
        let mut speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
        subscribe(&mut speaker, face).await;
        listeners.push((face, speaker));
    }
    for (face, speaker) in &mut listeners {
        let granted = speaker
            .call("request_permission", &asking("data_analyst"))
            .await;
        let granted = granted.unwrap_or_else(|error| panic!("{face:?}: {error}"));
        assert_eq!(granted["decision"], "granted", "{face:?}: {granted}");
        let told = speaker.notified("notifications/resources/updated").await;
        assert_eq!(told["params"]["uri"], "grants://active", "{face:?}");
        let token = json!({"token": granted["token"]});
        let revoked = speaker.call("revoke_token", &token).await.unwrap();
        assert_eq!(revoked["revoked"], true, "{face:?}: {revoked}");
        let asked = json!({
            "token": granted["token"],
            "agent_id": "data_analyst",
            "resource_type": "SAP_API",
        });
        let seen = speaker.call("validate_token", &asked).await.unwrap();
        assert_eq!(seen["valid"], false, "{face:?}");
        assert_eq!(seen["reason"], "GRANT_REVOKED", "{face:?}");
    }
}

#[tokio::test]
async fn every_face_hears_that_the_tools_are_others_and_sees_which() {
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.toml");
    std::fs::write(&config, "").unwrap();
    let mut launch = Launch::at(&[control_plane.url()]);
    launch.config = Some(config.clone());
    let edge = Edge::start_with(&control_plane, "host", launch).await;
    let rig = Rig {
        control_plane,
        edge,
        api_key,
    };
    let mut listeners = Vec::new();
    for face in Face::ALL {
        let mut speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
        if face == Face::Stateless {
            let filter = json!({"notifications": {"toolsListChanged": true}});
            speaker.ask("subscriptions/listen", filter).await;
            speaker
                .notified("notifications/subscriptions/acknowledged")
                .await;
        }
        // what comes after this is heard: the session stands
        let listed = speaker.request("tools/list", json!({})).await;
        assert!(listed.to_string().contains("revoke_token"), "{face:?}");
        listeners.push((face, speaker));
    }
    let events = http()
        .get(format!("{}/events?events=tools.list_changed", rig.edge.url))
        .bearer_auth(&rig.api_key);
    let mut events = events.send().await.unwrap();
    std::fs::write(&config, "tools.disabled = [\"revoke_token\"]").unwrap();
    rig.edge.hang_up();
    let mut told = String::new();
    while !told.contains("\"tools\"") {
        let chunk = events.chunk().await.unwrap().unwrap();
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(
        told.contains("event: tools.list_changed\ndata: {"),
        "{told}"
    );
    assert!(!told.contains("revoke_token"), "{told}");
    for (face, speaker) in &mut listeners {
        speaker.notified("notifications/tools/list_changed").await;
        let listed = speaker.request("tools/list", json!({})).await;
        let names = listed["result"]["tools"].as_array().unwrap();
        assert!(
            !names.iter().any(|tool| tool["name"] == "revoke_token"),
            "{face:?}: {names:?}"
        );
        let refused = speaker
            .call("revoke_token", &json!({"token": "x"}))
            .await
            .unwrap_err();
        assert_eq!(refused["reason"], "PERMISSION_DENIED", "{face:?}");
    }
    let client = rig.edge.client(&rig.api_key);
    let refused = client.refusal("revoke_token", json!({"token": "x"})).await;
    assert_eq!(refused, "PERMISSION_DENIED");

    std::fs::write(&config, "tools.disabled = [\"no_such_tool\"]").unwrap();
    rig.edge.hang_up();
    std::fs::write(&config, "").unwrap();
    rig.edge.hang_up();
    for (face, speaker) in &mut listeners {
        speaker.notified("notifications/tools/list_changed").await;
        let listed = speaker.request("tools/list", json!({})).await;
        assert!(listed.to_string().contains("revoke_token"), "{face:?}");
    }
}

#[tokio::test]
async fn every_face_tells_how_long_a_call_takes_and_stops_it_when_asked_to() {
    let rig = Rig::start().await;
    let mut waiting = Vec::new();
    for face in Face::ALL {
        waiting.push((face, Speaker::begin(face, &rig.edge, &rig.api_key).await));
    }
    let held = Held::begin(&rig).await;
    for (face, speaker) in &mut waiting {
        let call = json!({
            "name": "request_permission",
            "arguments": asking("data_analyst"),
            "_meta": {"progressToken": "p"},
        });
        let id = speaker.ask("tools/call", call).await;
        let mut last = 0.0;
        for _ in 0..2 {
            let told = speaker.notified("notifications/progress").await;
            assert_eq!(told["params"]["progressToken"], "p", "{face:?}: {told}");
            let progress = told["params"]["progress"].as_f64().unwrap();
            assert!(progress > last, "{face:?}: {progress} after {last}");
            last = progress;
        }
        if *face == Face::Stateless {
            // this revision cancels by closing the response
            continue;
        }
        speaker
            .send(&json!({
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": id},
            }))
            .await;
        let pong = speaker.request("ping", json!({})).await;
        assert_eq!(pong["result"], json!({}), "{face:?}");
    }
    held.end().await;
    for (face, mut speaker) in waiting {
        // an answer that was under way would come before that to a later request
        let list = speaker.request("tools/list", json!({})).await;
        assert!(list.get("result").is_some(), "{face:?}: {list}");
        let answered =
            speaker.has_received(|message| message["result"]["structuredContent"].is_object());
        assert!(face == Face::Stateless || !answered, "{face:?}");
    }
}
