//! Checks of tokens in this process, on one core: what the edge's verifier adds
//! to bare signature verification.

use std::{hint::black_box, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use authguardian_proto::{
    grant_token::{self, GrantClaims, KeySet, Rev},
    ids::{AgentId, GrantId, MachineId, ResourceTypeName, SigningKeyId},
    zone::Zone,
};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use edge_agent::{
    clock::{Clock, SystemClock},
    freshness::{Freshness, Proof},
    verify::{Check, Verifier},
};
use jsonwebtoken::EncodingKey;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    args::Args,
    report::{Row, Target},
    system::{AGENT, RESOURCE_TYPE},
};

/// Distinct tokens.
const TOKENS: u32 = 20_000;
/// The control plane's time when they were issued, seconds since 1970.
const ISSUED: i64 = 1_795_000_000;

/// Measures it.
pub(crate) fn rows(args: &Args) -> Result<[Row; 3]> {
    let shown = Shown::sign()?;
    let (mut bare, mut first, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds() {
        bare.push(shown.verify_bare()?);
        let verifier = shown.verifier()?;
        first.push(rate(TOKENS, shown.check_all(&verifier)?));
        seen.push(shown.check_again(&verifier, args.duration())?);
    }
    Ok([
        Row::new("bare Ed25519 verification, one core", "/s", &bare),
        Row::new("first sight of a token, one core", "/s", &first)
            .against("bare verification", &bare)
            .target(Target::AtLeast(0.85)),
        Row::new("token seen before, one core", "/s", &seen).target(Target::AtLeast(500_000.0)),
    ])
}

/// Tokens, and what it takes to check them.
struct Shown {
    tokens: Vec<String>,
    /// What was signed, and the signature, of each.
    signatures: Vec<(Vec<u8>, Vec<u8>)>,
    public_key: [u8; 32],
    agent: AgentId,
    resource_type: ResourceTypeName,
    clock: Arc<SystemClock>,
}

impl Shown {
    fn sign() -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32])?;
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?;
        let key = EncodingKey::from_ed_der(der.as_ref());
        let sign = |number| Ok(grant_token::sign(&claims(number)?, key_id(), &key)?);
        let tokens: Vec<String> = (0..TOKENS).map(sign).collect::<Result<_>>()?;
        let parts = |token: &String| {
            let (signed, signature) = token.rsplit_once('.').context("a JWT")?;
            let signature = URL_SAFE_NO_PAD.decode(signature)?;
            Ok((signed.as_bytes().to_vec(), signature))
        };
        Ok(Self {
            signatures: tokens.iter().map(parts).collect::<Result<_>>()?,
            tokens,
            public_key: pair.public_key().as_ref().try_into()?,
            agent: AGENT.parse()?,
            resource_type: RESOURCE_TYPE.parse()?,
            clock: Arc::default(),
        })
    }

    /// Verifications per second of the same bytes.
    fn verify_bare(&self) -> Result<f64> {
        let key = ParsedPublicKey::new(&ED25519, self.public_key)?;
        let began = Instant::now();
        for (signed, signature) in &self.signatures {
            key.verify_sig(black_box(signed), signature)?;
        }
        Ok(rate(TOKENS, began.elapsed()))
    }

    /// One that has the key and has seen no token.
    fn verifier(&self) -> Result<Known> {
        let freshness = Freshness::new(self.clock.clone());
        let verifier = Verifier::new(freshness.clone());
        let mut keys = KeySet::default();
        keys.insert(key_id(), &self.public_key);
        let wished = futures::FutureExt::now_or_never(verifier.keys().wished());
        let (wish, _) = wished.context("a new verifier wishes for keys")?;
        verifier.keys().take(keys, wish);
        Ok(Known {
            freshness,
            verifier,
        })
    }

    /// Shows each token once.
    fn check_all(&self, known: &Known) -> Result<Duration> {
        known.freshness.prove(Proof {
            asked_at: self.clock.since_boot(),
            server_time_ms: ISSUED * 1000,
        });
        let began = Instant::now();
        for token in &self.tokens {
            let check = known
                .verifier
                .check(black_box(token), &self.agent, &self.resource_type);
            match check {
                Check::Decided(decided) if decided.refused.is_none() => {}
                other => bail!("a good token is not good: {other:?}"),
            }
        }
        Ok(began.elapsed())
    }

    /// Checks per second of tokens that were all shown before.
    fn check_again(&self, known: &Known, duration: Duration) -> Result<f64> {
        let (mut checked, mut took) = (0, Duration::ZERO);
        while took < duration {
            took += self.check_all(known)?;
            checked += TOKENS;
        }
        Ok(rate(checked, took))
    }
}

struct Known {
    freshness: Arc<Freshness>,
    verifier: Arc<Verifier>,
}

fn rate(count: u32, took: Duration) -> f64 {
    f64::from(count) / took.as_secs_f64()
}

fn key_id() -> SigningKeyId {
    SigningKeyId::from_uuid(Uuid::from_u128(1))
}

/// As the control plane makes them.
fn claims(number: u32) -> Result<GrantClaims> {
    Ok(GrantClaims {
        iss: "spiffe://authguardian.local/control-plane".to_owned(),
        aud: RESOURCE_TYPE.parse()?,
        sub: AGENT.parse()?,
        jti: GrantId::from_uuid(Uuid::from_u128(number.into())),
        scope: None,
        restrictions: vec!["max_records:100".to_owned(), "read_only".to_owned()],
        machine: MachineId::from_uuid(Uuid::from_u128(2)),
        zone: Zone::LocalMachine,
        rev: Rev {
            epoch: 1,
            revision: number.into(),
        },
        policies: vec!["default-permit".to_owned()],
        iat: ISSUED,
        nbf: ISSUED,
        exp: ISSUED + 3600,
        // what a policy may allow: proofs are renewed between the passes only
        max_staleness: 60_000,
    })
}
