//! Trusting a server before the CA is known: by the fingerprint that the join
//! token carries.

use std::sync::Arc;

use authguardian_proto::credential::sha256;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, WantsVerifier,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// TLS 1.3 by aws-lc-rs; both daemons are ours, so nothing older is needed.
pub(super) fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
}

/// TLS without a client certificate, to a server whose chain has the CA
/// certificate with this SHA-256.
pub(super) fn pinned(ca_fingerprint: [u8; 32]) -> Result<ClientConfig, Error> {
    let verifier = PinnedAuthority {
        ca_fingerprint,
        provider: provider(),
    };
    let mut config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Accepts a server whose presented chain has the pinned CA certificate, whose
/// leaf that CA has signed for the dialled name, and whose times are right.
#[derive(Debug)]
struct PinnedAuthority {
    ca_fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| sha256(certificate) == self.ca_fingerprint)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

    use super::*;

    struct Authority {
        certificate: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn leaf(authority: &Authority, names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        params
            .signed_by(&key, &authority.issuer)
            .unwrap()
            .der()
            .clone()
    }

    fn verify(
        pin: &Authority,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &str,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = PinnedAuthority {
            ca_fingerprint: sha256(&pin.certificate),
            provider: provider(),
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        verifier.verify_server_cert(leaf, rest, &name, &[], now)
    }

    #[test]
    fn a_leaf_of_the_pinned_authority_is_trusted_for_its_names() {
        let ca = authority();
        let leaf = leaf(&ca, &["localhost", "127.0.0.1"]);
        let chain = [ca.certificate.clone()];
        assert!(verify(&ca, &leaf, &chain, "localhost").is_ok());
        assert!(verify(&ca, &leaf, &chain, "127.0.0.1").is_ok());
        assert!(verify(&ca, &leaf, &chain, "cp.example").is_err());
    }

    #[test]
    fn another_authority_is_refused_even_beside_the_pinned_one() {
        let (ca, other) = (authority(), authority());
        let foreign = leaf(&other, &["localhost"]);
        assert!(
            verify(
                &ca,
                &foreign,
                std::slice::from_ref(&other.certificate),
                "localhost"
            )
            .is_err()
        );
        let both = [other.certificate.clone(), ca.certificate.clone()];
        assert!(verify(&ca, &foreign, &both, "localhost").is_err());
    }

    #[test]
    fn a_chain_without_its_authority_is_refused() {
        let ca = authority();
        let leaf = leaf(&ca, &["localhost"]);
        assert!(verify(&ca, &leaf, &[], "localhost").is_err());
    }
}
