//! Credentials that people and programs carry, each a type whose `Debug`
//! shows its id and never its secret, wiped from memory on drop.
//!
//! | form | what |
//! |---|---|
//! | `agk_<id>_<secret>` | API key: an Ed25519 seed |
//! | `aga_<id>_<secret>` | admin token: 32 random bytes, hashed at the server |
//! | `<base64url>.<base64url>.<base64url>` | session token: a JWT of the control plane |
//! | `agt_<secret>` | stream ticket: 32 random bytes, hashed at the edge that made it |
//! | `agj_<id>_<secret>_<fingerprint>` | join token: secret, and SHA-256 of the CA certificate |

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::{Zeroizing, zeroize_stack};

use crate::{
    base62,
    grant_token::MAX_TOKEN_LEN,
    ids::{AdminTokenId, ApiKeyId, JoinTokenId, ParseIdError},
};

/// What a client signs before the nonce, so that the signature can be used
/// for nothing else; a zero byte ends it.
pub const LOGIN_CONTEXT: &[u8] = b"authguardian-login-v1\0";

/// The secret part. It stays where it was read: moving a credential leaves no
/// copy behind.
type Secret = Box<Zeroizing<[u8; 32]>>;

/// More than what computing with a secret takes of the stack.
const STACK: usize = 16 * 1024;

/// An API key: `agk_<22>_<43>`, base62.
pub struct ApiKey {
    id: ApiKeyId,
    seed: Secret,
}

/// An API key as it was presented: not looked into, wiped on drop.
pub struct PresentedKey {
    text: Zeroizing<String>,
    hash: [u8; 32],
}

impl PresentedKey {
    /// Takes the text as it came.
    pub fn new(text: &str) -> Self {
        Self {
            hash: sha256(text.as_bytes()),
            text: Zeroizing::new(text.to_owned()),
        }
    }

    /// SHA-256 of the text: tells keys apart without reading them.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The key that it names, whatever its secret; `None` when it names none.
    pub fn claims(&self) -> Option<ApiKeyId> {
        let (id, _) = self.text.strip_prefix("agk_")?.split_once('_')?;
        uuid_part(id).map(ApiKeyId::from_uuid)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it does not have the form of an API key.
    pub fn read(&self) -> Result<ApiKey, ParseIdError> {
        self.text.parse()
    }
}

/// A session token as it was presented: not verified, wiped on drop.
pub struct SessionToken(Zeroizing<String>);

impl SessionToken {
    /// Takes text that can be a session token: `None` for what has not even
    /// the form of one.
    pub fn new(text: &str) -> Option<Self> {
        let is_part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let fits = text.len() <= MAX_TOKEN_LEN
            && text.split('.').count() == 3
            && text.split('.').all(is_part);
        fits.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// SHA-256 of the text: tells tokens apart.
    pub fn hash(&self) -> [u8; 32] {
        sha256(self.0.as_bytes())
    }

    /// The API key that it names, whoever signed it; `None` when it names none.
    pub fn claims(&self) -> Option<ApiKeyId> {
        #[derive(serde::Deserialize)]
        struct Claims {
            sub: ApiKeyId,
        }
        let claims = URL_SAFE_NO_PAD.decode(self.0.split('.').nth(1)?).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        Some(claims.sub)
    }

    /// The full text; only for sending it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken")
    }
}

impl fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedKey")
    }
}

/// An admin token: `aga_<22>_<43>`, base62.
pub struct AdminToken {
    id: AdminTokenId,
    secret: Secret,
}

/// A ticket for one stream of a browser: `agt_<43>`, base62. It has no id: it lives
/// for seconds and is used once.
pub struct StreamTicket {
    secret: Secret,
}

/// A join token: `agj_<22>_<43>_<43>`, base62.
pub struct JoinToken {
    id: JoinTokenId,
    secret: Secret,
    ca_fingerprint: [u8; 32],
}

impl ApiKey {
    /// Puts a key together from its id and a fresh seed.
    pub fn new(id: ApiKeyId, seed: [u8; 32]) -> Self {
        Self {
            id,
            seed: Box::new(Zeroizing::new(seed)),
        }
    }

    /// The public part.
    pub fn id(&self) -> ApiKeyId {
        self.id
    }

    /// The Ed25519 public key, 32 bytes (RFC 8032); the server keeps no more.
    pub fn public_key(&self) -> Option<[u8; 32]> {
        public_key_of(&self.seed)
    }

