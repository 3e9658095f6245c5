//! Fuzz targets: what strangers send and this crate reads. Each runs for a
//! second, or for `BOLERO_RANDOM_TEST_TIME_MS` (`make soak`).

use std::{collections::HashSet, sync::LazyLock};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bolero::check;
use serde_json::json;
use uuid::Uuid;

use crate::{
    credential::{AdminToken, ApiKey, JoinToken, PresentedKey},
    grant_token::{GrantClaims, GrantSigner, KeySet, Rev, verify_claims, verify_signature},
    ids::{
        AdminTokenId, AgentId, ApiKeyId, GrantId, JoinTokenId, MachineId, MachineName, RequestId,
        ResourceTypeName, SessionId, SigningKeyId,
    },
    reason::Reason,
    testing::Damage,
    zone::Zone,
};

/// Tokens of a known and of an unknown key, and the set with the known one.
struct Tokens {
    good: String,
    foreign: String,
    jwks: String,
    keys: KeySet,
}

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let public: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    let mut keys = KeySet::default();
    keys.insert(kid(1), &public);
    Tokens {
        good: signed(1, 1),
        foreign: signed(2, 2),
        jwks: json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid(1).to_string(),
             "x": URL_SAFE_NO_PAD.encode(public)},
            {"kty": "RSA", "kid": "other", "n": "AQAB", "e": "AQAB"},
        ]})
        .to_string(),
        keys,
    }
});

fn kid(number: u128) -> SigningKeyId {
    SigningKeyId::from_uuid(Uuid::from_u128(number))
}

fn signed(number: u128, seed: u8) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let signer = GrantSigner::new(kid(number), der.as_ref()).unwrap();
    signer.sign(&claims()).unwrap()
}

fn claims() -> GrantClaims {
    GrantClaims {
        iss: "https://example.org".into(),
        aud: "SAP_API".parse().unwrap(),
        sub: "data_analyst".parse().unwrap(),
        jti: GrantId::from_uuid(Uuid::from_u128(5)),
        scope: Some("read:invoices".into()),
        restrictions: vec!["read_only".into()],
        machine: MachineId::from_uuid(Uuid::from_u128(6)),
        zone: Zone::LocalMachine,
        rev: Rev {
            epoch: 1,
            revision: 9,
        },
        policies: vec!["permit".into()],
        iat: 1000,
        nbf: 1000,
        exp: 1300,
        max_staleness: 5000,
    }
}

#[test]
fn only_the_very_token_that_was_signed_verifies() {
    check!().with_type().for_each(|damage: &Damage| {
        let token = damage.to_text(&TOKENS.good);
        match verify_signature(&token, &TOKENS.keys) {
            Ok(read) => assert_eq!((&token, read), (&TOKENS.good, claims())),
            Err(reason) => assert_ne!(token, TOKENS.good, "{reason}"),
        }
    });
}

#[test]
fn a_token_of_a_foreign_key_never_verifies() {
    check!().with_type().for_each(|damage: &Damage| {
        let token = damage.to_text(&TOKENS.foreign);
        let reason = verify_signature(&token, &TOKENS.keys).unwrap_err();
        assert!(matches!(
            reason,
            Reason::TokenInvalid | Reason::TokenForeignKey
        ));
    });
}

#[test]
fn signed_claims_of_any_text_are_read_or_refused() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let header = TOKENS.good.split('.').next().unwrap();
    let good = serde_json::to_string(&claims()).unwrap();
    check!().with_type().for_each(|damage: &Damage| {
        let body = URL_SAFE_NO_PAD.encode(damage.to_bytes(good.as_bytes()));
        let message = format!("{header}.{body}");
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
        let token = format!("{message}.{signature}");
        // such claims would be our own fault, and must not bring down who reads them
        if let Ok(read) = verify_signature(&token, &TOKENS.keys) {
            let now = read.iat;
            let _ = verify_claims(&read, &claims().sub, &claims().aud, now);
            let written = serde_json::to_value(&read).unwrap();
            assert_eq!(
                serde_json::from_value::<GrantClaims>(written).unwrap(),
                read
            );
        }
    });
}

#[test]
fn a_damaged_key_set_lets_no_foreign_token_in() {
    check!().with_type().for_each(|damage: &Damage| {
        let Some(keys) = KeySet::from_jwks(&damage.to_text(&TOKENS.jwks)) else {
            return;
        };
        assert!(verify_signature(&TOKENS.foreign, &keys).is_err());
        if let Ok(read) = verify_signature(&TOKENS.good, &keys) {
            assert_eq!(read, claims());
        }
    });
}

#[test]
fn a_credential_has_one_text() {
    let id = Uuid::from_u128(7);
    let api_key = ApiKey::new(ApiKeyId::from_uuid(id), [8; 32]).expose();
    let admin = AdminToken::new(AdminTokenId::from_uuid(id), [8; 32]).expose();
    let join = JoinToken::new(JoinTokenId::from_uuid(id), [8; 32], [9; 32]).expose();
    check!()
        .with_type()
        .for_each(|(damage, which): &(Damage, u8)| {
            let good = [&api_key, &admin, &join][usize::from(which % 3)];
            let text = damage.to_text(good);
            let accepted = [
                text.parse::<ApiKey>().map(|key| key.expose()),
                PresentedKey::new(&text).read().map(|key| key.expose()),
                text.parse::<AdminToken>().map(|token| token.expose()),
                text.parse::<JoinToken>().map(|token| token.expose()),
            ];
            for exposed in accepted.into_iter().flatten() {
                assert_eq!(*exposed, text);
            }
        });
}

#[test]
fn an_id_has_one_text() {
    const GOOD: [&str; 10] = [
        "grt_0000000000000000000007",
        "mch_0000000000000000000007",
        "apk_0000000000000000000007",
        "ses_0000000000000000000007",
        "key_7n42DGM5Tflk9n8mt7Fhc7",
        "data_analyst",
        "SAP_API",
        "build-7",
        "request 1",
        "",
    ];
    fn accepted<T: std::str::FromStr + ToString>(text: &str) -> Option<String> {
        text.parse::<T>().ok().map(|id| id.to_string())
    }
    check!()
        .with_type()
        .for_each(|(damage, which): &(Damage, u8)| {
            let text = damage.to_text(GOOD[usize::from(*which) % GOOD.len()]);
            let read: HashSet<String> = [
                accepted::<GrantId>(&text),
                accepted::<MachineId>(&text),
                accepted::<ApiKeyId>(&text),
                accepted::<SessionId>(&text),
                accepted::<SigningKeyId>(&text),
                accepted::<AgentId>(&text),
                accepted::<ResourceTypeName>(&text),
                accepted::<MachineName>(&text),
                accepted::<RequestId>(&text),
            ]
            .into_iter()
            .flatten()
            .collect();
            for read in read {
                assert_eq!(read, text);
                assert!(read.len() <= 512 && !read.contains('\0'), "{read:?}");
            }
        });
}
