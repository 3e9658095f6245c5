use std::{collections::BTreeMap, net::SocketAddr};

use authguardian_proto::{
    agent_record::AgentRecord,
    grant_token::{GrantSigner, KeySet},
    ids::SigningKeyId,
    liveness::Liveness,
    zone::Zone,
};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair},
};
use http_body_util::Full;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::{
    clock::Ambient,
    config::Socket,
    core::{GossipParts, Hearsay},
    faces::{Server, Users},
    freshness::Freshness,
    neighbours::Query,
    peers::{PeerError, Peers},
    trust::{
        PeerAddress,
        testing::{Authority, DOMAIN, machine},
    },
    verify::Verifier,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// What the control plane signs with.
struct ControlPlane {
    signer: GrantSigner,
    keys: KeySet,
}

impl ControlPlane {
    fn new(seed: u8) -> Self {
        let kid = SigningKeyId::from_uuid(Uuid::from_u128(seed.into()));
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let mut keys = KeySet::default();
        keys.insert(kid, pair.public_key().as_ref().try_into().unwrap());
        Self {
            signer: GrantSigner::new(kid, der.as_ref()).unwrap(),
            keys,
        }
    }

    fn record(&self, agent: &str, at: u128, epoch: u64) -> Arc<str> {
        let now = Ambient::system().unwrap().clock.now().unix_timestamp();
        let record = AgentRecord {
            iss: format!("https://{DOMAIN}"),
            sub: agent.parse().unwrap(),
            machine: machine(at),
            epoch,
            capabilities: vec!["finance.invoices".parse().unwrap()],
            labels: BTreeMap::new(),
            trust: 800,
            zone: Zone::LocalMachine,
            endpoint: None,
            peer_address: None,
            iat: now,
            exp: now + 600,
        };
        self.signer.sign_record(&record).unwrap().into()
    }
}

/// An edge's listener for others.
struct Edge {
    address: SocketAddr,
    trust: Arc<Trust>,
    peers: Peers,
    neighbours: Arc<Neighbours>,
    gossip: Arc<Gossip>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Edge {
    async fn start(ca: &Authority, control_plane: &ControlPlane, number: u128) -> Self {
        let ambient = Ambient::system().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trust, own) = (ca.trust(), ca.machine(number));
        let neighbours = Neighbours::new(machine(number), DOMAIN, ambient.clock.clone());
        let verifier = Verifier::new(Freshness::new(ambient.clock.clone()));
        let (wish, _) = verifier.keys().wished().await;
        let mut keys = KeySet::default();
        keys.clone_from(&control_plane.keys);
        verifier.keys().take(keys, wish);
        let peers = Peers::new(trust.clone(), own.clone());
        let gossip = Gossip::new(GossipParts {
            machine_id: machine(number),
            certificate: own.clone(),
            advertised: address.into(),
            interval: Duration::from_millis(50),
            max_machines: 16,
            trust: trust.clone(),
            peers: peers.clone(),
            hearsay: Hearsay {
                neighbours: neighbours.clone(),
                verifier,
                ambient: ambient.clone(),
            },
        });
        let face = PeerFace {
            machine_id: machine(number),
            neighbours: neighbours.clone(),
            trust: trust.clone(),
            gossip: Some(gossip.clone()),
        };
        let config = Config::default();
        let stop = CancellationToken::new();
        let server = Server::new(
            peer_router(face, &config, Router::new()),
            &config.limits,
            Users::new(&Socket::default()).unwrap(),
            ambient.clock,
            stop.clone(),
        );
        let mut tasks = JoinSet::new();
        let serving = server.peers(listener, own, trust.clone());
        tasks.spawn(async move { serving.await.unwrap() });
        Self {
            address,
            trust,
            peers,
            neighbours,
            gossip,
            stop,
            tasks,
        }
    }

    fn begin_gossip(&mut self, seeds: &[&Self]) {
        let seeds = seeds.iter().map(|edge| (edge.address.into(), None));
        self.gossip.set_seeds(seeds.collect());
        let running = self.gossip.clone().run(self.stop.clone());
        self.tasks.spawn(running);
    }

    fn found(&self) -> Vec<(String, Liveness)> {
        let now = Ambient::system().unwrap().clock.now().unix_timestamp();
        let found = self.neighbours.find(&Query::default(), now).into_iter();
        found
            .map(|one| (one.record.sub.to_string(), one.liveness))
            .collect()
    }

    async fn finds(&self, wanted: &[(&str, Liveness)]) {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(agent, liveness)| ((*agent).to_owned(), *liveness))
            .collect();
        let finding = async {
            while self.found() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, finding).await;
        assert!(in_time.is_ok(), "{:?} instead of {wanted:?}", self.found());
    }
}