    /// Signs a login nonce: Ed25519 over [`LOGIN_CONTEXT`] and the nonce.
    /// `None` only when the crypto library refuses the seed.
    pub fn sign_nonce(&self, nonce: &[u8]) -> Option<Vec<u8>> {
        let signature = self.sign(&login_message(nonce));
        zeroize_stack::<STACK>();
        signature
    }

    #[inline(never)]
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let pair = Ed25519KeyPair::from_seed_unchecked(self.seed.as_slice()).ok()?;
        Some(pair.sign(message).as_ref().to_vec())
    }

    /// The full text; only for showing it to its owner once.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "agk_{}_{}",
            base62::encode(self.id.as_uuid().as_bytes()),
            base62::encode(&self.seed)
        ))
    }
}

impl AdminToken {
    /// Puts a token together from its id and fresh random bytes.
    pub fn new(id: AdminTokenId, secret: [u8; 32]) -> Self {
        Self {
            id,
            secret: Box::new(Zeroizing::new(secret)),
        }
    }

    /// The public part.
    pub fn id(&self) -> AdminTokenId {
        self.id
    }

    /// SHA-256 of the secret, as the server keeps it.
    pub fn hash(&self) -> [u8; 32] {
        sha256(self.secret.as_slice())
    }

    /// The full text; only for showing it to its owner once.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "aga_{}_{}",
            base62::encode(self.id.as_uuid().as_bytes()),
            base62::encode(&self.secret)
        ))
    }
}

impl StreamTicket {
    /// Makes one of fresh random bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret: Box::new(Zeroizing::new(secret)),
        }
    }

    /// SHA-256 of the secret, as the edge keeps it.
    pub fn hash(&self) -> [u8; 32] {
        sha256(self.secret.as_slice())
    }

    /// The full text; only for showing it to its owner once.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("agt_{}", base62::encode(&self.secret)))
    }
}

impl JoinToken {
    /// Puts a token together.
    pub fn new(id: JoinTokenId, secret: [u8; 32], ca_fingerprint: [u8; 32]) -> Self {
        Self {
            id,
            secret: Box::new(Zeroizing::new(secret)),
            ca_fingerprint,
        }
    }

    /// The public part.
    pub fn id(&self) -> JoinTokenId {
        self.id
    }

    /// SHA-256 of the secret, as the server keeps it.
    pub fn hash(&self) -> [u8; 32] {
        sha256(self.secret.as_slice())
    }

    /// SHA-256 of the CA certificate (DER) that the server's chain must end in.
    pub fn ca_fingerprint(&self) -> [u8; 32] {
        self.ca_fingerprint
    }

    /// The full text; only for showing it to its owner once.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "agj_{}_{}_{}",
            base62::encode(self.id.as_uuid().as_bytes()),
            base62::encode(&self.secret),
            base62::encode(&self.ca_fingerprint)
        ))
    }
}

/// What [`ApiKey::sign_nonce`] signs.
pub fn login_message(nonce: &[u8]) -> Vec<u8> {
    [LOGIN_CONTEXT, nonce].concat()
}

/// SHA-256 (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

fn public_key_of(seed: &[u8; 32]) -> Option<[u8; 32]> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
    pair.public_key().as_ref().try_into().ok()
}

/// Reads a secret into its place.
#[inline(never)]
fn secret_part(text: &str) -> Option<Secret> {
    let mut secret = Secret::default();
    base62::decode_into(text, secret.as_mut_slice()).map(|()| secret)
}

fn uuid_part(text: &str) -> Option<Uuid> {
    base62::decode::<16>(text).map(Uuid::from_bytes)
}

impl FromStr for ApiKey {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parse = || {
            let (id, seed) = text.strip_prefix("agk_")?.split_once('_')?;
            Some(Self {
                id: ApiKeyId::from_uuid(uuid_part(id)?),
                seed: secret_part(seed)?,
            })
        };
        parse().ok_or(ParseIdError {
            expected: "an API key, `agk_<22 characters>_<43 characters>`",
        })
    }
}

impl FromStr for AdminToken {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parse = || {
            let (id, secret) = text.strip_prefix("aga_")?.split_once('_')?;
            Some(Self {
                id: AdminTokenId::from_uuid(uuid_part(id)?),
                secret: secret_part(secret)?,
            })
        };
        parse().ok_or(ParseIdError {
            expected: "an admin token, `aga_<22 characters>_<43 characters>`",
        })
    }
}

