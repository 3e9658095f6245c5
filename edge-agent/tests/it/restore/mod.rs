//! The control plane's database is put back to an older state: by a restore
//! that was fenced, and by one that was not.

mod drill;
mod unfenced;

use std::sync::Arc;

use control_plane::testing::TestDatabase;
use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, postgres::PgConnectOptions};

use crate::{
    edge::{Edge, RestClient},
    rig::{ControlPlane, JUSTIFICATION, Stopped},
    wait::until_async,
};

/// A control plane on a database that the test can get at, an edge, and a key
/// for `data_analyst`.
struct Site {
    control_plane: ControlPlane,
    database: Arc<TestDatabase>,
    edge: Edge,
    api_key: String,
}

impl Site {
    async fn start() -> Self {
        let database = Arc::new(TestDatabase::new().await);
        let stopped = Stopped::new(
            database.url(),
            Arc::<TestDatabase>::clone(&database),
            |_| {},
        );
        let control_plane = stopped.await.start().await;
        control_plane.agent("data_analyst", 800).await;
        let api_key = control_plane.api_key(&["data_analyst"], false).await;
        let edge = Edge::start(&control_plane, "host").await;
        Self {
            control_plane,
            database,
            edge,
            api_key,
        }
    }
}

/// Copies a database that nobody uses any more, as it is; returns the copy's URL.
async fn copy(database: &TestDatabase) -> String {
    let options: PgConnectOptions = database.url().parse().unwrap();
    let from = options.get_database().unwrap().to_owned();
    let to = format!("{from}_copy");
    let url = |name: &str| String::from(options.clone().database(name).to_url_lossy());
    let postgres = url("postgres");
    let maintenance = sqlx::PgPool::connect(&postgres).await.unwrap();
    until_async("the database can be copied", async || {
        let ended = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{from}'"
        );
        let made = format!(r#"CREATE DATABASE "{to}" TEMPLATE "{from}""#);
        sqlx::query(AssertSqlSafe(ended))
            .execute(&maintenance)
            .await
            .unwrap();
        sqlx::query(AssertSqlSafe(made))
            .execute(&maintenance)
            .await
            .is_ok()
    })
    .await;
    url(&to)
}

/// Asks for a grant until it is given.
async fn granted(client: &RestClient) -> String {
    let ask = serde_json::json!({
        "agent_id": "data_analyst", "resource_type": "SAP_API", "justification": JUSTIFICATION});
    let told = std::cell::RefCell::new(Value::Null);
    until_async("a grant is given", async || {
        let (status, body) = client.try_call("request_permission", ask.clone()).await;
        *told.borrow_mut() = body;
        status.is_success()
    })
    .await;
    let told = told.into_inner();
    told["token"].as_str().unwrap().to_owned()
}

/// What is said of a token: `valid`, or a reason.
async fn verdict(client: &RestClient, token: &str, consistency: &str) -> String {
    let question = serde_json::json!({
        "token": token, "agent_id": "data_analyst", "resource_type": "SAP_API", "consistency": consistency});
    let (_, body) = client.try_call("validate_token", question).await;
    match body["valid"].as_bool() {
        Some(true) => "valid".to_owned(),
        _ => body["reason"].as_str().unwrap().to_owned(),
    }
}

/// Waits until this is said of a token.
async fn becomes(client: &RestClient, token: &str, consistency: &str, wanted: &str) {
    let what = format!("the token is {wanted} ({consistency})");
    until_async(&what, async || {
        verdict(client, token, consistency).await == wanted
    })
    .await;
}
