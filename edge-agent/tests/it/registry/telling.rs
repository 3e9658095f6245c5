//! Subscribers and listeners are told.

use serde_json::{Value, json};

use super::{Fleet, ids, reader};
use crate::{
    edge::http,
    faces::speaker::{Face, Speaker},
};

const URI: &str = "agents://registry";

#[tokio::test]
async fn every_face_hears_that_the_registry_is_another_and_reads_it() {
    let fleet = Fleet::start().await;
    let (one, two) = (fleet.edge("first").await, fleet.edge("second").await);
    let mut listeners = Vec::new();
    for face in Face::ALL {
        let mut speaker = Speaker::begin(face, &two, &fleet.seeker).await;
        if face == Face::Stateless {
            let filter = json!({"notifications": {"resourceSubscriptions": [URI]}});
            speaker.ask("subscriptions/listen", filter).await;
            speaker
                .notified("notifications/subscriptions/acknowledged")
                .await;
        } else {
            let subscribed = speaker
                .request("resources/subscribe", json!({"uri": URI}))
                .await;
            assert!(subscribed.get("result").is_some(), "{face:?}: {subscribed}");
        }
        listeners.push((face, speaker));
    }
    one.client(&fleet.key)
        .call("register_agent", reader())
        .await;
    for (face, speaker) in &mut listeners {
        let told = speaker.notified("notifications/resources/updated").await;
        assert_eq!(told["params"]["uri"], URI, "{face:?}");
        let read = speaker.request("resources/read", json!({"uri": URI})).await;
        let text = read["result"]["contents"][0]["text"].as_str().unwrap();
        let registry: Value = serde_json::from_str(text).unwrap();
        assert_eq!(ids(&registry), ["reader"], "{face:?}");
    }
}

#[tokio::test]
async fn whoever_listens_is_told_what_happens_to_agents_of_others() {
    let fleet = Fleet::start().await;
    let (one, two) = (fleet.edge("first").await, fleet.edge("second").await);
    let mut events = http()
        .get(format!("{}/events?events=agent.*", two.url))
        .bearer_auth(&fleet.seeker)
        .send()
        .await
        .unwrap();
    let client = one.client(&fleet.key);
    client.call("register_agent", reader()).await;
    let mut asked = reader();
    asked["labels"] = json!({"region": "us"});
    client.call("register_agent", asked).await;
    client
        .call("deregister_agent", json!({"agent_id": "reader"}))
        .await;
    let mut told = String::new();
    while !told.contains("event: agent.deregistered") || !told.ends_with("\n\n") {
        let chunk = events.chunk().await.unwrap().unwrap();
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let registered = told.find("event: agent.registered").unwrap();
    let ended = told.find("event: agent.deregistered").unwrap();
    assert!(registered < ended, "{told}");
    let data = told.lines().find_map(|line| line.strip_prefix("data: {"));
    let data: Value = serde_json::from_str(&format!("{{{}", data.unwrap())).unwrap();
    assert_eq!(data["agent_id"], "reader", "{told}");
    assert!(data["epoch"].as_u64().unwrap() > 0, "{told}");
}
