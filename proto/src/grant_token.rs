//! The grant token: an EdDSA JWT (RFC 7519, RFC 8037) with `typ: grant+jwt`
//! (RFC 8725 §3.11), and everything about it that can be checked offline.

use std::collections::HashMap;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    agent_record::{AgentRecord, RECORD_TYP},
    ids::{AgentId, GrantId, MachineId, ResourceTypeName, SigningKeyId},
    reason::Reason,
    zone::Zone,
};

/// The `typ` of a grant token's header.
pub const GRANT_TYP: &str = "grant+jwt";

/// Longest token that is looked at, bytes.
pub const MAX_TOKEN_LEN: usize = 8192;

/// How far clocks of issuer and checker may differ, seconds. It only lets a
/// token begin early, never live longer.
pub const NOT_BEFORE_LEEWAY: i64 = 30;

/// A position in the `grants` stream, as tokens carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rev {
    /// Counts promotions and restores of the database.
    pub epoch: u64,
    /// Counts changes within the epoch.
    pub revision: u64,
}

/// What a grant token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantClaims {
    /// Issuer: `https://<trust domain>`.
    pub iss: String,
    /// The resource type that it is good for.
    pub aud: ResourceTypeName,
    /// The agent that holds it.
    pub sub: AgentId,
    /// The grant.
    pub jti: GrantId,
    /// What exactly; absent when none was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Obligations of the holder.
    pub restrictions: Vec<String>,
    /// The machine that it was asked through.
    pub machine: MachineId,
    /// Where the request came from.
    pub zone: Zone,
    /// Where in the `grants` stream it was issued; predicate revocations of a
    /// later position cover it.
    pub rev: Rev,
    /// Ids of the policies that determined it.
    pub policies: Vec<String>,
    /// Issued, seconds since 1970.
    pub iat: i64,
    /// Not good before, seconds since 1970.
    pub nbf: i64,
    /// Not good from then on, seconds since 1970.
    pub exp: i64,
    /// How old a checker's knowledge of revocations may be, milliseconds.
    pub max_staleness: u64,
}

/// The public keys that grant tokens are checked with, by `kid`.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: HashMap<String, DecodingKey>,
    /// The `kid`s by the first part of a token, as [`sign`] writes it: most
    /// tokens need no look into their header.
    headers: HashMap<String, String>,
}

impl KeySet {
    /// Adds a key: Ed25519 public key, 32 bytes.
    pub fn insert(&mut self, kid: SigningKeyId, public_key: &[u8; 32]) {
        self.add(kid.to_string(), DecodingKey::from_ed_der(public_key));
    }

    fn add(&mut self, kid: String, key: DecodingKey) {
        if let Ok(header) = serde_json::to_vec(&header(kid.clone())) {
            let encoded = URL_SAFE_NO_PAD.encode(header);
            self.headers.insert(encoded, kid.clone());
        }
        self.keys.insert(kid, key);
    }

    /// Reads a JWK set, taking its Ed25519 keys and passing over any other.
    /// `None` when the text is not a JWK set.
    pub fn from_jwks(json: &str) -> Option<Self> {
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(json).ok()?;
        let mut keys = Self::default();
        for jwk in &set.keys {
            if let (Some(kid), Ok(key)) = (&jwk.common.key_id, DecodingKey::from_jwk(jwk)) {
                keys.add(kid.clone(), key);
            }
        }
        Some(keys)
    }

    /// The key of a token whose first part is as [`sign`] writes it.
    fn of_usual(&self, token: &str) -> Option<&DecodingKey> {
        let (header, _) = token.split_once('.')?;
        self.keys.get(self.headers.get(header)?)
    }

    /// Reads what a token of another kind says, once it is known to be signed by
    /// the key of this `kid`; the caller has looked at its header.
    pub(crate) fn read<T: DeserializeOwned + Clone>(
        &self,
        token: &str,
        kid: &str,
    ) -> Result<T, Reason> {
        let key = self.keys.get(kid).ok_or(Reason::TokenForeignKey)?;
        jsonwebtoken::decode::<T>(token, key, &signature_only())
            .map(|data| data.claims)
            .map_err(|_| Reason::TokenInvalid)
    }

    /// Whether a key is known.
    pub fn contains(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }
}

/// Signs claims with an Ed25519 key in PKCS #8 form.
///
/// # Errors
/// When the crypto library refuses the key.
pub fn sign(
    claims: &GrantClaims,
    kid: SigningKeyId,
    key: &EncodingKey,
) -> Result<String, jsonwebtoken::errors::Error> {
    jsonwebtoken::encode(&header(kid.to_string()), claims, key)
}

