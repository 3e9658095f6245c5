use std::sync::Arc;

use super::*;
use crate::{
    clock::Ambient,
    freshness::Freshness,
    neighbours::Neighbours,
    trust::testing::{Authority, DOMAIN, machine},
    verify::Verifier,
};

fn lan(ca: &Authority) -> (Lan, watch::Receiver<Vec<ServerAddress>>) {
    let ambient = Ambient::system().unwrap();
    let trust = ca.trust();
    let (servers, told) = watch::channel(Vec::new());
    let parts = LanParts {
        machine_id: machine(1),
        port: None,
        peers: Peers::new(trust.clone(), ca.machine(1)),
        trust,
        hearsay: Hearsay {
            neighbours: Neighbours::new(machine(1), DOMAIN, ambient.clock.clone()),
            verifier: Verifier::new(Freshness::new(ambient.clock.clone())),
            ambient,
        },
        servers,
    };
    (Lan::new(parts), told)
}

fn found(name: &str, address: &str, announcement: Announcement) -> News {
    News::Found(Found {
        name: name.to_owned(),
        announcement,
        addresses: vec![address.parse().unwrap()],
    })
}

fn texts(told: &watch::Receiver<Vec<ServerAddress>>) -> Vec<String> {
    told.borrow().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn control_planes_of_our_cas_are_known_until_they_leave_and_no_others_are() {
    let (ca, other) = (Authority::new(), Authority::new());
    let (mut lan, told) = lan(&ca);
    let server = |ca: &Authority| Announcement::ControlPlane {
        ca_fingerprint: authguardian_proto::credential::sha256(&ca.certificate),
    };
    lan.hear(found("theirs", "10.0.0.9:3004", server(&other)));
    assert!(told.borrow().is_empty());
    lan.hear(found("ours", "10.0.0.1:3004", server(&ca)));
    lan.hear(found("second", "10.0.0.2:3004", server(&ca)));
    assert_eq!(
        texts(&told),
        ["https://10.0.0.1:3004", "https://10.0.0.2:3004"]
    );
    lan.hear(found("ours", "10.0.0.1:3004", server(&other)));
    assert_eq!(texts(&told), ["https://10.0.0.2:3004"]);
    lan.hear(News::Lost("second".to_owned()));
    assert!(told.borrow().is_empty());
    for number in 0..2 * MAX_SERVERS {
        lan.hear(found(&format!("{number}"), "10.0.0.3:3004", server(&ca)));
    }
    assert_eq!(told.borrow().len(), MAX_SERVERS);
}

#[tokio::test]
async fn other_edges_are_asked_and_this_one_is_not() {
    let (mut lan, _told) = lan(&Authority::new());
    let edge = |number| Announcement::Edge {
        machine: machine(number),
        records: 1,
    };
    lan.hear(found("own", "10.0.0.1:3005", edge(1)));
    lan.hear(found("other", "10.0.0.2:3005", edge(2)));
    let (name, candidate) = lan.candidates.next(Duration::ZERO).unwrap();
    assert_eq!((name.as_str(), candidate.machine()), ("other", machine(2)));
    assert!(lan.candidates.next(Duration::ZERO).is_none());
}

#[tokio::test]
async fn an_edge_that_is_not_there_is_not_heard() {
    let (lan, _told) = lan(&Authority::new());
    let address = "127.0.0.1:1".parse().unwrap();
    let candidate = Candidate::new(machine(2), 1, vec![address]);
    let asked = ask_named(lan.parts.clone(), "x".to_owned(), candidate).await;
    assert_eq!(asked, ("x".to_owned(), false));
    let neighbours: &Arc<Neighbours> = &lan.parts.hearsay.neighbours;
    assert_eq!(neighbours.kept(), (0, 0));
}