fn get(path: &'static str) -> axum::http::Request<Full<Bytes>> {
    let mut request = axum::http::Request::new(Full::default());
    *request.uri_mut() = axum::http::Uri::from_static(path);
    request
}

fn post_gossip(body: Vec<u8>) -> axum::http::Request<Full<Bytes>> {
    let mut request = axum::http::Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = axum::http::Method::POST;
    *request.uri_mut() = axum::http::Uri::from_static("/gossip");
    request
}

#[tokio::test]
async fn a_machine_reads_the_records_of_another() {
    let (ca, control_plane) = (Authority::new(), ControlPlane::new(1));
    let there = Edge::start(&ca, &control_plane, 2).await;
    let record = control_plane.record("analyst", 2, 1);
    there.neighbours.tell(vec![record.clone()]);
    let caller = Peers::new(ca.trust(), ca.machine(1));
    let address: PeerAddress = there.address.into();
    for expected in [None, Some(machine(2))] {
        let answer = caller.call(&address, expected, get("/records"), PATIENCE);
        let answer = answer.await.unwrap();
        assert_eq!(answer.machine, machine(2));
        let body = answer.bytes(100_000, PATIENCE).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["machine_id"], machine(2).to_string());
        assert_eq!(body["records"][0], *record);
    }
    let answer = caller.call(&address, None, get("/records"), PATIENCE);
    let too_long = answer.await.unwrap().bytes(10, PATIENCE).await;
    assert!(matches!(too_long, Err(PeerError::Body(_))));
}

#[tokio::test]
async fn another_machine_than_the_expected_one_is_told_nothing() {
    let (ca, control_plane) = (Authority::new(), ControlPlane::new(1));
    let there = Edge::start(&ca, &control_plane, 2).await;
    let caller = Peers::new(ca.trust(), ca.machine(1));
    let address: PeerAddress = there.address.into();
    let wrong = caller.call(&address, Some(machine(3)), get("/records"), PATIENCE);
    let Err(PeerError::Failed {
        cause, is_unsent, ..
    }) = wrong.await
    else {
        panic!("it was called");
    };
    assert!(
        is_unsent && cause.contains(&machine(3).to_string()),
        "{cause}"
    );
}

