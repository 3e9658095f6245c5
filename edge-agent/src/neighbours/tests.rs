use std::collections::BTreeMap;

use authguardian_proto::{grant_token::GrantSigner, ids::SigningKeyId, zone::Zone};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair},
};
use uuid::Uuid;

use super::*;
use crate::clock::manual::ManualClock;

/// The control plane's time in these tests.
const NOW: i64 = 10_000;

fn machine(number: u128) -> MachineId {
    MachineId::from_uuid(Uuid::from_u128(number))
}

fn signer(seed: u8) -> (GrantSigner, KeySet) {
    let kid = SigningKeyId::from_uuid(Uuid::from_u128(seed.into()));
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let mut keys = KeySet::default();
    keys.insert(kid, pair.public_key().as_ref().try_into().unwrap());
    (GrantSigner::new(kid, der.as_ref()).unwrap(), keys)
}

fn record(agent: &str, at: u128, epoch: u64) -> AgentRecord {
    AgentRecord {
        iss: "https://example.org".into(),
        sub: agent.parse().unwrap(),
        machine: machine(at),
        epoch,
        capabilities: vec!["finance.invoices@1.2".parse().unwrap()],
        labels: BTreeMap::from([("region".into(), "eu".into())]),
        trust: 800,
        zone: Zone::LocalMachine,
        endpoint: None,
        peer_address: None,
        iat: NOW,
        exp: NOW + 3600,
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    neighbours: Arc<Neighbours>,
    signer: GrantSigner,
    keys: KeySet,
}

impl Bench {
    /// At machine 1.
    fn new() -> Self {
        let (clock, ambient) = ManualClock::ambient();
        let (signer, keys) = signer(1);
        Self {
            clock,
            neighbours: Neighbours::new(machine(1), "example.org", ambient.clock),
            signer,
            keys,
        }
    }

    fn take(&self, record: &AgentRecord) -> Result<(), Refused> {
        let text = self.signer.sign_record(record).unwrap();
        self.take_as(record.machine, &text)
    }

    fn take_as(&self, machine: MachineId, text: &str) -> Result<(), Refused> {
        self.neighbours
            .take(machine, text, Source::Gossip, &self.keys, NOW)
            .map(|_| ())
    }

    fn names(&self, query: &Query) -> Vec<String> {
        let found = self.neighbours.find(query, NOW).into_iter();
        found.map(|one| one.record.sub.to_string()).collect()
    }

    fn all(&self) -> Vec<String> {
        self.names(&Query::default())
    }

    fn only(&self) -> Neighbour {
        let mut found = self.neighbours.find(&Query::default(), NOW);
        assert_eq!(found.len(), 1);
        found.remove(0)
    }
}

#[test]
fn what_the_control_plane_has_not_signed_for_that_machine_is_refused() {
    let bench = Bench::new();
    let good = record("analyst", 2, 5);
    let (other, _) = signer(2);
    let foreign_key = other.sign_record(&good).unwrap();
    let taken = bench.take_as(machine(2), &foreign_key);
    assert_eq!(taken, Err(Refused::UnknownKey));

    let text = bench.signer.sign_record(&good).unwrap();
    let mut forged = text.clone();
    forged.insert(forged.len() / 2, 'A');
    for forged in [forged.as_str(), "", "a.b.c"] {
        assert_eq!(bench.take_as(machine(2), forged), Err(Refused::Forged));
    }
    assert_eq!(bench.take_as(machine(3), &text), Err(Refused::OtherMachine));
    assert_eq!(bench.take(&record("analyst", 1, 5)), Err(Refused::Own));
    let elsewhere = AgentRecord {
        iss: "https://example.com".into(),
        ..good.clone()
    };
    assert_eq!(bench.take(&elsewhere), Err(Refused::Forged));
    let ended = AgentRecord {
        exp: NOW,
        ..good.clone()
    };
    assert_eq!(bench.take(&ended), Err(Refused::Expired));
    assert_eq!(bench.neighbours.kept(), (0, 0));
    assert_eq!(bench.take(&good), Ok(()));
}

#[test]
fn a_later_registration_counts_wherever_it_is_and_an_earlier_one_does_not_come_back() {
    let bench = Bench::new();
    bench.take(&record("analyst", 2, 5)).unwrap();
    bench.take(&record("analyst", 3, 6)).unwrap();
    assert_eq!(bench.only().record.machine, machine(3));
    let earlier = bench.take(&record("analyst", 2, 5));
    assert_eq!(earlier, Err(Refused::Superseded));
    let stale = AgentRecord {
        iat: NOW - 1,
        ..record("analyst", 3, 6)
    };
    assert_eq!(bench.take(&stale), Err(Refused::Superseded));
}

#[test]
fn what_the_registry_has_ended_is_not_taken_again() {
    let bench = Bench::new();
    bench.take(&record("analyst", 2, 5)).unwrap();
    bench.neighbours.drop_agent(&"analyst".parse().unwrap(), 5);
    assert!(bench.all().is_empty());
    assert_eq!(bench.take(&record("analyst", 2, 5)), Err(Refused::Ended));
    bench.neighbours.drop_agent(&"analyst".parse().unwrap(), 3);
    assert_eq!(bench.take(&record("analyst", 2, 4)), Err(Refused::Ended));
    bench.take(&record("analyst", 2, 6)).unwrap();
    bench.neighbours.drop_agent(&"analyst".parse().unwrap(), 5);
    assert_eq!(bench.all(), ["analyst"], "a later one is not meant");
}

#[test]
fn a_silent_machine_is_suspect_then_gone_and_lives_when_it_is_heard_again() {
    let bench = Bench::new();
    bench.take(&record("analyst", 2, 5)).unwrap();
    assert_eq!(bench.only().liveness, Liveness::Suspect, "only told of");
    bench.neighbours.heard(machine(2), Source::Mdns);
    assert_eq!(bench.only().liveness, Liveness::Live);
    assert_eq!(bench.only().source, Source::Mdns);
    bench.clock.advance(Duration::from_secs(15));
    assert_eq!(bench.only().liveness, Liveness::Suspect);
    assert_eq!(bench.only().age, Duration::from_secs(15));
    bench.clock.advance(Duration::from_secs(45));
    assert_eq!(bench.only().liveness, Liveness::Gone);
    bench.neighbours.heard(machine(2), Source::Gossip);
    assert_eq!(bench.only().liveness, Liveness::Live);
    bench.neighbours.set_timing(Timing {
        suspect_after: Duration::from_millis(100),
        gone_after: Duration::from_millis(300),
    });
    bench.clock.advance(Duration::from_millis(100));
    assert_eq!(bench.only().liveness, Liveness::Suspect);
}

#[test]
fn a_machine_says_which_of_its_agents_are_there_still_and_a_banned_one_has_none() {
    let bench = Bench::new();
    for agent in ["a", "b", "c"] {
        bench.take(&record(agent, 2, 5)).unwrap();
    }
    bench.take(&record("d", 3, 5)).unwrap();
    let still = HashSet::from(["b".parse().unwrap()]);
    bench.neighbours.keep_only(machine(2), &still);
    assert_eq!(bench.all(), ["b", "d"]);
    bench.neighbours.drop_machine(machine(2));
    assert_eq!(bench.all(), ["d"]);
    assert_eq!(bench.neighbours.kept(), (1, 1));
}

#[test]
fn everything_that_is_asked_for_has_to_fit_and_the_best_come_first() {
    let bench = Bench::new();
    let with = |agent: &str, at, trust, capability: &str| AgentRecord {
        trust,
        capabilities: vec![capability.parse().unwrap()],
        labels: BTreeMap::from([("region".into(), agent.into())]),
        ..record(agent, at, 5)
    };
    for record in [
        with("a", 2, 300, "finance.invoices@1.2"),
        with("b", 2, 900, "finance.payments"),
        with("c", 3, 950, "finance.invoices@2.0"),
    ] {
        bench.take(&record).unwrap();
    }
    bench.neighbours.heard(machine(2), Source::Gossip);
    assert_eq!(bench.all(), ["b", "a", "c"], "c is suspect");
    let capability = |text: &str| {
        let capability = Some(text.parse().unwrap());
        bench.names(&Query {
            capability,
            ..Query::default()
        })
    };
    assert_eq!(capability("finance.*"), ["b", "a", "c"]);
    assert_eq!(capability("finance.invoices"), ["a", "c"]);
    assert_eq!(capability("finance.invoices@1.*"), ["a"]);
    let all = Query::default;
    let few: [(Query, &[&str]); 6] = [
        (
            Query {
                min_trust: 900,
                ..all()
            },
            &["b", "c"],
        ),
        (
            Query {
                zone: Some(Zone::External),
                ..all()
            },
            &[],
        ),
        (
            Query {
                machine: Some(machine(3)),
                ..all()
            },
            &["c"],
        ),
        (
            Query {
                worst_liveness: Liveness::Live,
                ..all()
            },
            &["b", "a"],
        ),
        (
            Query {
                labels: BTreeMap::from([("region".into(), "a".into())]),
                ..all()
            },
            &["a"],
        ),
        (
            Query {
                agents: Some(HashSet::from(["c".parse().unwrap()])),
                ..all()
            },
            &["c"],
        ),
    ];
    for (query, expected) in few {
        assert_eq!(bench.names(&query), expected, "{query:?}");
    }
    let past = bench.neighbours.find(&all(), NOW + 3600);
    assert!(past.is_empty(), "their time is over");
}

#[test]
fn one_machine_has_only_so_many_records() {
    let bench = Bench::new();
    for number in 0..MAX_RECORDS_OF_MACHINE {
        bench.take(&record(&format!("a{number}"), 2, 5)).unwrap();
    }
    assert_eq!(bench.take(&record("more", 2, 5)), Err(Refused::Full));
    assert_eq!(bench.take(&record("a0", 2, 6)), Ok(()), "in its place");
    assert_eq!(bench.take(&record("more", 3, 5)), Ok(()));
}

#[test]
fn what_has_ended_leaves_nothing_behind() {
    let bench = Bench::new();
    bench.take(&record("a", 2, 5)).unwrap();
    let longer = AgentRecord {
        exp: NOW + 7200,
        ..record("b", 3, 5)
    };
    bench.take(&longer).unwrap();
    bench.neighbours.heard(machine(4), Source::Gossip);
    bench.neighbours.forget_ended(NOW + 3600);
    assert_eq!(bench.all(), ["b"]);
    assert_eq!(bench.neighbours.kept(), (2, 1), "machine 4 was just heard");
    bench.clock.advance(Duration::from_mins(1));
    bench.neighbours.forget_ended(NOW + 7200);
    assert_eq!(bench.neighbours.kept(), (0, 0));
    assert_eq!(bench.neighbours.state().table.bytes(), 0);
}
