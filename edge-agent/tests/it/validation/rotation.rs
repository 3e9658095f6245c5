//! Two control planes on one database, and an edge at each: our own keys, the
//! CA among them, are rotated while clients work, and nobody notices.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use authguardian_proto::{credential::ApiKey, zone::Zone};
use control_plane::{
    audit::Context,
    identity::{KeyState, Purpose, SigningKey},
};
use futures::future::join_all;
use serde_json::json;

use super::held::{Held, becomes, verdict};
use crate::{
    ca_rotation::is_of_the_active_ca,
    edge::{Edge, RestClient},
    rig::ControlPlane,
    wait::until_async,
};

const ROTATIONS: usize = 2;
/// At each edge.
const CLIENTS: usize = 32;
/// How many tokens of old and new keys are asked about to the end.
const KEPT: usize = 16;

/// So many clients keep a small machine from answering pings in time now and
/// then, which is not what this is about.
const POLICIES: &str = r#"
@id("permit-patient")
@max_staleness("60s")
permit (principal, action == Action::"request", resource);
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_under_load_and_no_valid_token_is_refused() {
    let pair = Pair::start().await;
    let load = Load::default();
    let clients = (0..2).flat_map(|edge| (0..CLIENTS).map(move |_| edge));
    let working = join_all(clients.map(|edge| load.work(&pair, edge)));
    let logins = join_all((0..2).map(|at| load.log_in(&pair, at)));
    let rotating = async {
        for rotation in 0..ROTATIONS {
            // by each of the two in turn, with work under both the old and the new
            for purpose in Purpose::ALL {
                load.goes_on().await;
                pair.rotate(rotation % 2, purpose).await;
            }
            for (edge, plane) in pair.edges.iter().zip(&pair.planes) {
                is_of_the_active_ca(edge, plane).await;
            }
        }
        load.goes_on().await;
        load.over.store(true, Ordering::Relaxed);
    };
    tokio::join!(working, logins, rotating);

    let keys = pair.planes[0].app.identity.list_signing_keys(None).await;
    let retired = keys.unwrap();
    let retired = retired.iter().filter(|key| key.state == KeyState::Retired);
    assert_eq!(retired.count(), Purpose::ALL.len() * ROTATIONS);
    let signers = load.tokens.into_inner().unwrap();
    let mut signers: Vec<_> = signers.iter().map(kid).collect();
    signers.sort();
    signers.dedup();
    assert_eq!(signers.len(), ROTATIONS + 1, "each key has signed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_retirement_refuses_the_old_tokens_at_every_edge_and_by_strong_validation() {
    let pair = Pair::start().await;
    let old = Held::of(&pair.clients[0], "data_analyst", "SAP_API").await;
    for client in &pair.clients {
        assert_eq!(verdict(&old.validate(client).await), "valid");
    }
    let retired = pair.rotate(0, Purpose::Grant).await;
    let new = Held::of(&pair.clients[1], "data_analyst", "SAP_API").await;
    assert_eq!(kid(&old), retired.id.to_string());
    for client in &pair.clients {
        assert_eq!(verdict(&old.validate(client).await), "valid", "it lives on");
    }

    let identity = &pair.planes[1].app.identity;
    let forced = identity.retire_signing_key(Context::system(), retired.id, true);
    forced.await.unwrap();
    for client in &pair.clients {
        becomes(client, &old, "TOKEN_FOREIGN_KEY").await;
        until_async("strong validation refuses it", async || {
            let answer = client.call("validate_token", old.strong_question()).await;
            verdict(&answer) == "TOKEN_FOREIGN_KEY"
        })
        .await;
        assert_eq!(verdict(&new.validate(client).await), "valid");
        let strong = client.call("validate_token", new.strong_question()).await;
        assert_eq!(verdict(&strong), "valid");
    }
}

/// Two control planes, and an edge at each.
struct Pair {
    planes: [ControlPlane; 2],
    edges: [Edge; 2],
    clients: [RestClient; 2],
}

impl Pair {
    async fn start() -> Self {
        let first = ControlPlane::start_with(|config| {
            config.identity.key_publication_seconds = 1;
            // so that edges renew within seconds when the CA is another one
            config.identity.certificate_ttl_seconds = 600;
        })
        .await;
        let second = first.beside().await;
        first.agent("data_analyst", 800).await;
        let policies = POLICIES.to_owned();
        let put = first.app.policies.put(Context::system(), policies, None);
        put.await.unwrap();
        let key = first.api_key(&["data_analyst"], false).await;
        let edges = [
            Edge::start(&first, "host-0").await,
            Edge::start(&second, "host-1").await,
        ];
        Self {
            clients: [edges[0].client(&key), edges[1].client(&key)],
            planes: [first, second],
            edges,
        }
    }

    /// As `control-plane key rotate` does, at one of the two; returns the key
    /// of before.
    async fn rotate(&self, at: usize, purpose: Purpose) -> SigningKey {
        let identity = &self.planes[at].app.identity;
        let prepared = identity.prepare_signing_key(Context::system(), purpose);
        let prepared = prepared.await.unwrap();
        let published = async || identity.publication_seconds_left(&prepared) == 0;
        until_async("the key is published for long enough", published).await;
        let activated = identity.activate_signing_key(Context::system(), prepared.id, false);
        activated.await.unwrap().1.unwrap()
    }
}

/// What clients do until it is over.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    rounds: AtomicUsize,
    logins: AtomicUsize,
    /// The first few of each key are asked about to the end.
    tokens: Mutex<Vec<Held>>,
}

