//! What the registry says of an agent, signed and with an end: an EdDSA JWT
//! (RFC 7519, RFC 8037) with `typ: agent-record+jwt` (RFC 8725 §3.11). Edges take
//! it from each other while the control plane is away, whoever brings it.

use std::collections::BTreeMap;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

use crate::{
    capability::Capability,
    endpoint::Endpoint,
    grant_token::{KeySet, NOT_BEFORE_LEEWAY},
    ids::{AgentId, MachineId},
    reason::Reason,
    zone::Zone,
};

/// The `typ` of a record's header.
pub const RECORD_TYP: &str = "agent-record+jwt";

/// Longest record that is looked at, bytes: room for every bound of a
/// registration.
pub const MAX_RECORD_LEN: usize = 64 * 1024;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Issuer: `https://<trust domain>`.
    pub iss: String,
    /// The agent.
    pub sub: AgentId,
    /// Where it is.
    pub machine: MachineId,
    /// Which registration of it: a higher one replaces this.
    pub epoch: u64,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// For choosing among agents.
    pub labels: BTreeMap<String, String>,
    /// How far it is trusted, 0 to 1000.
    pub trust: u32,
    /// Where it was registered from.
    pub zone: Zone,
    /// Its MCP server, as its own machine reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// `host:port` at which edges of other machines reach its edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// Issued, seconds since 1970. Of two records of one epoch the later one counts.
    pub iat: i64,
    /// Says nothing from then on, seconds since 1970.
    pub exp: i64,
}

/// Checks form, algorithm, type, signature and times, `now` in seconds since
/// 1970.
///
/// # Errors
/// [`Reason::TokenInvalid`] for anything that is no record of ours,
/// [`Reason::TokenForeignKey`] when its key is not known here,
/// [`Reason::GrantExpired`] when its time is over.
pub fn verify(record: &str, keys: &KeySet, now: i64) -> Result<AgentRecord, Reason> {
    if record.len() > MAX_RECORD_LEN {
        return Err(Reason::TokenInvalid);
    }
    let header = jsonwebtoken::decode_header(record).map_err(|_| Reason::TokenInvalid)?;
    if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(RECORD_TYP) {
        return Err(Reason::TokenInvalid);
    }
    let kid = header.kid.ok_or(Reason::TokenInvalid)?;
    let read: AgentRecord = keys.read(record, &kid)?;
    if now >= read.exp {
        return Err(Reason::GrantExpired);
    }
    if now < read.iat.saturating_sub(NOT_BEFORE_LEEWAY) {
        return Err(Reason::TokenInvalid);
    }
    Ok(read)
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
    use crate::{
        grant_token::{GrantSigner, verify_signature},
        ids::SigningKeyId,
    };

    fn kid() -> SigningKeyId {
        SigningKeyId::from_uuid(Uuid::from_u128(1))
    }

    fn signer(seed: u8) -> (GrantSigner, KeySet) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let mut keys = KeySet::default();
        keys.insert(kid(), pair.public_key().as_ref().try_into().unwrap());
        (GrantSigner::new(kid(), der.as_ref()).unwrap(), keys)
    }

    fn record() -> AgentRecord {
        AgentRecord {
            iss: "https://example.org".into(),
            sub: "data_analyst".parse().unwrap(),
            machine: MachineId::from_uuid(Uuid::from_u128(6)),
            epoch: 7,
            capabilities: vec!["finance.invoices@1.2".parse().unwrap()],
            labels: BTreeMap::from([("region".into(), "eu".into())]),
            trust: 800,
            zone: Zone::LocalMachine,
            endpoint: Some("http://127.0.0.1:8000/mcp".parse().unwrap()),
            peer_address: None,
            iat: 1000,
            exp: 4600,
        }
    }

    #[test]
    fn a_signed_record_verifies_until_it_ends() {
        let (signer, keys) = signer(1);
        let text = signer.sign_record(&record()).unwrap();
        assert_eq!(verify(&text, &keys, 1000), Ok(record()));
        assert_eq!(verify(&text, &keys, 970), Ok(record()));
        assert_eq!(verify(&text, &keys, 969), Err(Reason::TokenInvalid));
        assert_eq!(verify(&text, &keys, 4600), Err(Reason::GrantExpired));
    }

    #[test]
    fn a_record_of_another_key_or_kind_is_refused() {
        let (ours, keys) = signer(1);
        let (other, _) = signer(2);
        let forged = other.sign_record(&record()).unwrap();
        assert_eq!(verify(&forged, &keys, 1000), Err(Reason::TokenInvalid));
        let text = ours.sign_record(&record()).unwrap();
        assert_eq!(
            verify(&text, &KeySet::default(), 1000),
            Err(Reason::TokenForeignKey)
        );
        // a record is no token, whoever signed it
        assert_eq!(verify_signature(&text, &keys), Err(Reason::TokenInvalid));
        for bad in ["", "a.b.c", &"x".repeat(MAX_RECORD_LEN + 1)] {
            assert_eq!(verify(bad, &keys, 1000), Err(Reason::TokenInvalid));
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_verifies(position in 0usize..600, byte in any::<u8>()) {
            let (signer, keys) = signer(1);
            let text = signer.sign_record(&record()).unwrap();
            let mut bytes = text.clone().into_bytes();
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Ok(changed) = String::from_utf8(bytes)
                && changed != text
            {
                prop_assert!(verify(&changed, &keys, 1000).is_err());
            }
        }
    }
}
