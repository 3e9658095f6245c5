//! What a machine says, signed with the key of its certificate, so that
//! others can pass it on and nobody else can have said it.

use authguardian_proto::ids::MachineId;
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{SignatureScheme, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use super::Trust;

/// Longest statement that is looked at, bytes of all its parts.
pub const MAX_STATEMENT_LEN: usize = 16 * 1024;

/// Most certificates of a chain.
const MAX_CHAIN: usize = 4;

/// Stands before what is signed: no signature of a TLS handshake, which
/// begins with 64 spaces (RFC 8446 §4.4.3), nor of anything else can be taken for it.
const CONTEXT: &[u8] = b"authguardian statement of a machine v1\n";

/// A text with a machine's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// What is said.
    said: String,
    /// ECDSA P-256 with SHA-256 over it (ASN.1, base64).
    signature: String,
    /// The machine's certificate and those above it (DER, base64).
    chain: Vec<String>,
}

/// A statement that no machine of the trust domain has made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no machine of the trust domain has said this: {0}")]
pub struct ForgedError(&'static str);

/// The machine's key cannot sign.
#[derive(Debug, thiserror::Error)]
#[error("the machine's key cannot sign: {0}")]
pub struct SignError(String);

impl Statement {
    /// Says something as the machine of this certificate.
    ///
    /// # Errors
    /// When the key is not of the kind that machines have.
    pub fn sign(said: String, own: &CertifiedKey) -> Result<Self, SignError> {
        let signer = own
            .key
            .choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])
            .ok_or_else(|| SignError("it is not ECDSA P-256".to_owned()))?;
        let signature = signer
            .sign(&message(&said))
            .map_err(|error| SignError(error.to_string()))?;
        Ok(Self {
            said,
            signature: STANDARD.encode(signature),
            chain: own.cert.iter().map(|der| STANDARD.encode(der)).collect(),
        })
    }

    /// What is said; by nobody yet, see [`Statement::speaker`].
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Bytes of all its parts.
    pub fn len(&self) -> usize {
        let chain: usize = self.chain.iter().map(String::len).sum();
        self.said.len() + self.signature.len() + chain
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// The machine that has said it.
    ///
    /// # Errors
    /// When the certificate is not that of a machine of the trust domain, or has ended,
    /// or the signature is not its own.
    pub fn speaker(&self, trust: &Trust, now: UnixTime) -> Result<MachineId, ForgedError> {
        if self.len() > MAX_STATEMENT_LEN || self.chain.len() > MAX_CHAIN {
            return Err(ForgedError("it is too large"));
        }
        let chain: Vec<CertificateDer<'static>> = self
            .chain
            .iter()
            .map(|der| STANDARD.decode(der).map(CertificateDer::from))
            .collect::<Result<_, _>>()
            .map_err(|_| ForgedError("its certificates cannot be read"))?;
        let (leaf, above) = chain
            .split_first()
            .ok_or(ForgedError("it has no certificate"))?;
        let machine = trust
            .certified(leaf, above, now)
            .map_err(|_| ForgedError("its certificate is not that of a machine"))?;
        if is_signed(trust, leaf, &self.said, &self.signature) {
            Ok(machine)
        } else {
            Err(ForgedError("its signature is wrong"))
        }
    }
}

fn message(said: &str) -> Vec<u8> {
    [CONTEXT, said.as_bytes()].concat()
}

fn is_signed(trust: &Trust, leaf: &CertificateDer<'_>, said: &str, signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else {
        return false;
    };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else {
        return false;
    };
    let key = parsed.public_key().subject_public_key.data.as_ref();
    let algorithms = &trust.provider.signature_verification_algorithms;
    let of_machines = |scheme| scheme == SignatureScheme::ECDSA_NISTP256_SHA256;
    let mut algorithms = algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| of_machines(*scheme))
        .flat_map(|(_, algorithms)| algorithms.iter());
    algorithms.any(|algorithm| {
        algorithm
            .verify_signature(key, &message(said), &signature)
            .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trust::testing::{Authority, machine, spiffe};

    fn now() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000))
    }

    #[test]
    fn what_a_machine_says_is_its_own_word_for_word() {
        let ca = Authority::new();
        let trust = ca.trust();
        let own = ca.certify(&[spiffe(7)]);
        let said = Statement::sign("alive".to_owned(), &own).unwrap();
        assert_eq!(said.speaker(&trust, now()), Ok(machine(7)));

        let mut changed = said.clone();
        changed.said = "alive!".to_owned();
        assert!(changed.speaker(&trust, now()).is_err());

        // somebody else's word under this machine's name
        let other = ca.certify(&[spiffe(8)]);
        let mut posing = Statement::sign("alive".to_owned(), &other).unwrap();
        posing.chain.clone_from(&said.chain);
        assert!(posing.speaker(&trust, now()).is_err());
    }

    #[test]
    fn nobody_of_another_authority_or_after_its_time_is_heard() {
        let (ca, foreign) = (Authority::new(), Authority::new());
        let trust = ca.trust();
        let own = foreign.certify(&[spiffe(7)]);
        let mut said = Statement::sign("alive".to_owned(), &own).unwrap();
        assert!(said.speaker(&trust, now()).is_err());
        said.chain[1] = STANDARD.encode(&ca.certificate);
        assert!(said.speaker(&trust, now()).is_err());

        let past = rcgen::date_time_ymd(2020, 1, 1);
        let own = ca.certify_until(&[spiffe(7)], past);
        let said = Statement::sign("alive".to_owned(), &own).unwrap();
        assert!(said.speaker(&trust, now()).is_err());

        let not_a_machine = ca.certify(&["spiffe://example.org/control-plane".to_owned()]);
        let said = Statement::sign("alive".to_owned(), &not_a_machine).unwrap();
        assert!(said.speaker(&trust, now()).is_err());
    }

    #[test]
    fn what_is_too_large_or_broken_is_not_looked_at() {
        let ca = Authority::new();
        let trust = ca.trust();
        let own = ca.certify(&[spiffe(7)]);
        let long = Statement::sign("x".repeat(MAX_STATEMENT_LEN), &own).unwrap();
        assert_eq!(
            long.speaker(&trust, now()),
            Err(ForgedError("it is too large"))
        );
        let good = Statement::sign("alive".to_owned(), &own).unwrap();
        for chain in [vec![], vec!["?".to_owned()], vec![good.chain[0].clone(); 5]] {
            let broken = Statement {
                chain,
                ..good.clone()
            };
            assert!(broken.speaker(&trust, now()).is_err());
        }
    }
}
