//! Watching boards in a replica.

use serde_json::json;

use super::{Site, open};
use crate::faces::events::Events;

#[tokio::test]
async fn changes_are_told_while_cut_off_and_from_any_position_of_the_replica() {
    let (control_plane, api_key) = open().await;
    let a = Site::start(&control_plane, "a", &api_key).await;
    let b = Site::start(&control_plane, "b", &api_key).await;
    a.cut();
    let query = "?board=eventual&prefix=t%2F";
    let mut events = Events::open_at(&a.edge, &api_key, query).await;
    events.position().await;
    a.write("other", json!(0)).await;
    let written = a.write("t/1", json!(1)).await;
    a.delete("t/1").await;
    let told = events.events(2).await;
    let names: Vec<_> = told.iter().map(|told| told.name.as_str()).collect();
    assert_eq!(names, ["blackboard.put", "blackboard.deleted"]);
    let data = &told[0].data;
    assert_eq!((&data["key"], &data["value"]), (&json!("t/1"), &json!(1)));
    assert_eq!(data["revision"], written["revision"]);
    assert_eq!(data["epoch"], written["epoch"]);
    assert_eq!(data.get("previous_revision"), None);
    let last = told[1].id.clone();
    drop(events);
    // meanwhile, here and elsewhere
    a.write("t/2", json!(2)).await;
    b.write("t/3", json!(3)).await;
    a.mend();
    a.comes_to("t/3", Some(json!(3))).await;
    let again = format!("{query}&last_event_id={last}");
    let mut events = Events::open_at(&a.edge, &api_key, &again).await;
    let told = events.events(2).await;
    let keys: Vec<_> = told.iter().map(|told| &told.data["key"]).collect();
    assert_eq!(keys, ["t/2", "t/3"]);
    // a position of another replica is none here
    let foreign = format!("{query}&last_event_id=board:eventual:1.1");
    let mut events = Events::open_at(&a.edge, &api_key, &foreign).await;
    assert_eq!(events.event().await.name, "COMPACTED");
    b.write("t/4", json!(4)).await;
    assert_eq!(events.events(1).await[0].data["value"], 4);
}
