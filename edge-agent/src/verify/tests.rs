use std::time::Duration;

use authguardian_proto::{
    grant_token::{GrantClaims, KeySet, sign},
    ids::SigningKeyId,
};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair},
};
use jsonwebtoken::EncodingKey;

use super::{known::tests::claims, *};
use crate::{
    clock::{Ambient, manual::ManualClock},
    freshness::Proof,
};

/// The control plane's time when the tests' claims were issued.
const ISSUED_MS: i64 = 1_000_000;

struct Bench {
    clock: Arc<ManualClock>,
    ambient: Ambient,
    verifier: Arc<Verifier>,
}

impl Bench {
    /// A verifier that knows key 1 and was told everything just now.
    fn fresh() -> Self {
        let (clock, ambient) = ManualClock::ambient();
        let verifier = Verifier::new(Freshness::new(ambient.clock.clone()));
        let bench = Self {
            clock,
            ambient,
            verifier,
        };
        bench.read_keys(&[1]);
        bench.prove(ISSUED_MS);
        bench
    }

    fn prove(&self, server_time_ms: i64) {
        self.verifier.freshness.prove(Proof {
            asked_at: self.ambient.clock.since_boot(),
            server_time_ms,
        });
    }

    fn read_keys(&self, numbers: &[u8]) {
        let mut keys = KeySet::default();
        for number in numbers {
            keys.insert(kid(*number), &key(*number).1);
        }
        let (wish, _) = futures::executor::block_on(self.verifier.keys.wished());
        self.verifier.keys.take(keys, wish);
    }

    fn check(&self, token: &str) -> Check {
        let agent = "data_analyst".parse().unwrap();
        self.verifier
            .check(token, &agent, &"SAP_API".parse().unwrap())
    }

    /// `Ok`: decided, and why it was refused if it was.
    fn decide(&self, token: &str) -> Result<Option<Reason>, Check> {
        match self.check(token) {
            Check::Decided(decided) => Ok(decided.refused),
            other => Err(other),
        }
    }
}

fn key(seed: u8) -> (EncodingKey, [u8; 32]) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    (
        EncodingKey::from_ed_der(der.as_ref()),
        pair.public_key().as_ref().try_into().unwrap(),
    )
}

fn kid(number: u8) -> SigningKeyId {
    SigningKeyId::from_uuid(uuid::Uuid::from_u128(number.into()))
}

fn signed(claims: &GrantClaims, number: u8) -> String {
    sign(claims, kid(number), &key(number).0).unwrap()
}

#[test]
fn a_good_token_is_good_the_first_time_and_the_next() {
    let bench = Bench::fresh();
    let token = signed(&claims(1), 1);
    for _ in 0..2 {
        assert_eq!(bench.decide(&token).unwrap(), None);
    }
    assert_eq!(bench.verifier.kept(), (1, 0));
}

#[test]
fn what_is_too_old_for_the_token_is_not_decided_here() {
    let bench = Bench::fresh();
    let token = signed(&claims(1), 1);
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(bench.decide(&token).unwrap(), None);
    bench.clock.advance(Duration::from_millis(1));
    assert!(matches!(bench.decide(&token), Err(Check::TooOld(_))));
    let patient = GrantClaims {
        max_staleness: 60_000,
        ..claims(1)
    };
    assert_eq!(bench.decide(&signed(&patient, 1)).unwrap(), None);
    bench.prove(ISSUED_MS + 5_000);
    assert_eq!(bench.decide(&token).unwrap(), None);
}

#[test]
fn before_the_control_plane_was_heard_nothing_is_good() {
    let (_, ambient) = ManualClock::ambient();
    let verifier = Verifier::new(Freshness::new(ambient.clock.clone()));
    let mut keys = KeySet::default();
    keys.insert(kid(1), &key(1).1);
    verifier.keys.take(keys, 1);
    let (agent, kind) = ("data_analyst".parse().unwrap(), "SAP_API".parse().unwrap());
    let token = signed(&claims(1), 1);
    assert!(matches!(
        verifier.check(&token, &agent, &kind),
        Check::TooOld(_)
    ));
}

#[test]
fn a_token_ends_by_the_control_planes_clock() {
    let bench = Bench::fresh();
    let token = signed(
        &GrantClaims {
            max_staleness: 600_000,
            ..claims(1)
        },
        1,
    );
    bench.clock.advance(Duration::from_millis(299_999));
    assert_eq!(bench.decide(&token).unwrap(), None);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.decide(&token).unwrap(), Some(Reason::GrantExpired));
}

