//! Faces that are switched off.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::rig;
use crate::edge::{asking, http, read};

#[tokio::test]
async fn a_face_that_is_off_says_so_and_the_others_go_on() {
    for (key, off, on) in [
        (
            "streamable_http",
            vec![(Method::POST, "/mcp"), (Method::GET, "/mcp")],
            (Method::POST, "/mcp/tools/request_permission"),
        ),
        (
            "rest",
            vec![
                (Method::POST, "/mcp/tools/request_permission"),
                (Method::GET, "/mcp/resources/grants://active"),
            ],
            (Method::GET, "/auth/session"),
        ),
    ] {
        let variable = format!("AUTHGUARDIAN_FACES__{}", key.to_ascii_uppercase());
        let rig = rig(&[(variable.leak(), "false")]).await;
        let send = async |method: Method, path: &str| {
            let request = http().request(method, format!("{}{path}", rig.edge.url));
            let request = request
                .bearer_auth(&rig.api_key)
                .json(&asking("data_analyst"));
            read(request.send().await.unwrap()).await
        };
        for (method, path) in off {
            let (status, body) = send(method.clone(), path).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}: {body}");
            assert_eq!(body["status"], json!(404));
            let detail = body["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("`{key} = false`")), "{detail}");
            assert!(detail.contains("[faces]"), "{detail}");
        }
        let (status, body) = send(on.0, on.1).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
}