#[tokio::test]
async fn nobody_without_a_certificate_of_our_machines_gets_in() {
    let (ca, other) = (Authority::new(), Authority::new());
    let there = Edge::start(&ca, &ControlPlane::new(1), 2).await;
    let address: PeerAddress = there.address.into();
    // of another CA, though it trusts ours
    let foreign = Peers::new(ca.trust(), other.machine(1));
    assert!(
        foreign
            .call(&address, None, get("/records"), PATIENCE)
            .await
            .is_err()
    );
    // our CA's, but not a machine's
    let admin = ca.certify(&["spiffe://example.org/admin/x".to_owned()]);
    let admin = Arc::new(arc_swap::ArcSwap::from_pointee(admin));
    let admin = Peers::new(ca.trust(), admin);
    assert!(
        admin
            .call(&address, None, get("/records"), PATIENCE)
            .await
            .is_err()
    );
    // none at all
    let plain = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let url = format!("https://{}/records", there.address);
    assert!(plain.get(url).send().await.is_err());
    // a server of another CA is not spoken to either
    let deceived = Peers::new(other.trust(), other.machine(1));
    assert!(
        deceived
            .call(&address, None, get("/records"), PATIENCE)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_banned_machine_is_refused_also_on_a_connection_of_before() {
    let ca = Authority::new();
    let there = Edge::start(&ca, &ControlPlane::new(1), 2).await;
    let address: PeerAddress = there.address.into();
    let caller = Peers::new(ca.trust(), ca.machine(1));
    let answer = caller.call(&address, None, get("/records"), PATIENCE).await;
    let answer = answer.unwrap().bytes(100_000, PATIENCE).await;
    assert!(answer.is_ok(), "and the connection is kept");
    there.trust.refuse(machine(1), Reason::MachineBanned);
    let answer = caller.call(&address, None, get("/records"), PATIENCE).await;
    let answer = answer.unwrap();
    assert_eq!(answer.response.status(), 403);
    let body = answer.bytes(100_000, PATIENCE).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("MACHINE_BANNED"));
    let anew = Peers::new(ca.trust(), ca.machine(1));
    assert!(
        anew.call(&address, None, get("/records"), PATIENCE)
            .await
            .is_err()
    );
    // and where it is the one to be called
    there.trust.refuse(machine(3), Reason::MachineBanned);
    let refused = there
        .peers
        .call(&address, Some(machine(3)), get("/records"), PATIENCE);
    assert!(matches!(refused.await, Err(PeerError::Refused { .. })));
}

#[tokio::test]
async fn what_is_no_message_of_gossip_is_refused_and_counted() {
    let ca = Authority::new();
    let there = Edge::start(&ca, &ControlPlane::new(1), 2).await;
    let address: PeerAddress = there.address.into();
    let caller = Peers::new(ca.trust(), ca.machine(1));
    let status = async |body: Vec<u8>| {
        let answer = caller
            .call(&address, None, post_gossip(body), PATIENCE)
            .await;
        answer.unwrap().response.status().as_u16()
    };
    for junk in [
        &b""[..],
        b"junk",
        b"[1]",
        b"{\"news\": [{}]}",
        b"{\"x\": 1}",
    ] {
        assert_eq!(status(junk.to_vec()).await, 400, "{junk:?}");
    }
    assert_eq!(there.gossip.refused(), 5);
    assert_eq!(status(vec![b' '; MAX_MESSAGE + 1]).await, 413);
    assert_eq!(status(b"{}".to_vec()).await, 200);
}

#[tokio::test]
async fn agents_are_found_through_a_third_edge_and_go_with_their_own() {
    let (ca, control_plane) = (Authority::new(), ControlPlane::new(1));
    let mut edges = Vec::new();
    for number in 1..=3 {
        edges.push(Edge::start(&ca, &control_plane, number).await);
    }
    let [mut first, mut middle, mut last] = <[Edge; 3]>::try_from(edges).ok().unwrap();
    for edge in [&first, &middle, &last] {
        edge.neighbours.set_timing(crate::neighbours::Timing {
            suspect_after: Duration::from_millis(600),
            gone_after: Duration::from_millis(1200),
        });
    }
    first
        .neighbours
        .tell(vec![control_plane.record("analyst", 1, 1)]);
    // first and last know the one in the middle only
    middle.begin_gossip(&[]);
    first.begin_gossip(&[&middle]);
    last.begin_gossip(&[&middle]);
    last.finds(&[("analyst", Liveness::Live)]).await;
    middle.finds(&[("analyst", Liveness::Live)]).await;

    let more = vec![
        control_plane.record("analyst", 1, 1),
        control_plane.record("broker", 1, 2),
    ];
    first.neighbours.tell(more);
    last.finds(&[("analyst", Liveness::Live), ("broker", Liveness::Live)])
        .await;
    first
        .neighbours
        .tell(vec![control_plane.record("broker", 1, 2)]);
    last.finds(&[("broker", Liveness::Live)]).await;

    first.stop.cancel();
    first.tasks.shutdown().await;
    last.finds(&[("broker", Liveness::Suspect)]).await;
    last.finds(&[("broker", Liveness::Gone)]).await;
    middle.finds(&[("broker", Liveness::Gone)]).await;
}

#[tokio::test]
async fn a_record_that_the_control_plane_has_not_signed_goes_no_further() {
    let (ca, control_plane) = (Authority::new(), ControlPlane::new(1));
    let mut liar = Edge::start(&ca, &control_plane, 1).await;
    let honest = Edge::start(&ca, &control_plane, 2).await;
    let forger = ControlPlane::new(9);
    // one with a key of its own, and one that is of another machine
    for record in [
        forger.record("analyst", 1, 1),
        control_plane.record("analyst", 3, 1),
    ] {
        let before = honest.gossip.refused();
        liar.neighbours.tell(vec![record]);
        liar.begin_gossip(&[&honest]);
        let refusing = async {
            while honest.gossip.refused() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refusing).await.unwrap();
        assert_eq!(honest.found(), []);
        assert_eq!(honest.neighbours.kept(), (0, 0));
    }
}
