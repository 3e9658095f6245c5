//! Grants and renewals that race with their revocation, ten thousand of them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use authguardian_proto::{credential::ApiKey, zone::Zone};
use control_plane::{
    audit::Context,
    events::{Position, RevocationTarget},
    identity::Session,
};
use futures::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::held::{Held, becomes, verdict};
use crate::{
    edge::{Edge, RestClient},
    rig::ControlPlane,
};

/// Their grants are ended all together.
const AGENTS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
/// Of each agent; each is answered while its agent's grants are being ended.
const REQUESTS: usize = 1_000;
/// Renewals, each at the same time as the revocation of the same grant.
const RENEWALS: usize = 1_000;
const CLIENTS: usize = 64;
/// Requests between two revocations: fewer than are under way, so that each
/// meets one.
const SPACING: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_grants_that_race_with_their_revocation_none_survives() {
    let course = Course::start().await;
    let mut requested = Vec::new();
    for agent in AGENTS {
        let (tokens, last) = course.request_and_revoke_all(agent).await;
        requested.extend(tokens.into_iter().map(|held| {
            let verdict = by_position(&held, last);
            (held, verdict)
        }));
    }
    assert_eq!(requested.len(), AGENTS.len() * REQUESTS);
    course.edge_has_heard_all().await;
    course.edge_says(&requested).await;
    course.control_plane_says(&requested).await;
    // these were judged by the edge as soon as it had answered
    let renewed = course.renew_and_revoke_each().await;
    assert!(renewed.len() >= RENEWALS);
    course.control_plane_says(&renewed).await;
}

/// What has to be said of a token, whatever has happened in between.
fn by_position(held: &Held, last: Position) -> &'static str {
    let rev = &held.claims()["rev"];
    let (epoch, revision) = (rev["epoch"].as_i64(), rev["revision"].as_i64());
    let issued = Position {
        epoch: epoch.unwrap(),
        revision: revision.unwrap(),
    };
    if issued < last {
        "GRANT_REVOKED"
    } else {
        "valid"
    }
}

struct Course {
    control_plane: ControlPlane,
    client: RestClient,
    /// For asking the control plane itself.
    session: Arc<Session>,
    _edge: Edge,
}

impl Course {
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        let agents = [&AGENTS[..], &["orchestrator"]].concat();
        for agent in &agents {
            control_plane.agent(agent, 800).await;
        }
        let key = control_plane.api_key(&agents, false).await;
        let edge = Edge::start(&control_plane, "host").await;
        Self {
            session: session(&control_plane, &key).await,
            client: edge.client(&key),
            control_plane,
            _edge: edge,
        }
    }

    /// Returns all tokens, and where the last revocation stands.
    async fn request_and_revoke_all(&self, agent: &'static str) -> (Vec<Held>, Position) {
        let (begun, issued) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let (answered, mut progress) = watch::channel(0);
        let clients = (0..CLIENTS).map(async |_| {
            while begun.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                let held = Held::of(&self.client, agent, "SAP_API").await;
                issued.lock().unwrap().push(held);
                answered.send_modify(|answered| *answered += 1);
            }
        });
        let revoking = async {
            let mut last = None;
            for next in (SPACING..REQUESTS).step_by(SPACING) {
                let reached = progress.wait_for(|answered| *answered >= next);
                reached.await.unwrap();
                last = Some(self.revoke_all(agent).await);
            }
            last.unwrap()
        };
        let (_, last) = tokio::join!(join_all(clients), revoking);
        (issued.into_inner().unwrap(), last)
    }

    async fn revoke_all(&self, agent: &str) -> Position {
        let target = RevocationTarget::Agent(agent.parse().unwrap());
        let grants = &self.control_plane.app.grants;
        let revoked = grants.revoke_matching(Context::system(), target, "");
        revoked.await.unwrap().position
    }

    /// The stream is in order: with the last revocation, the edge has all.
    async fn edge_has_heard_all(&self) {
        let marker = Held::of(&self.client, "orchestrator", "SAP_API").await;
        let id = marker.grant_id.parse().unwrap();
        let grants = &self.control_plane.app.grants;
        grants.revoke_one(Context::system(), id, "").await.unwrap();
        becomes(&self.client, &marker, "GRANT_REVOKED").await;
    }

    /// Returns all tokens, those of renewals that were granted included.
    async fn renew_and_revoke_each(&self) -> Vec<(Held, &'static str)> {
        let races = stream::iter(0..RENEWALS).map(|_| self.renew_and_revoke());
        let tokens: Vec<Vec<Held>> = races.buffer_unordered(CLIENTS).collect().await;
        let tokens = tokens.into_iter().flatten();
        tokens.map(|held| (held, "GRANT_REVOKED")).collect()
    }

    async fn renew_and_revoke(&self) -> Vec<Held> {
        let held = Held::of(&self.client, "orchestrator", "SAP_API").await;
        let token = json!({"token": held.token});
        let renewing = self.client.try_call("renew_permission", token.clone());
        let revoking = self.client.call("revoke_token", token);
        let ((_, renewal), revoked) = tokio::join!(renewing, revoking);
        assert_eq!(revoked["revoked"], true, "{revoked}");
        let mut tokens = vec![held];
        tokens.extend(renewed(&renewal));
        for held in &tokens {
            let answer = held.validate(&self.client).await;
            assert_eq!(verdict(&answer), "GRANT_REVOKED", "{answer}");
        }
        tokens
    }

    async fn edge_says(&self, tokens: &[(Held, &str)]) {
        let answers = stream::iter(tokens).map(async |(held, wanted)| {
            let answer = held.validate(&self.client).await;
            assert_eq!(verdict(&answer), *wanted, "{answer}: {held:?}");
        });
        answers.buffer_unordered(CLIENTS).collect::<()>().await;
    }

    async fn control_plane_says(&self, tokens: &[(Held, &str)]) {
        let answers = stream::iter(tokens).map(async |(held, wanted)| {
            assert_eq!(self.strong(held).await, *wanted, "{held:?}");
        });
        answers.buffer_unordered(512).collect::<()>().await;
    }

    async fn strong(&self, held: &Held) -> String {
        let claims = held.claims();
        let agent = claims["sub"].as_str().unwrap().parse().unwrap();
        let resource_type = claims["aud"].as_str().unwrap().parse().unwrap();
        let grants = &self.control_plane.app.grants;
        let checked = grants.validate(&self.session, &held.token, &agent, &resource_type);
        let refused = checked.await.unwrap().refused;
        refused.map_or("valid".to_owned(), |reason| reason.to_string())
    }
}

/// The token of a renewal, unless the revocation came first.
fn renewed(renewal: &Value) -> Option<Held> {
    if renewal["reason"] == "GRANT_REVOKED" {
        return None;
    }
    Some(Held::told(renewal, "orchestrator", "SAP_API"))
}

/// A session that the edge knows nothing of.
async fn session(control_plane: &ControlPlane, key: &str) -> Arc<Session> {
    let identity = &control_plane.app.identity;
    let key: ApiKey = key.parse().unwrap();
    let machine = identity.find_machine("host").await.unwrap().id;
    let (nonce, _) = identity.create_challenge(machine, key.id()).await.unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();
    let zone = Zone::LocalMachine;
    let context = Context::system();
    let session = identity.create_session(context, machine, key.id(), &nonce, &signature, zone);
    let token = session.await.unwrap().token;
    identity.authenticate(&token, machine).await.unwrap()
}
