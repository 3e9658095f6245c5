//! Client certificates, verified against the CAs of this moment: a rotation
//! counts for the next handshake.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use authguardian_proto::credential::sha256;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use crate::{
    grpc::peer::ClientCertificate,
    identity::{Identity, Keyring, machine::RENEWABLE},
};

/// What becomes of a certificate that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is let in as long as it may be renewed; what its peer may call then
    /// is for the authorisation to say.
    MayRenew,
    /// It does not count.
    Refused,
}

/// Verifies client certificates where they are shown.
pub(super) struct ClientVerifier {
    identity: Identity,
    ended: Ended,
    provider: Arc<CryptoProvider>,
    authorities: ArcSwap<Authorities>,
}

/// The CAs of one keyring.
struct Authorities {
    keyring: Arc<Keyring>,
    each: Vec<Authority>,
}

/// One CA: its fingerprint tells later on what a connection rests on.
struct Authority {
    fingerprint: [u8; 32],
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    pub(super) fn new(
        identity: Identity,
        ended: Ended,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, Error> {
        let authorities = Authorities::of(identity.keyring(), &provider)?;
        Ok(Arc::new(Self {
            identity,
            ended,
            provider,
            authorities: ArcSwap::from_pointee(authorities),
        }))
    }

    /// What a chain says that was shown now, if it can be trusted. Machines
    /// and admins are certified by a CA itself, so that nothing stands between.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<ClientCertificate, Error> {
        let ends = end_of(leaf).ok_or(CertificateError::BadEncoding)?;
        let at = self.judged_at(ends, now);
        let mut refused = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for authority in &self.authorities()?.each {
            match authority.verifier.verify_client_cert(leaf, &[], at) {
                Ok(_) => {
                    return Ok(ClientCertificate {
                        issuer: authority.fingerprint,
                        ends,
                    });
                }
                // of another CA, or ours and wrong: the second says more
                Err(error) if is_foreign(&error) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Whether a CA still counts.
    pub(super) fn trusts(&self, issuer: &[u8; 32]) -> bool {
        is_among(issuer, &self.identity.keyring())
    }

    /// A certificate that may be renewed counts as it did in its last moment.
    fn judged_at(&self, ends: OffsetDateTime, now: UnixTime) -> UnixTime {
        let last = u64::try_from(ends.unix_timestamp()).unwrap_or_default();
        let since = now.as_secs().saturating_sub(last);
        match self.ended {
            Ended::MayRenew if since > 0 && since <= RENEWABLE.whole_seconds().unsigned_abs() => {
                UnixTime::since_unix_epoch(std::time::Duration::from_secs(last))
            }
            Ended::MayRenew | Ended::Refused => now,
        }
    }

    fn authorities(&self) -> Result<Arc<Authorities>, Error> {
        let (known, keyring) = (self.authorities.load_full(), self.identity.keyring());
        if Arc::ptr_eq(&known.keyring, &keyring) {
            return Ok(known);
        }
        let authorities = Arc::new(Authorities::of(keyring, &self.provider)?);
        self.authorities.store(Arc::clone(&authorities));
        Ok(authorities)
    }
}

impl Authorities {
    fn of(keyring: Arc<Keyring>, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let authority = |certificate: &CertificateDer<'static>| {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone())?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Ok(Authority {
                fingerprint: sha256(certificate),
                verifier: verifier
                    .build()
                    .map_err(|error| Error::General(error.to_string()))?,
            })
        };
        let each = keyring.ca_certificates().iter().map(authority);
        Ok(Self {
            each: each.collect::<Result<_, Error>>()?,
            keyring,
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: clients show what they have.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, now)
            .map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientVerifier({:?})", self.ended)
    }
}

/// Whether a CA is one of a keyring's.
pub(super) fn is_among(fingerprint: &[u8; 32], keyring: &Keyring) -> bool {
    let mut authorities = keyring.ca_certificates().iter();
    authorities.any(|certificate| sha256(certificate) == *fingerprint)
}

fn end_of(certificate: &CertificateDer<'_>) -> Option<OffsetDateTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.to_datetime())
}

/// All CAs of an installation have one name, so that a certificate of another
/// one is found out by its signature.
fn is_foreign(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)
    )
}
