//! Who other machines are: certificates of this trust domain, machines that may
//! take part no more, and what machines have signed.

mod address;
mod statement;
mod verifier;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use authguardian_proto::{
    base62,
    credential::sha256,
    ids::MachineId,
    reason::{Problem, Reason},
};
use rustls::{
    CertificateError, Error, OtherError, RootCertStore,
    crypto::CryptoProvider,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;

pub use address::{ParsePeerAddressError, PeerAddress};
pub use statement::{ForgedError, MAX_STATEMENT_LEN, SignError, Statement};

/// Most machines that are remembered as refused; a certificate lives for a day
/// by default, so that the oldest have none any more.
const MAX_REFUSED: usize = 65_536;

/// What records are named by, in this order: SHA-256, base62, of the SHA-256 of each.
pub fn fingerprint(records: &[Arc<str>]) -> String {
    let hashes: Vec<u8> = records
        .iter()
        .flat_map(|text| sha256(text.as_bytes()))
        .collect();
    base62::encode(&sha256(&hashes))
}

/// The certificate that this machine shows now; renewal swaps it.
pub type OwnCertificate = Arc<ArcSwap<CertifiedKey>>;

/// The machine at the other end of a connection, as its certificate has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerMachine(pub MachineId);

/// Who the machines of a trust domain are.
#[derive(Debug)]
pub struct Trust {
    domain: String,
    chains: ArcSwap<Chains>,
    refused: Mutex<Refused>,
    provider: Arc<CryptoProvider>,
}

/// Checks chains up to the CAs that are trusted now.
#[derive(Debug)]
struct Chains {
    verifier: Arc<dyn ClientCertVerifier>,
    /// SHA-256 of each CA's certificate.
    fingerprints: Vec<[u8; 32]>,
}

#[derive(Debug, Default)]
struct Refused {
    reasons: HashMap<MachineId, (Reason, u64)>,
    counted: u64,
}

/// A certificate of our CA that is no machine's.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is not that of a machine of `{0}`")]
struct NoMachine(String);

impl Trust {
    /// Machines that one of these CAs has certified for this trust domain.
    ///
    /// # Errors
    /// When a CA's certificate cannot be used.
    pub fn new(domain: &str, authorities: &[CertificateDer<'static>]) -> Result<Arc<Self>, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(Arc::new(Self {
            domain: domain.to_owned(),
            chains: ArcSwap::from_pointee(Chains::new(authorities, &provider)?),
            refused: Mutex::default(),
            provider,
        }))
    }

    /// From now on these CAs count.
    ///
    /// # Errors
    /// When one cannot be used: those of before count still.
    pub fn set_authorities(&self, authorities: &[CertificateDer<'static>]) -> Result<(), Error> {
        let chains = Chains::new(authorities, &self.provider)?;
        self.chains.store(Arc::new(chains));
        Ok(())
    }

    /// Whether the CA whose certificate has this SHA-256 counts.
    pub fn has_authority(&self, fingerprint: &[u8; 32]) -> bool {
        self.chains.load().fingerprints.contains(fingerprint)
    }

    /// The machine may take part no more.
    pub fn refuse(&self, machine: MachineId, reason: Reason) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.counted += 1;
        let number = refused.counted;
        refused.reasons.insert(machine, (reason, number));
        if refused.reasons.len() > MAX_REFUSED {
            let oldest = refused.reasons.iter().min_by_key(|(_, (_, number))| number);
            if let Some(oldest) = oldest.map(|(machine, _)| *machine) {
                refused.reasons.remove(&oldest);
            }
        }
    }

    /// The machine may take part again.
    pub fn admit(&self, machine: MachineId) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.reasons.remove(&machine);
    }

    /// Whether a machine may take part, as far as was heard.
    ///
    /// # Errors
    /// `MACHINE_BANNED`, `MACHINE_EVICTED`.
    pub fn check(&self, machine: MachineId) -> Result<(), Problem> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.reasons.get(&machine) {
            None => Ok(()),
            Some((reason, _)) => {
                let detail = format!("the machine `{machine}` may take part no more");
                Err(Problem::new(*reason, detail))
            }
        }
    }

    /// Which machine presents this certificate: a CA of ours has issued it, it is
    /// in its time, and it names one machine of the trust domain.
    ///
    /// # Errors
    /// When any of that is not so.
    pub fn certified(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<MachineId, Error> {
        let chains = self.chains.load();
        chains
            .verifier
            .verify_client_cert(certificate, intermediates, now)?;
        self.named(certificate).ok_or_else(|| {
            let why = OtherError(Arc::new(NoMachine(self.domain.clone())));
            CertificateError::Other(why).into()
        })
    }

    /// The machine that a certificate names, and nobody else (SPIFFE X.509-SVID §2:
    /// exactly one URI); the certificate itself is not checked.
    pub fn named(&self, certificate: &CertificateDer<'_>) -> Option<MachineId> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        let mut uris = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return None;
        };
        let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        let machine = path.strip_prefix("machine/")?.parse().ok()?;
        (domain == self.domain).then_some(machine)
    }
}

