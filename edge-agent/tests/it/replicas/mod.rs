//! Replicas of boards on real edges: offline, killed, put back, and together again.

mod disks;
mod many;
pub(crate) mod merging;
mod offline;
mod sessions;
pub(crate) mod wanderer;
mod watches;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    boards::through_rest,
    edge::{Edge, Launch, RestClient},
    proxy::Proxy,
    rig::ControlPlane,
    wait::until_async,
};

/// The board of tests about sessions.
const SESSION: &str = "session";

fn write_session(key: &str, value: impl Into<Value>) -> Value {
    json!({"board": SESSION, "key": key, "value": value.into()})
}

fn read_session(key: &str) -> Value {
    json!({"board": SESSION, "key": key})
}

/// An edge that can be cut off from the control plane.
struct Site {
    edge: Edge,
    way: Proxy,
    client: RestClient,
    since: Instant,
}

impl Site {
    async fn start(control_plane: &ControlPlane, machine: &str, api_key: &str) -> Self {
        let way = Proxy::to(control_plane.edge_grpc).await;
        let launch = Launch::at(&[way.url()]);
        let edge = Edge::start_with(control_plane, machine, launch).await;
        let client = edge.client(api_key);
        // what is kept of the key is good while the edge is cut off
        client.resource("grants://active").await;
        Self {
            edge,
            way,
            client,
            since: Instant::now(),
        }
    }

    /// Nothing passes any more, and everybody knows.
    fn cut(&self) {
        self.way.cut();
        self.way.hang_up();
    }

    fn mend(&self) {
        self.way.mend();
        self.way.hang_up();
    }

    async fn write(&self, key: &str, value: Value) -> Value {
        let write = json!({"key": key, "value": value});
        self.client.call("blackboard_write", write).await
    }

    async fn delete(&self, key: &str) -> Value {
        let delete = json!({"key": key});
        self.client.call("blackboard_delete", delete).await
    }

    /// What is in a key, with all its values; `None`: it is not there.
    async fn read(&self, key: &str) -> Option<Value> {
        let read = json!({"key": key, "siblings": true});
        let (status, body) = self.client.try_call("blackboard_read", read).await;
        match status {
            StatusCode::OK => Some(body),
            StatusCode::NOT_FOUND => None,
            _ => panic!("{status}: {body}"),
        }
    }

    async fn value(&self, key: &str) -> Option<Value> {
        self.read(key).await.map(|read| read["value"].clone())
    }

    /// Waits until a key says this here.
    async fn comes_to(&self, key: &str, value: Option<Value>) {
        let what = format!("`{key}` is {value:?}");
        until_async(&what, async || self.value(key).await == value).await;
    }
}

/// A control plane and a key for `data_analyst` without limits.
async fn open() -> (ControlPlane, String) {
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    control_plane.agent("orchestrator", 900).await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    (control_plane, api_key)
}

/// All values of a key, as text, in order.
fn values(read: &Value) -> Vec<String> {
    let values = read["values"].as_array().unwrap().iter();
    let mut values: Vec<_> = values.map(|one| one["value"].to_string()).collect();
    values.sort();
    values
}

#[tokio::test]
async fn numbers_come_back_to_the_digit_out_of_a_replica_too() {
    let (control_plane, api_key) = open().await;
    let site = Site::start(&control_plane, "host", &api_key).await;
    for text in [
        "1e400",
        "-0",
        "12345678901234567890.10",
        r#"{"b":1,"a":[]}"#,
    ] {
        let write = format!(r#"{{"key": "n", "value": {text}}}"#);
        let (status, _) = through_rest(&site.client, "blackboard_write", &write).await;
        assert_eq!(status, StatusCode::OK);
        let read = r#"{"key": "n", "siblings": true}"#;
        let (_, read) = through_rest(&site.client, "blackboard_read", read).await;
        assert_eq!(read["value"].to_string(), text);
        assert_eq!(values(&read), [text]);
        assert_eq!((&read["copies"], &read["siblings"]), (&json!(0), &json!(1)));
    }
}
