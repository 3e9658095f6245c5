//! An edge that hears nothing any more: a token is good until what is known
//! here is older than the token allows, and then it is not.

use std::time::Duration;

use control_plane::audit::Context;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    BOUND,
    held::{Held, becomes, verdict},
};
use crate::{
    edge::{Edge, Launch, RestClient},
    proxy::Proxy,
    rig::ControlPlane,
};

/// For one answer: 3 s at most are spent on asking, the rest is for a busy
/// machine.
const PROMPT: Duration = Duration::from_secs(5);

/// Tokens for `EXTERNAL_SERVICE` stay good for longer without news.
const POLICIES: &str = r#"
@id("permit-most")
permit (principal, action == Action::"request", resource)
unless { resource == ResourceType::"EXTERNAL_SERVICE" };

@id("permit-patient")
@max_staleness("60s")
permit (principal, action == Action::"request", resource == ResourceType::"EXTERNAL_SERVICE");
"#;

#[tokio::test]
async fn without_a_control_plane_a_token_is_good_until_its_bound_and_then_stale() {
    let (control_plane, keys) = control_plane().await;
    let edge = Edge::start(&control_plane, "host").await;
    let held = Holdings::of(&edge, &keys).await;
    let stopped = control_plane.stop().await;
    held.outlast(Instant::now()).await;
    let _control_plane = stopped.start().await;
    held.recover().await;
}

#[tokio::test]
async fn behind_a_black_hole_a_token_is_good_until_its_bound_and_then_stale() {
    let (control_plane, keys) = control_plane().await;
    let proxy = Proxy::to(control_plane.edge_grpc).await;
    let launch = Launch::at(&[proxy.url()]);
    let edge = Edge::start_with(&control_plane, "host", launch).await;
    let held = Holdings::of(&edge, &keys).await;
    proxy.cut();
    held.outlast(Instant::now()).await;
    proxy.mend();
    held.recover().await;
}

async fn control_plane() -> (ControlPlane, [String; 2]) {
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    let put = control_plane
        .app
        .policies
        .put(Context::system(), POLICIES.to_owned(), None);
    put.await.unwrap();
    let known = control_plane.api_key(&["data_analyst"], false).await;
    let stranger = control_plane.api_key(&["data_analyst"], false).await;
    (control_plane, [known, stranger])
}

/// Tokens of an edge that is going to be cut off.
struct Holdings {
    client: RestClient,
    /// Its key has never been shown to the edge.
    stranger: RestClient,
    live: Held,
    patient: Held,
    revoked: Held,
    expired: Held,
}

impl Holdings {
    async fn of(edge: &Edge, [known, stranger]: &[String; 2]) -> Self {
        let client = edge.client(known);
        let of = async |resource_type| Held::of(&client, "data_analyst", resource_type).await;
        let this = Self {
            live: of("SAP_API").await,
            patient: of("EXTERNAL_SERVICE").await,
            revoked: of("SAP_API").await,
            expired: Held::brief(&client, "data_analyst", "SAP_API").await,
            stranger: edge.client(stranger),
            client: client.clone(),
        };
        let revoke = json!({"token": this.revoked.token});
        client.call("revoke_token", revoke).await;
        becomes(&client, &this.expired, "GRANT_EXPIRED").await;
        for held in [&this.live, &this.patient] {
            assert_eq!(verdict(&held.validate(&client).await), "valid");
        }
        this
    }

    /// Everything that has to hold while nothing is heard.
    async fn outlast(&self, cut_at: Instant) {
        let stale = self.becomes_stale(cut_at).await;
        assert!(staleness(&stale) > BOUND, "{stale}");
        let (live, patient, ()) = tokio::join!(
            self.answer(&self.live),
            self.answer(&self.patient),
            self.is_still_judged(),
        );
        assert_eq!(verdict(&live), "STALE");
        assert_eq!(verdict(&patient), "valid");
        assert!(staleness(&patient) > BOUND, "{patient}");
    }

    /// Asks until the live token is not good any more, and returns that answer.
    async fn becomes_stale(&self, cut_at: Instant) -> Value {
        loop {
            let asked = cut_at.elapsed();
            let answer = self.answer(&self.live).await;
            if verdict(&answer) != "valid" {
                assert_eq!(verdict(&answer), "STALE", "{answer}");
                return answer;
            }
            assert!(staleness(&answer) <= BOUND, "{answer}");
            assert!(asked <= BOUND, "good {asked:?} after the last news");
        }
    }

    /// What is wrong with a token or a call is found without the control plane.
    async fn is_still_judged(&self) {
        let mut foreign = self.live.question();
        foreign["resource_type"] = json!("FINANCIAL_API");
        let mut forged = self.live.question();
        forged["token"] = json!(format!(
            "{}AAAA",
            &self.live.token[..self.live.token.len() - 4]
        ));
        for (question, reason) in [
            (self.revoked.question(), "GRANT_REVOKED"),
            (self.expired.question(), "GRANT_EXPIRED"),
            (foreign, "RESOURCE_MISMATCH"),
            (forged, "TOKEN_INVALID"),
        ] {
            let answer = self.client.call("validate_token", question).await;
            assert_eq!(verdict(&answer), reason, "{answer}");
        }
        let strong = self
            .client
            .try_call("validate_token", self.live.strong_question());
        let stranger = self
            .stranger
            .try_call("validate_token", self.live.question());
        let (strong, stranger) = tokio::join!(strong, stranger);
        for (status, body) in [strong, stranger] {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
            assert_eq!(body["reason"], "UNAVAILABLE", "{body}");
        }
    }

    /// One answer, which is never late.
    async fn answer(&self, held: &Held) -> Value {
        let asked_at = Instant::now();
        let answer = held.validate(&self.client).await;
        let took = asked_at.elapsed();
        assert!(took < PROMPT, "{answer} after {took:?}");
        answer
    }

    /// The control plane is there again.
    async fn recover(&self) {
        becomes(&self.client, &self.live, "valid").await;
        becomes(&self.client, &self.patient, "valid").await;
        assert_eq!(
            verdict(&self.revoked.validate(&self.client).await),
            "GRANT_REVOKED"
        );
        becomes(&self.stranger, &self.live, "valid").await;
    }
}

fn staleness(answer: &Value) -> Duration {
    Duration::from_millis(answer["staleness_ms"].as_u64().unwrap())
}
