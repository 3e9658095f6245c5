//! Who this machine is: its key, its certificate and the CA that it trusts,
//! got with a join token, kept on disk, renewed at half-life.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use authguardian_proto::{credential::sha256, ids::MachineId};

use crate::dial::ServerAddress;

mod files;
mod join;
mod key;
mod names;
mod record;
mod renew;
mod step;
mod store;
mod verifier;

pub use join::{JoinError, join};
pub use renew::Renewal;
pub use store::{Store, StoreError};

use key::MachineKey;

/// The certificate that new connections of clients are shown; renewal swaps it.
pub type CertificateSource = Arc<ArcSwap<CertifiedKey>>;

/// What a machine calls itself, and how it proves that.
#[derive(Clone)]
pub struct Identity {
    /// `mch_…`
    pub machine_id: MachineId,
    /// The name that the join token was made for.
    pub machine_name: String,
    /// `spiffe://<trust_domain>/machine/<id>` stands in the certificate.
    pub trust_domain: String,
    /// Where the machine joined.
    pub server: ServerAddress,
    /// When the certificate begins and ends.
    pub validity: Validity,
    key: MachineKey,
    chain: Vec<CertificateDer<'static>>,
    authorities: Vec<CertificateDer<'static>>,
}

/// When a certificate begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub begins: OffsetDateTime,
    /// Last moment.
    pub ends: OffsetDateTime,
}

impl Validity {
    /// Reads it from a certificate; `None` when that is none.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self {
            begins: validity.not_before.to_datetime(),
            ends: validity.not_after.to_datetime(),
        })
    }
}

/// An identity that cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[error("the machine's certificate cannot be used: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// Mutual TLS as this machine, trusting its CA and nothing else.
    ///
    /// # Errors
    /// When key, chain or CA are not what they should be.
    pub fn tls(&self) -> Result<ClientConfig, IdentityError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.pkcs8().to_vec()));
        verifier::known(&self.authorities, &self.trust_domain)
            .and_then(|builder| builder.with_client_auth_cert(self.chain.clone(), key))
            .map(verifier::finish)
            .map_err(|error| IdentityError(error.to_string()))
    }

    /// The CAs that it trusts.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// Whether the CA whose certificate has this SHA-256 has issued its own.
    fn is_of(&self, ca_fingerprint: &[u8]) -> bool {
        let mut issuers = self.chain.iter().skip(1);
        issuers.any(|authority| sha256(authority) == ca_fingerprint)
    }

    /// The certificate with its key, for showing it to clients.
    ///
    /// # Errors
    /// When the key is not the certificate's.
    pub fn certified_key(&self) -> Result<CertifiedKey, IdentityError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.pkcs8().to_vec()));
        CertifiedKey::from_der(self.chain.clone(), key, &aws_lc_rs::default_provider())
            .map_err(|error| IdentityError(error.to_string()))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("machine_id", &self.machine_id)
            .field("machine_name", &self.machine_name)
            .field("trust_domain", &self.trust_domain)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}