impl FromStr for StreamTicket {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let secret = text.strip_prefix("agt_").and_then(secret_part);
        secret.map(|secret| Self { secret }).ok_or(ParseIdError {
            expected: "a stream ticket, `agt_<43 characters>`",
        })
    }
}

impl fmt::Debug for StreamTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamTicket(redacted)")
    }
}

impl FromStr for JoinToken {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parse = || {
            let (id, rest) = text.strip_prefix("agj_")?.split_once('_')?;
            let (secret, fingerprint) = rest.split_once('_')?;
            Some(Self {
                id: JoinTokenId::from_uuid(uuid_part(id)?),
                secret: secret_part(secret)?,
                ca_fingerprint: base62::decode(fingerprint)?,
            })
        };
        parse().ok_or(ParseIdError {
            expected: "a join token, `agj_<22 characters>_<43 characters>_<43 characters>`",
        })
    }
}

macro_rules! redacted_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}, redacted)"), self.id)
            }
        }
    )*};
}

redacted_debug!(ApiKey, AdminToken, JoinToken);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_read_back_and_never_show_their_secret() {
        let key = ApiKey::new(ApiKeyId::from_uuid(Uuid::from_u128(1)), [7; 32]);
        let text = key.expose();
        let read: ApiKey = text.parse().unwrap();
        assert_eq!((read.id(), read.public_key()), (key.id(), key.public_key()));
        assert!(!format!("{key:?}").contains(text.split('_').next_back().unwrap()));

        let join = JoinToken::new(JoinTokenId::from_uuid(Uuid::from_u128(2)), [1; 32], [2; 32]);
        let read: JoinToken = join.expose().parse().unwrap();
        assert_eq!((read.hash(), read.ca_fingerprint()), (join.hash(), [2; 32]));

        let admin = AdminToken::new(AdminTokenId::from_uuid(Uuid::from_u128(3)), [1; 32]);
        let read: AdminToken = admin.expose().parse().unwrap();
        assert_eq!((read.id(), read.hash()), (admin.id(), admin.hash()));

        let ticket = StreamTicket::new([5; 32]);
        let text = ticket.expose();
        assert_eq!(text.len(), 47);
        let read: StreamTicket = text.parse().unwrap();
        assert_eq!(read.hash(), ticket.hash());
        assert!(!format!("{ticket:?}").contains(&text[4..]));
    }

    #[test]
    fn a_presented_key_names_its_id_also_with_a_wrong_secret() {
        let named = PresentedKey::new("agk_0000000000000000000001_nonsense").claims();
        assert_eq!(named.unwrap().to_string(), "apk_0000000000000000000001");
        for rubbish in ["", "agk_", "agk_1_2", "aga_0000000000000000000001_x"] {
            assert_eq!(PresentedKey::new(rubbish).claims(), None, "{rubbish}");
        }
    }

    #[test]
    fn a_session_token_names_its_key_and_never_shows_itself() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"apk_0000000000000000000001","exp":1}"#);
        let text = format!("aa.{claims}.cc");
        let token = SessionToken::new(&text).unwrap();
        assert_eq!(
            token.claims().unwrap().to_string(),
            "apk_0000000000000000000001"
        );
        assert!(!format!("{token:?}").contains(&claims));
        for rubbish in [
            "",
            "a.b",
            "a.b.c.d",
            "a..c",
            "a.b c.d",
            "agk_1_2",
            &"a".repeat(9000),
        ] {
            assert!(SessionToken::new(rubbish).is_none(), "{rubbish}");
        }
        assert_eq!(SessionToken::new("a.b.c").unwrap().claims(), None);
    }

    #[test]
    fn rubbish_is_refused() {
        for text in [
            "",
            "agk_",
            "agk__",
            "agk_a_b",
            "aga_0_0",
            "agj_0_0_0",
            "agk_\u{1F600}_x",
        ] {
            assert!(text.parse::<ApiKey>().is_err());
            assert!(text.parse::<AdminToken>().is_err());
            assert!(text.parse::<JoinToken>().is_err());
            assert!(text.parse::<StreamTicket>().is_err());
        }
    }

    #[test]
    fn a_signed_nonce_verifies_with_the_public_key_only() {
        use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
        let key = ApiKey::new(ApiKeyId::from_uuid(Uuid::from_u128(1)), [7; 32]);
        let signature = key.sign_nonce(b"nonce").unwrap();
        let public = UnparsedPublicKey::new(&ED25519, key.public_key().unwrap());
        assert!(public.verify(&login_message(b"nonce"), &signature).is_ok());
        assert!(public.verify(b"nonce", &signature).is_err());
    }
}
