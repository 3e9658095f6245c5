//! Renewing the certificate, whatever comes in between.

use std::{collections::BTreeSet, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use control_plane::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    edge::{Edge, Killed, Launch, asking, command, content, output},
    held::Held,
    proxy::Proxy,
    rig::ControlPlane,
    wait::{until, until_async},
};

/// From before the next key is made until the new identity is the one in use.
const STEPS: u32 = 11;

#[tokio::test]
async fn an_edge_that_is_killed_at_any_step_of_its_renewal_comes_back_as_the_same_machine() {
    let control_plane = renewing_at_once().await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let mut edge = Edge::start(&control_plane, "host").await;
    let machine = field(&edge.identity(), "machine_id");
    is_renewed(&edge, b"").await;
    let (mut left, mut certified_and_not_told) = (BTreeSet::new(), false);
    for step in 1..=STEPS {
        let killed = edge.kill().await;
        let (before, certified) = (
            content(&killed.identity()),
            public_key(&control_plane).await,
        );
        let killed = killed.run_until_step(step).await;
        let found = Left::of(&killed.identity(), &before);
        let certified = public_key(&control_plane).await != certified;
        certified_and_not_told |= certified && found == Left::ASKED;
        left.insert(found);

        let before = content(&killed.identity());
        edge = killed.run_again().await;
        assert_eq!(
            field(&edge.identity(), "machine_id"),
            machine,
            "step {step}"
        );
        let granted = edge.client(&api_key).granted().await;
        assert_eq!(granted.0["score"], 570, "step {step}");
        is_renewed(&edge, &before).await;
    }
    assert_eq!(left, Left::EACH.into(), "not every state was met");
    assert!(certified_and_not_told, "no reply was lost");
}

#[tokio::test]
async fn a_renewal_whose_reply_was_lost_is_asked_for_again_with_the_same_key() {
    let control_plane = renewing_at_once().await;
    let proxy = Proxy::to(control_plane.edge_grpc).await;
    let launch = Launch::at(&[proxy.url()]);
    let edge = Edge::start_with(&control_plane, "host", launch).await;
    let held = Held::machine(&control_plane.app.db, "host").await;
    held.is_waited_for().await;
    let asked_with = content(&beside(&edge.identity(), "pending.key"));
    let (before, certified) = (content(&edge.identity()), public_key(&control_plane).await);
    proxy.hold_answers();
    held.end().await;
    until_async("the control plane has certified the key", async || {
        public_key(&control_plane).await != certified
    })
    .await;
    proxy.hang_up();
    proxy.mend();

    until("the edge has another certificate", || {
        content(&edge.identity()) != before
    })
    .await;
    assert_eq!(field(&edge.identity(), "key"), STANDARD.encode(asked_with));
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    assert_eq!(edge.client(&api_key).granted().await.0["score"], 570);
}

#[tokio::test]
async fn an_edge_whose_certificate_has_ended_renews_it_and_goes_on() {
    let control_plane =
        ControlPlane::start_with(|config| config.identity.certificate_ttl_seconds = 1).await;
    control_plane.agent("data_analyst", 800).await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let (dir, token) = (
        tempfile::tempdir().unwrap(),
        control_plane.join_token("host"),
    );
    let (token, url) = (token.await, control_plane.url());
    let mut join = command();
    join.args(["join", "--server", &url, "--token", &token, "-o", "json"]);
    join.arg("--data-dir").arg(dir.path());
    let joined = output(join).await;
    let told: Value = serde_json::from_slice(&joined.stdout).unwrap();
    let ends = told["certificate_ends"].as_str().unwrap();
    let ends = OffsetDateTime::parse(ends, &Rfc3339).unwrap();

    let control_plane = control_plane.stop().await;
    let control_plane = control_plane.configured(|config| {
        config.identity.certificate_ttl_seconds = 86_400;
    });
    let control_plane = control_plane.start().await;
    let clock = SystemClock::default();
    until("the certificate has ended", || clock.now() > ends).await;
    let stopped = Killed::joined(dir, Launch::at(&[control_plane.url()]));
    let before = content(&stopped.identity());
    let edge = stopped.run_again().await;
    assert_ne!(content(&edge.identity()), before);
    assert_eq!(edge.client(&api_key).granted().await.0["score"], 570);
    let refused = control_plane.calls("identity.v1.EnrolmentService/Join");
    assert_eq!(refused, 0, "nobody has joined again");
}

#[tokio::test]
async fn an_edge_that_believes_no_control_plane_renews_its_certificate_nevertheless() {
    let control_plane = renewing_at_once().await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let edge = Edge::start(&control_plane, "host").await;
    let followed = edge.dir.path().join("followed.json");
    until("it is remembered what was followed", || followed.exists()).await;
    let killed = edge.kill().await;
    let mut kept: Value = serde_json::from_slice(&content(&followed)).unwrap();
    kept["behind"] = json!({"epoch": u64::MAX, "detail": "put back"});
    std::fs::write(&followed, kept.to_string()).unwrap();
    let before = content(&killed.identity());
    let edge = killed.run_unready().await;
    is_renewed(&edge, &before).await;
    let client = edge.client(&api_key);
    let (_, body) = client
        .try_call("request_permission", asking("data_analyst"))
        .await;
    assert_eq!(
        (&body["reason"], &body["detail"]),
        (&json!("UNAVAILABLE"), &json!("put back"))
    );
}

/// What was found on disk of a renewal that was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Left {
    pending_key: bool,
    next: bool,
    /// The identity in use is another one.
    promoted: bool,
}

impl Left {
    const NOTHING: Self = Self {
        pending_key: false,
        next: false,
        promoted: false,
    };
    const ASKED: Self = Self {
        pending_key: true,
        ..Self::NOTHING
    };
    const STAGED: Self = Self {
        next: true,
        ..Self::NOTHING
    };
    const EACH: [Self; 5] = [
        Self::NOTHING,
        Self::ASKED,
        Self {
            pending_key: true,
            ..Self::STAGED
        },
        Self::STAGED,
        Self {
            promoted: true,
            ..Self::NOTHING
        },
    ];

    fn of(identity: &Path, before: &[u8]) -> Self {
        Self {
            pending_key: beside(identity, "pending.key").exists(),
            next: beside(identity, "next.json").exists(),
            promoted: content(identity) != before,
        }
    }
}

/// Certificates that live so short that a renewal is due at once, and then
/// every few seconds.
async fn renewing_at_once() -> ControlPlane {
    let control_plane =
        ControlPlane::start_with(|config| config.identity.certificate_ttl_seconds = 60).await;
    control_plane.agent("data_analyst", 800).await;
    control_plane
}

/// Waits until a renewal has come to its end.
async fn is_renewed(edge: &Edge, before: &[u8]) {
    until("the certificate is renewed", || {
        let left = Left::of(&edge.identity(), before);
        left.promoted && !left.pending_key && !left.next
    })
    .await;
}

/// What the control plane certified last for the only machine.
async fn public_key(control_plane: &ControlPlane) -> Vec<u8> {
    let mut connection = control_plane.app.db.read().await.unwrap();
    sqlx::query_scalar("SELECT public_key FROM machine")
        .fetch_one(&mut *connection)
        .await
        .unwrap()
}

fn beside(identity: &Path, name: &str) -> std::path::PathBuf {
    identity.with_file_name(name)
}

fn field(identity: &Path, name: &str) -> String {
    let record: Value = serde_json::from_slice(&content(identity)).unwrap();
    record[name].as_str().unwrap().to_owned()
}