#[test]
fn a_token_of_the_future_is_refused() {
    let bench = Bench::fresh();
    let early = GrantClaims {
        nbf: 1_031,
        ..claims(1)
    };
    assert_eq!(
        bench.decide(&signed(&early, 1)).unwrap(),
        Some(Reason::TokenInvalid)
    );
}

#[test]
fn revocations_hold_for_seen_and_unseen_tokens_and_without_fresh_knowledge() {
    let bench = Bench::fresh();
    let seen = signed(&claims(1), 1);
    assert_eq!(bench.decide(&seen).unwrap(), None);
    bench.verifier.end(claims(1).jti, Some(1_300));
    bench.clock.advance(Duration::from_mins(1));
    let renewed = GrantClaims {
        iat: 1_001,
        ..claims(1)
    };
    for token in [seen, signed(&renewed, 1)] {
        assert_eq!(bench.decide(&token).unwrap(), Some(Reason::GrantRevoked));
    }
}

#[test]
fn a_predicate_holds_for_what_was_issued_before_it() {
    let bench = Bench::fresh();
    let before = Rev {
        epoch: 1,
        revision: 5,
    };
    bench.verifier.end_matching(
        Target::Agent("data_analyst".parse().unwrap()),
        before,
        2_000,
    );
    assert_eq!(
        bench.decide(&signed(&claims(4), 1)).unwrap(),
        Some(Reason::GrantRevoked)
    );
    assert_eq!(bench.decide(&signed(&claims(6), 1)).unwrap(), None);
}

#[test]
fn another_agent_or_resource_is_told_at_once() {
    let bench = Bench::fresh();
    let token = signed(&claims(1), 1);
    bench.clock.advance(Duration::from_mins(1));
    let refused = |agent: &str, kind: &str| match bench.verifier.check(
        &token,
        &agent.parse().unwrap(),
        &kind.parse().unwrap(),
    ) {
        Check::Decided(decided) => decided.refused,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused("orchestrator", "SAP_API"),
        Some(Reason::AgentMismatch)
    );
    assert_eq!(
        refused("data_analyst", "DATA_EXPORT"),
        Some(Reason::ResourceMismatch)
    );
}

#[test]
fn an_unknown_key_and_a_forgery_are_told_apart() {
    let bench = Bench::fresh();
    let foreign = signed(&claims(1), 2);
    assert!(matches!(bench.check(&foreign), Check::UnknownKey));
    let forged = sign(&claims(1), kid(1), &key(2).0).unwrap();
    assert_eq!(bench.decide(&forged).unwrap(), Some(Reason::TokenInvalid));
    assert_eq!(bench.verifier.kept(), (0, 0), "neither is remembered");
    bench.verifier.keys_changed();
    bench.read_keys(&[1, 2]);
    assert_eq!(bench.decide(&foreign).unwrap(), None);
}

#[test]
fn tokens_of_a_key_that_is_gone_are_refused_though_they_were_seen() {
    let bench = Bench::fresh();
    let token = signed(&claims(1), 1);
    assert_eq!(bench.decide(&token).unwrap(), None);
    bench.verifier.keys_changed();
    assert!(
        matches!(bench.decide(&token), Err(Check::TooOld(_))),
        "the new keys are not read yet"
    );
    bench.read_keys(&[2]);
    assert!(matches!(bench.check(&token), Check::UnknownKey));
}

#[test]
fn memory_holds_nothing_that_has_ended() {
    let bench = Bench::fresh();
    assert_eq!(bench.decide(&signed(&claims(1), 1)).unwrap(), None);
    bench
        .verifier
        .end("grt_0000000000000000000001".parse().unwrap(), Some(1_300));
    bench
        .verifier
        .end("grt_0000000000000000000002".parse().unwrap(), None);
    bench.verifier.forget_ended();
    assert_eq!(bench.verifier.kept(), (1, 2));
    bench.clock.advance(Duration::from_mins(5));
    bench.verifier.forget_ended();
    assert_eq!(bench.verifier.kept(), (0, 1));
    bench.clock.advance(Duration::from_hours(24));
    bench.verifier.forget_ended();
    assert_eq!(bench.verifier.kept(), (0, 0));
}