/// Signs many tokens, and records of agents, with one key, which is read once.
pub struct GrantSigner {
    /// The first part of its tokens …
    header: String,
    /// … and of its records.
    record_header: String,
    pair: Ed25519KeyPair,
}

impl GrantSigner {
    /// Takes an Ed25519 key in PKCS #8 form; `None` when it is none.
    pub fn new(kid: SigningKeyId, pkcs8: &[u8]) -> Option<Self> {
        let encoded = |header: &Header| {
            let json = serde_json::to_vec(header).ok()?;
            Some(URL_SAFE_NO_PAD.encode(json))
        };
        let mut record_header = header(kid.to_string());
        record_header.typ = Some(RECORD_TYP.to_owned());
        Some(Self {
            header: encoded(&header(kid.to_string()))?,
            record_header: encoded(&record_header)?,
            pair: Ed25519KeyPair::from_pkcs8(pkcs8).ok()?,
        })
    }

    /// The token of these claims: what [`sign`] gives.
    ///
    /// # Errors
    /// When the claims cannot be written as JSON.
    pub fn sign(&self, claims: &GrantClaims) -> Result<String, serde_json::Error> {
        self.sign_as(&self.header, claims)
    }

    /// A record of an agent, signed.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn sign_record(&self, record: &AgentRecord) -> Result<String, serde_json::Error> {
        self.sign_as(&self.record_header, record)
    }

    fn sign_as(&self, header: &str, claims: &impl Serialize) -> Result<String, serde_json::Error> {
        let claims = serde_json::to_vec(claims)?;
        let mut token = String::with_capacity(header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }
}

fn header(kid: String) -> Header {
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(GRANT_TYP.to_owned());
    header.kid = Some(kid);
    header
}

/// Checks form, algorithm, type and signature; not times, agent, resource or
/// revocation.
///
/// # Errors
/// [`Reason::TokenInvalid`] for anything that is no grant token of ours,
/// [`Reason::TokenForeignKey`] when its key is not known here.
pub fn verify_signature(token: &str, keys: &KeySet) -> Result<GrantClaims, Reason> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(Reason::TokenInvalid);
    }
    if let Some(key) = keys.of_usual(token) {
        return verify_usual(token, key).ok_or(Reason::TokenInvalid);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Reason::TokenInvalid)?;
    if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(GRANT_TYP) {
        return Err(Reason::TokenInvalid);
    }
    let kid = header.kid.ok_or(Reason::TokenInvalid)?;
    keys.read(token, &kid)
}