impl Load {
    /// Asks, checks at both edges and at the control planes, and renews.
    async fn work(&self, pair: &Pair, edge: usize) {
        let (here, there) = (&pair.clients[edge], &pair.clients[1 - edge]);
        while !self.over.load(Ordering::Relaxed) {
            let held = Held::of(here, "data_analyst", "SAP_API").await;
            self.keep(held.clone());
            self.is_valid(&held, here, there).await;
            let token = json!({"token": held.token});
            let renewed = there.call("renew_permission", token).await;
            let renewed = Held::told(&renewed, "data_analyst", "SAP_API");
            self.is_valid(&renewed, there, here).await;
            let kept = self.tokens.lock().unwrap().clone();
            for old in &kept {
                let answer = old.validate(here).await;
                assert_eq!(verdict(&answer), "valid", "an old one: {answer}");
            }
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn is_valid(&self, held: &Held, one: &RestClient, other: &RestClient) {
        for client in [one, other] {
            for question in [held.question(), held.strong_question()] {
                let answer = client.call("validate_token", question).await;
                assert_eq!(verdict(&answer), "valid", "{answer}: {}", kid(held));
            }
        }
    }

    fn keep(&self, held: Held) {
        let mut tokens = self.tokens.lock().unwrap();
        let signer = kid(&held);
        let of_it = tokens.iter().filter(|kept| kid(kept) == signer).count();
        if of_it < KEPT / (ROTATIONS + 1) {
            tokens.push(held);
        }
    }

    /// Logs in at one control plane and works at the other, and so do edges
    /// with keys that they have not seen before.
    async fn log_in(&self, pair: &Pair, at: usize) {
        let (here, there) = (&pair.planes[at], &pair.planes[1 - at]);
        let name = format!("host-{at}");
        let machine = here.app.identity.find_machine(&name).await.unwrap().id;
        let mut sessions = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let text = here.api_key(&["data_analyst"], false).await;
            let client = pair.edges[at].client(&text);
            Held::of(&client, "data_analyst", "SAP_API").await;

            let (key, identity): (ApiKey, _) = (text.parse().unwrap(), &here.app.identity);
            let challenge = identity.create_challenge(machine, key.id());
            let (nonce, _) = challenge.await.unwrap();
            let signature = key.sign_nonce(&nonce).unwrap();
            let (id, zone) = (key.id(), Zone::LocalMachine);
            let context = Context::system();
            let login = identity.create_session(context, machine, id, &nonce, &signature, zone);
            sessions.push(login.await.unwrap().token);
            for session in &sessions {
                for plane in [there, here] {
                    let known = plane.app.identity.authenticate(session, machine);
                    known.await.unwrap();
                }
            }
            self.logins.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until each kind of work was done some more.
    async fn goes_on(&self) {
        let counts = || {
            let (rounds, logins) = (&self.rounds, &self.logins);
            (
                rounds.load(Ordering::Relaxed),
                logins.load(Ordering::Relaxed),
            )
        };
        let (rounds, logins) = counts();
        until_async("the clients go on", async || {
            let now = counts();
            now.0 >= rounds + 2 * CLIENTS && now.1 >= logins + 2
        })
        .await;
    }
}

fn kid(held: &Held) -> String {
    let header = jsonwebtoken::decode_header(&held.token).unwrap();
    header.kid.unwrap()
}