impl Chains {
    fn new(
        authorities: &[CertificateDer<'static>],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            verifier,
            fingerprints: authorities.iter().map(|ca| sha256(ca)).collect(),
        })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A CA with machines.

    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        KeyUsagePurpose, SanType,
    };
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use uuid::Uuid;

    use super::*;

    pub(crate) const DOMAIN: &str = "example.org";

    pub(crate) struct Authority {
        pub(crate) certificate: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    pub(crate) fn machine(number: u128) -> MachineId {
        MachineId::from_uuid(Uuid::from_u128(number))
    }

    pub(crate) fn spiffe(number: u128) -> String {
        format!("spiffe://{DOMAIN}/machine/{}", machine(number))
    }

    impl Authority {
        pub(crate) fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            let certificate = params.self_signed(&key).unwrap().der().clone();
            Self {
                certificate,
                issuer: Issuer::new(params, key),
            }
        }

        pub(crate) fn trust(&self) -> Arc<Trust> {
            Trust::new(DOMAIN, std::slice::from_ref(&self.certificate)).unwrap()
        }

        /// A certificate with these URIs, and its key.
        pub(crate) fn certify(&self, uris: &[String]) -> CertifiedKey {
            self.certify_until(uris, rcgen::date_time_ymd(4000, 1, 1))
        }

        pub(crate) fn certify_until(
            &self,
            uris: &[String],
            ends: time::OffsetDateTime,
        ) -> CertifiedKey {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.not_after = ends;
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::ServerAuth,
            ];
            for uri in uris {
                let uri = SanType::URI(uri.as_str().try_into().unwrap());
                params.subject_alt_names.push(uri);
            }
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let chain = vec![certificate.der().clone(), self.certificate.clone()];
            let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            CertifiedKey::from_der(chain, der, &provider).unwrap()
        }

        pub(crate) fn machine(&self, number: u128) -> OwnCertificate {
            Arc::new(ArcSwap::from_pointee(self.certify(&[spiffe(number)])))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        testing::{Authority, machine, spiffe},
        *,
    };

    fn now() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000))
    }

    fn certified(trust: &Trust, uris: &[String], by: &Authority) -> Option<MachineId> {
        let key = by.certify(uris);
        let (leaf, rest) = key.cert.split_first().unwrap();
        trust.certified(leaf, rest, now()).ok()
    }

    #[test]
    fn a_machine_of_the_domain_is_known_by_its_certificate_and_nobody_else_is() {
        let (ca, other) = (Authority::new(), Authority::new());
        let trust = ca.trust();
        let good = [spiffe(7)];
        assert_eq!(certified(&trust, &good, &ca), Some(machine(7)));
        assert_eq!(certified(&trust, &good, &other), None);
        for uris in [
            vec![],
            vec!["spiffe://example.org/control-plane".to_owned()],
            vec![spiffe(7), spiffe(8)],
            vec![format!("spiffe://example.com/machine/{}", machine(7))],
            vec!["spiffe://example.org/machine/mch_7".to_owned()],
        ] {
            assert_eq!(certified(&trust, &uris, &ca), None, "{uris:?}");
        }
    }

    #[test]
    fn another_authority_counts_once_it_is_told_and_the_first_one_no_more() {
        let (ca, next) = (Authority::new(), Authority::new());
        let trust = ca.trust();
        let told = std::slice::from_ref(&next.certificate);
        trust.set_authorities(told).unwrap();
        assert_eq!(certified(&trust, &[spiffe(7)], &next), Some(machine(7)));
        assert_eq!(certified(&trust, &[spiffe(7)], &ca), None);
        assert!(trust.set_authorities(&[]).is_err());
        assert!(certified(&trust, &[spiffe(7)], &next).is_some());
    }

    #[test]
    fn a_refused_machine_may_take_part_again_when_it_is_admitted() {
        let trust = Authority::new().trust();
        trust.refuse(machine(7), Reason::MachineBanned);
        let refused = trust.check(machine(7)).unwrap_err();
        assert_eq!(refused.reason, Reason::MachineBanned);
        assert!(trust.check(machine(8)).is_ok());
        trust.admit(machine(7));
        assert!(trust.check(machine(7)).is_ok());
    }
}
