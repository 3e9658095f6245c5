//! The public keys of grant tokens, for whoever checks them elsewhere.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::{Identity, Purpose, store};
use crate::error::Result;

impl Identity {
    /// The public keys of grant tokens as a JWK set (RFC 7517, RFC 8037), JSON
    /// text. Read from the database: who has just heard of a change asks at
    /// once, and this process may not have read its own ring again yet.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database cannot be read.
    pub async fn jwks(&self) -> Result<String> {
        let keys = store::public_keys(&mut *self.db.read().await?, Purpose::Grant).await?;
        let keys: Vec<_> = keys
            .iter()
            .filter(|key| key.counts)
            .map(|key| {
                json!({
                    "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                    "kid": key.id.to_string(), "x": URL_SAFE_NO_PAD.encode(&key.public),
                })
            })
            .collect();
        Ok(json!({ "keys": keys }).to_string())
    }
}
