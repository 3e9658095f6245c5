//! Zones by the real other end, and by what trusted proxies say.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::rig;
use crate::{
    audit::entries,
    edge::{asking, http, read},
    rig::Rig,
};

/// The trust that a request is judged by, as one with this header.
async fn trust(rig: &Rig, header: Option<(&str, &str)>) -> Value {
    let mut request = rig
        .edge
        .client(&rig.api_key)
        .post("request_permission")
        .json(&asking("data_analyst"));
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let (status, body) = read(request.send().await.unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["score_parts"]["trust"].clone()
}

#[tokio::test]
async fn the_client_that_a_trusted_proxy_names_is_in_its_own_zone() {
    let rig = rig(&[
        ("AUTHGUARDIAN_ZONES__TRUSTED_PROXIES", "127.0.0.1"),
        ("AUTHGUARDIAN_ZONES__TRUSTED_NETWORKS", "10.0.0.0/8"),
    ])
    .await;
    for (header, expected) in [
        (None, 800),
        (Some(("x-forwarded-for", "127.0.0.5")), 800),
        (Some(("x-forwarded-for", "203.0.113.5, 10.1.2.3")), 700),
        (Some(("forwarded", "for=10.1.2.3;proto=https")), 700),
        (Some(("x-real-ip", "203.0.113.5")), 500),
        (Some(("x-forwarded-for", "127.0.0.1, 203.0.113.5")), 500),
        (Some(("x-forwarded-for", "nonsense")), 500),
    ] {
        assert_eq!(trust(&rig, header).await, json!(expected), "{header:?}");
    }
    let seen = entries(
        &rig.control_plane,
        ("tool.request_permission", ""),
        3, // from outside
    )
    .await;
    let client = |entry: &control_plane::audit::Record| {
        (
            entry.zone.clone().unwrap(),
            entry.peer_address.clone().unwrap(),
        )
    };
    let clients: Vec<_> = seen.iter().map(client).collect();
    let outside = |address: &str| ("external".to_owned(), address.to_owned());
    assert!(clients.contains(&outside("203.0.113.5")), "{clients:?}");
    assert!(clients.contains(&outside("::")), "{clients:?}");
    assert!(
        clients.iter().all(|(zone, _)| zone == "external"),
        "{clients:?}"
    );
}

#[tokio::test]
async fn headers_of_anybody_else_make_a_call_external() {
    let rig = rig(&[]).await;
    assert_eq!(trust(&rig, None).await, json!(800));
    for header in [
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
    ] {
        assert_eq!(trust(&rig, Some(header)).await, json!(500), "{header:?}");
    }
    // reads and validation too, which the edge may answer by itself
    let read = http()
        .get(format!("{}/mcp/resources/grants://active", rig.edge.url))
        .header("x-real-ip", "192.0.2.1")
        .bearer_auth(&rig.api_key);
    assert_eq!(read.send().await.unwrap().status(), StatusCode::OK);
    let told = entries(&rig.control_plane, ("resource.read", ""), 1).await;
    assert_eq!(told[0].zone.as_deref(), Some("external"));
    assert_eq!(
        told[0].peer_address.as_deref(),
        Some("127.0.0.1"),
        "the real other end"
    );
}

#[tokio::test]
async fn from_outside_boards_and_budgets_are_read_and_nothing_else() {
    let rig = rig(&[]).await;
    let call = async |tool: &str, arguments: Value, from_outside: bool| {
        let mut request = rig.edge.client(&rig.api_key).post(tool).json(&arguments);
        if from_outside {
            request = request.header("x-real-ip", "192.0.2.1");
        }
        let (status, told) = crate::edge::read(request.send().await.unwrap()).await;
        (status.as_u16(), told["reason"].clone())
    };
    let write = json!({"key": "a", "value": 1});
    assert_eq!(
        call("blackboard_write", write.clone(), false).await,
        (200, Value::Null)
    );
    let key = json!({"key": "a"});
    assert_eq!(
        call("blackboard_read", key.clone(), true).await,
        (200, Value::Null)
    );
    assert_eq!(
        call("blackboard_list", json!({}), true).await,
        (200, Value::Null)
    );
    assert_eq!(
        call("budget_status", json!({"task_id": "no-such"}), true).await,
        (404, json!("BUDGET_NOT_FOUND"))
    );
    let forbidden = (403, json!("ZONE_FORBIDS"));
    let spends = json!({"agent_id": "data_analyst", "task_id": "q4", "tokens": 1});
    let mut spent = spends.clone();
    spent["request_id"] = json!("r1");
    for (tool, arguments) in [
        ("blackboard_write", write),
        ("blackboard_delete", key.clone()),
        ("blackboard_transaction", json!({"board": "strong"})),
        ("lock_acquire", key.clone()),
        ("lock_renew", key.clone()),
        ("lock_release", key),
        ("request_allocation", spends),
        ("report_spending", spent),
    ] {
        assert_eq!(call(tool, arguments, true).await, forbidden, "{tool}");
    }
}

#[tokio::test]
async fn a_listener_answers_the_networks_that_it_is_for() {
    let rig = rig(&[
        ("AUTHGUARDIAN_LISTEN__ALLOWED_NETWORKS", "10.0.0.0/8"),
        ("AUTHGUARDIAN_ZONES__TRUSTED_PROXIES", "127.0.0.1"),
    ])
    .await;
    let get = async |path: &str, from: Option<&str>| {
        let mut request = http()
            .get(format!("{}{path}", rig.edge.url))
            .bearer_auth(&rig.api_key);
        if let Some(from) = from {
            request = request.header("x-forwarded-for", from);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.text().await.unwrap())
    };
    for path in ["/livez", "/mcp/resources/grants://active", "/nothing"] {
        for from in [None, Some("203.0.113.5"), Some("nonsense"), Some("::")] {
            let (status, body) = get(path, from).await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &body["reason"]),
                (403, &json!("ADDRESS_NOT_ALLOWED")),
                "{path} {from:?}"
            );
        }
    }
    assert_eq!(get("/livez", Some("10.1.2.3")).await.0, 200);
    assert_eq!(
        get("/mcp/resources/grants://active", Some("10.1.2.3"))
            .await
            .0,
        200
    );
    let socket = reqwest::Client::builder()
        .unix_socket(rig.edge.socket.clone())
        .build()
        .unwrap();
    let live = socket.get("http://localhost/livez").send().await.unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    entries(
        &rig.control_plane,
        ("call.refuse", "ADDRESS_NOT_ALLOWED"),
        1,
    )
    .await;
}
