//! What every request passes first.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    edge::{asking, http, read},
    rig::Rig,
    wait::{until, until_async},
};

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_on_every_route() {
    let rig = Rig::start().await;
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "127.0.0.1.evil.example:3001"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        for (method, path) in [
            (Method::GET, "/livez"),
            (Method::POST, "/mcp"),
            (Method::POST, "/mcp/tools/request_permission"),
            (Method::GET, "/mcp/resources/grants://active"),
            (Method::GET, "/.well-known/oauth-protected-resource"),
            (Method::GET, "/nothing"),
        ] {
            let request = http()
                .request(method, format!("{}{path}", rig.edge.url))
                .header(name, value)
                .bearer_auth(&rig.api_key)
                .json(&asking("data_analyst"));
            let (status, body) = read(request.send().await.unwrap()).await;
            assert_eq!(
                (status, &body["reason"]),
                (StatusCode::FORBIDDEN, &json!("ORIGIN_NOT_ALLOWED")),
                "{name} {value} {path}"
            );
        }
    }
    let page = http()
        .post(format!("{}/mcp/tools/request_permission", rig.edge.url))
        .header(header::ORIGIN, "http://localhost:5173")
        .bearer_auth(&rig.api_key)
        .json(&asking("data_analyst"));
    assert_eq!(page.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_missing_malformed_unknown_wrong_or_revoked_key_is_refused_with_its_reason() {
    let rig = Rig::start().await;
    let (revoked_id, revoked) = rig
        .control_plane
        .api_key_with_id(&["data_analyst"], false)
        .await;
    assert_eq!(
        rig.edge.client(&revoked).resource("grants://active").await,
        json!({"grants": []})
    );
    rig.control_plane.revoke_api_key(revoked_id).await;
    // of another installation
    let unknown = "agk_0000000000000000000001_0000000000000000000000000000000000000000001";
    let wrong_secret = {
        let id = rig.api_key.rsplit_once('_').unwrap().0;
        format!("{id}_0000000000000000000000000000000000000000001")
    };
    for path in ["/mcp", "/mcp/tools/revoke_token"] {
        let post = |key: Option<&str>| {
            let request = http()
                .post(format!("{}{path}", rig.edge.url))
                .json(&json!({}));
            match key {
                Some(key) => request.bearer_auth(key),
                None => request,
            }
        };
        for (key, reason, challenge) in [
            (None, "UNAUTHENTICATED", "Bearer"),
            (Some("agk_nonsense"), "UNAUTHENTICATED", "Bearer"),
            (
                Some(unknown),
                "API_KEY_UNKNOWN",
                "Bearer error=\"invalid_token\"",
            ),
            (
                Some(wrong_secret.as_str()),
                "SIGNATURE_INVALID",
                "Bearer error=\"invalid_token\"",
            ),
            (
                Some(revoked.as_str()),
                "API_KEY_REVOKED",
                "Bearer error=\"invalid_token\"",
            ),
        ] {
            let response = post(key).send().await.unwrap();
            assert_eq!(
                response.headers()[header::WWW_AUTHENTICATE],
                challenge,
                "{path} {key:?}"
            );
            assert_eq!(
                response.headers()[header::CONTENT_TYPE],
                "application/problem+json"
            );
            let (status, body) = read(response).await;
            assert_eq!(
                (status.as_u16(), &body["reason"]),
                (401, &json!(reason)),
                "{path} {key:?}"
            );
        }
    }
}

#[tokio::test]
async fn wrong_secrets_again_and_again_have_to_wait_and_a_good_key_has_not() {
    let rig = Rig::start().await;
    let good = rig.edge.client(&rig.api_key);
    let granted = good.granted().await;
    let id = rig.api_key.rsplit_once('_').unwrap().0;
    let wrong = rig
        .edge
        .client(&format!("{id}_0000000000000000000000000000000000000000001"));
    let asked = || {
        let rpc = "identity.v1.SessionService/CreateSession";
        rig.control_plane.calls(rpc)
    };
    let show = async || {
        let response = wrong.post("revoke_token").json(&json!({})).send().await;
        let response = response.unwrap();
        let wait = response.headers().get(header::RETRY_AFTER).cloned();
        let (status, body) = read(response).await;
        let wait = wait.map(|wait| wait.to_str().unwrap().parse::<u64>().unwrap());
        (
            status.as_u16(),
            body["reason"].as_str().unwrap().to_owned(),
            wait,
        )
    };
    for _ in 0..6 {
        assert_eq!(show().await, (401, "SIGNATURE_INVALID".to_owned(), None));
    }
    let asked_before = asked();
    let waits = std::sync::Mutex::new(Vec::new());
    until_async("it has waited twice", async || {
        let (status, reason, wait) = show().await;
        if status == 429 {
            assert_eq!(reason, "RATE_LIMITED");
            waits.lock().unwrap().push(wait.unwrap());
        }
        // nobody else is held up
        good.validate(&granted.1).await;
        waits.lock().unwrap().contains(&2)
    })
    .await;
    assert_eq!(waits.lock().unwrap()[0], 1);
    assert_eq!(
        asked(),
        asked_before,
        "what is known to be wrong is not asked about"
    );
}

#[tokio::test]
async fn a_revoked_key_is_refused_although_its_session_was_kept() {
    let rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .api_key_with_id(&["data_analyst"], false)
        .await;
    let client = rig.edge.client(&key);
    let (_, token) = client.granted().await;
    rig.control_plane.revoke_api_key(id).await;
    assert_eq!(
        client
            .refusal("revoke_token", json!({"token": token}))
            .await,
        "API_KEY_REVOKED"
    );
}

#[tokio::test]
async fn oversize_and_malformed_bodies_are_refused() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    let oversize = format!("{{\"justification\": \"{}\"}}", "x".repeat(4 * 1024 * 1024));
    for path in ["/mcp", "/mcp/tools/request_permission"] {
        let post = |body: String| {
            http()
                .post(format!("{}{path}", rig.edge.url))
                .bearer_auth(&rig.api_key)
                .header(header::CONTENT_TYPE, "application/json")
                .body(body)
        };
        let (status, body) = read(post(oversize.clone()).send().await.unwrap()).await;
        assert_eq!(
            (status.as_u16(), &body["reason"]),
            (413, &json!("TOO_LARGE")),
            "{path}"
        );
        let (status, body) = read(post("{\"agent_id\": }".to_owned()).send().await.unwrap()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {body}");
        let detail = body["detail"]
            .as_str()
            .or(body["error"]["message"].as_str())
            .unwrap();
        assert!(detail.contains("line 1 column 14"), "{path}: {detail}");
    }
    let (status, body) = read(client.post("revoke_token").body("[]").send().await.unwrap()).await;
    assert_eq!(
        (status.as_u16(), &body["reason"]),
        (400, &json!("INVALID_ARGUMENT"))
    );
}

#[tokio::test]
async fn what_does_not_exist_is_told_as_json() {
    let rig = Rig::start().await;
    let get = async |path: &str, key: Option<&str>| -> (u16, Value) {
        let mut request = http().get(format!("{}{path}", rig.edge.url));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let (status, body) = read(request.send().await.unwrap()).await;
        (status.as_u16(), body)
    };
    let key = Some(rig.api_key.as_str());
    for (path, key, status) in [
        ("/.well-known/oauth-protected-resource", None, 404),
        ("/.well-known/oauth-authorization-server/mcp", None, 404),
        ("/nothing", None, 401),
        ("/nothing", key, 404),
        ("/mcp/resources/grants://nothing", key, 404),
        ("/mcp/tools/request_permission", key, 405),
    ] {
        let (got, body) = get(path, key).await;
        assert_eq!(
            (got, body["status"].as_u64()),
            (status, Some(u64::from(status))),
            "{path}: {body}"
        );
    }
    let unknown = rig
        .edge
        .client(&rig.api_key)
        .try_call("no_such_tool", json!({}))
        .await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn health_needs_no_key_and_tells_whether_the_control_plane_is_heard() {
    let rig = Rig::start().await;
    let live = http()
        .get(format!("{}/livez", rig.edge.url))
        .send()
        .await
        .unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    let ready = || async {
        let response = http()
            .get(format!("{}/readyz", rig.edge.url))
            .send()
            .await
            .unwrap();
        read(response).await
    };
    let (status, body) = ready().await;
    assert_eq!((status, &body["ready"]), (StatusCode::OK, &json!(true)));
    assert!(body["machine_id"].as_str().unwrap().starts_with("mch_"));
    let stopped = rig.control_plane.stop().await;
    crate::wait::until_async("the edge is not ready", async || {
        ready().await.0 == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let _back = stopped.start().await;
    crate::wait::until_async("the edge is ready again", async || {
        ready().await.0 == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn the_unix_socket_has_the_same_faces_and_is_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut rig = Rig::start().await;
    let mode = std::fs::metadata(&rig.edge.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let socket = rig.edge.socket.clone();
    let client = reqwest::Client::builder()
        .unix_socket(socket.clone())
        .build()
        .unwrap();
    let call = |key: Option<&str>| {
        let request = client
            .post("http://localhost/mcp/tools/request_permission")
            .json(&asking("data_analyst"));
        match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    };
    assert_eq!(
        call(None).send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let (_, body) = read(call(Some(&rig.api_key)).send().await.unwrap()).await;
    assert_eq!(body["decision"], "granted");
    assert_eq!(rig.edge.terminate().await, Some(0));
    until("the socket is gone", || !socket.exists()).await;
}