/// A token whose header is known to be ours; its key goes with it. The same
/// outcome as the way by the header's own words, without reading them.
fn verify_usual(token: &str, key: &DecodingKey) -> Option<GrantClaims> {
    let (message, signature) = token.rsplit_once('.')?;
    let (_, claims) = message.split_once('.')?;
    let good = jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, Algorithm::EdDSA);
    if !good.is_ok_and(|good| good) {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// Checks what claims say against what is expected of them.
///
/// # Errors
/// [`Reason::GrantExpired`], [`Reason::TokenInvalid`] (not yet good),
/// [`Reason::AgentMismatch`] or [`Reason::ResourceMismatch`].
pub fn verify_claims(
    claims: &GrantClaims,
    agent: &AgentId,
    resource_type: &ResourceTypeName,
    now: i64,
) -> Result<(), Reason> {
    if claims.sub != *agent {
        return Err(Reason::AgentMismatch);
    }
    if claims.aud != *resource_type {
        return Err(Reason::ResourceMismatch);
    }
    verify_times(claims, now)
}

/// Checks a token's times, `now` in seconds since 1970.
///
/// # Errors
/// [`Reason::GrantExpired`] or [`Reason::TokenInvalid`] (not yet good).
pub fn verify_times(claims: &GrantClaims, now: i64) -> Result<(), Reason> {
    if now >= claims.exp {
        return Err(Reason::GrantExpired);
    }
    if now < claims.nbf.saturating_sub(NOT_BEFORE_LEEWAY) {
        return Err(Reason::TokenInvalid);
    }
    Ok(())
}

/// Times and audience are checked by [`verify_claims`] with the caller's clock.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::AsDer,
        signature::{Ed25519KeyPair, KeyPair},
    };
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn key(seed: u8) -> (EncodingKey, [u8; 32]) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        (
            EncodingKey::from_ed_der(der.as_ref()),
            pair.public_key().as_ref().try_into().unwrap(),
        )
    }

    fn kid(number: u128) -> SigningKeyId {
        SigningKeyId::from_uuid(Uuid::from_u128(number))
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

    fn keys() -> KeySet {
        let mut keys = KeySet::default();
        keys.insert(kid(1), &key(1).1);
        keys
    }

    #[test]
    fn a_signed_token_verifies() {
        let token = sign(&claims(), kid(1), &key(1).0).unwrap();
        assert_eq!(verify_signature(&token, &keys()), Ok(claims()));
    }

    #[test]
    fn a_kept_key_signs_the_same_token() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let signer = GrantSigner::new(kid(1), der.as_ref()).unwrap();
        let token = sign(&claims(), kid(1), &key(1).0).unwrap();
        assert_eq!(signer.sign(&claims()).unwrap(), token);
        assert!(GrantSigner::new(kid(1), b"no key").is_none());
    }

    #[test]
    fn a_foreign_key_is_told_from_a_forgery() {
        let foreign = sign(&claims(), kid(2), &key(2).0).unwrap();
        assert_eq!(
            verify_signature(&foreign, &keys()),
            Err(Reason::TokenForeignKey)
        );
        let forged = sign(&claims(), kid(1), &key(2).0).unwrap();
        assert_eq!(
            verify_signature(&forged, &keys()),
            Err(Reason::TokenInvalid)
        );
    }

    #[test]
    fn other_algorithms_and_types_are_refused() {
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims()).unwrap());
        let none = URL_SAFE_NO_PAD.encode(format!(
            r#"{{"alg":"none","typ":"grant+jwt","kid":"{}"}}"#,
            kid(1)
        ));
        for token in [
            format!("{none}.{body}."),
            format!("{none}.{body}.AAAA"),
            String::new(),
            "a.b.c".into(),
        ] {
            assert_eq!(
                verify_signature(&token, &keys()),
                Err(Reason::TokenInvalid),
                "{token}"
            );
        }

        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid(1).to_string());
        header.typ = Some("session+jwt".into());
        let session = jsonwebtoken::encode(&header, &claims(), &key(1).0).unwrap();
        assert_eq!(
            verify_signature(&session, &keys()),
            Err(Reason::TokenInvalid)
        );

        let mut hmac = Header::new(Algorithm::HS256);
        hmac.kid = Some(kid(1).to_string());
        hmac.typ = Some(GRANT_TYP.into());
        let confused =
            jsonwebtoken::encode(&hmac, &claims(), &EncodingKey::from_secret(&key(1).1)).unwrap();
        assert_eq!(
            verify_signature(&confused, &keys()),
            Err(Reason::TokenInvalid)
        );
    }

    #[test]
    fn agent_resource_and_times_are_checked() {
        let sap: ResourceTypeName = "SAP_API".parse().unwrap();
        let analyst: AgentId = "data_analyst".parse().unwrap();
        let check = |agent: &AgentId, resource, now| verify_claims(&claims(), agent, resource, now);
        assert_eq!(check(&analyst, &sap, 1000), Ok(()));
        assert_eq!(check(&analyst, &sap, 970), Ok(()));
        assert_eq!(check(&analyst, &sap, 969), Err(Reason::TokenInvalid));
        assert_eq!(check(&analyst, &sap, 1299), Ok(()));
        assert_eq!(check(&analyst, &sap, 1300), Err(Reason::GrantExpired));
        assert_eq!(
            check(&"other".parse().unwrap(), &sap, 1000),
            Err(Reason::AgentMismatch)
        );
        assert_eq!(
            check(&analyst, &"DATA_EXPORT".parse().unwrap(), 1000),
            Err(Reason::ResourceMismatch)
        );
    }

    #[test]
    fn a_jwk_set_reads_back() {
        let x = URL_SAFE_NO_PAD.encode(key(1).1);
        let jwks = format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"{}","x":"{x}"}}]}}"#,
            kid(1)
        );
        let keys = KeySet::from_jwks(&jwks).unwrap();
        let token = sign(&claims(), kid(1), &key(1).0).unwrap();
        assert_eq!(verify_signature(&token, &keys), Ok(claims()));
        assert!(KeySet::from_jwks("{}").is_none());
    }

    #[test]
    fn an_unusual_header_of_the_same_meaning_is_read_too() {
        let token = sign(&claims(), kid(1), &key(1).0).unwrap();
        assert!(keys().of_usual(&token).is_some());
        let mut header = header(kid(1).to_string());
        header.cty = Some("JWT".into());
        let unusual = jsonwebtoken::encode(&header, &claims(), &key(1).0).unwrap();
        assert!(keys().of_usual(&unusual).is_none());
        assert_eq!(verify_signature(&unusual, &keys()), Ok(claims()));
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_verifies(position in 0usize..400, byte in any::<u8>()) {
            let token = sign(&claims(), kid(1), &key(1).0).unwrap();
            let mut bytes = token.clone().into_bytes();
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Ok(changed) = String::from_utf8(bytes)
                && changed != token
            {
                // the last base64 digit carries unused bits; the decoder refuses them
                prop_assert!(verify_signature(&changed, &keys()).is_err());
            }
        }
    }
}
