//! Trusting a server: by the CAs that are known, or before that by the
//! fingerprint that the join token carries; in both cases only a certificate
//! that says it is the control plane's, so that no machine can pose as it.

use std::sync::Arc;

use authguardian_proto::credential::sha256;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, OtherError,
    RootCertStore, SignatureScheme, WantsVerifier,
    client::{
        Resumption, WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;

/// TLS without a client certificate, to a control plane of any trust domain
/// whose chain leads to the CA certificate with this SHA-256.
pub(super) fn pinned(ca_fingerprint: [u8; 32]) -> Result<ClientConfig, Error> {
    let config = builder(Trust::Pinned(ca_fingerprint))?.with_no_client_auth();
    Ok(finish(config))
}

/// TLS to the control plane of a trust domain, by the CAs that are known; what
/// the client shows is left to say.
pub(super) fn known(
    authorities: &[CertificateDer<'static>],
    trust_domain: &str,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    builder(Trust::Known {
        verifier: webpki(roots, provider())?,
        name: format!("spiffe://{trust_domain}/control-plane"),
    })
}

/// HTTP/2, and every connection verified anew.
pub(super) fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// TLS 1.3 by aws-lc-rs; both daemons are ours, so nothing older is needed.
fn builder(trust: Trust) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?;
    let verifier = ControlPlane {
        trust,
        provider: provider(),
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn webpki(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// Accepts a control plane that a trusted CA has certified for the dialled
/// name, at times that are right.
#[derive(Debug)]
struct ControlPlane {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

/// By what a server is trusted.
#[derive(Debug)]
enum Trust {
    /// By CAs, and this name in its certificate.
    Known {
        verifier: Arc<WebPkiServerVerifier>,
        name: String,
    },
    /// By the fingerprint of a CA certificate that it presents.
    Pinned([u8; 32]),
}

/// A certificate that a CA of ours has issued to somebody else.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate is not that of the control plane")]
struct NotTheControlPlane;

impl ServerCertVerifier for ControlPlane {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let webpki = match &self.trust {
            Trust::Known { verifier, .. } => verifier.clone(),
            Trust::Pinned(fingerprint) => self.pinned(*fingerprint, intermediates)?,
        };
        let verified = webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        if self.trust.names(end_entity) {
            Ok(verified)
        } else {
            let why = OtherError(Arc::new(NotTheControlPlane));
            Err(CertificateError::Other(why).into())
        }
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

impl ControlPlane {
    fn pinned(
        &self,
        fingerprint: [u8; 32],
        presented: &[CertificateDer<'_>],
    ) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let authority = presented
            .iter()
            .find(|certificate| sha256(certificate) == fingerprint)
            .ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        webpki(roots, self.provider.clone())
    }
}

impl Trust {
    /// Whether a certificate names the control plane, and nobody else (SPIFFE
    /// X.509-SVID §2: exactly one URI).
    fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return false;
        };
        let Ok(Some(names)) = parsed.subject_alternative_name() else {
            return false;
        };
        let mut uris = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return false;
        };
        match self {
            Self::Known { name, .. } => uri == name,
            Self::Pinned(_) => uri
                .strip_prefix("spiffe://")
                .and_then(|rest| rest.split_once('/'))
                .is_some_and(|(domain, path)| !domain.is_empty() && path == "control-plane"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    };

    use super::*;

    const CONTROL_PLANE: &str = "spiffe://example.org/control-plane";

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

    fn leaf(authority: &Authority, uris: &[&str]) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]);
        for uri in uris {
            let uri = SanType::URI((*uri).try_into().unwrap());
            params.as_mut().unwrap().subject_alt_names.push(uri);
        }
        let certificate = params.unwrap().signed_by(&key, &authority.issuer);
        certificate.unwrap().der().clone()
    }

    fn verify(
        trust: Trust,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &str,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = ControlPlane {
            trust,
            provider: provider(),
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        verifier.verify_server_cert(leaf, rest, &name, &[], now)
    }

    fn pin(authority: &Authority) -> Trust {
        Trust::Pinned(sha256(&authority.certificate))
    }

    fn known(authority: &Authority) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        Trust::Known {
            verifier: webpki(roots, provider()).unwrap(),
            name: CONTROL_PLANE.to_owned(),
        }
    }

    #[test]
    fn a_leaf_of_the_pinned_authority_is_trusted_for_its_names() {
        let ca = authority();
        let leaf = leaf(&ca, &[CONTROL_PLANE]);
        let chain = [ca.certificate.clone()];
        assert!(verify(pin(&ca), &leaf, &chain, "localhost").is_ok());
        assert!(verify(pin(&ca), &leaf, &chain, "127.0.0.1").is_ok());
        assert!(verify(pin(&ca), &leaf, &chain, "cp.example").is_err());
    }

    #[test]
    fn another_authority_is_refused_even_beside_the_pinned_one() {
        let (ca, other) = (authority(), authority());
        let foreign = leaf(&other, &[CONTROL_PLANE]);
        let alone = std::slice::from_ref(&other.certificate);
        assert!(verify(pin(&ca), &foreign, alone, "localhost").is_err());
        let both = [other.certificate.clone(), ca.certificate.clone()];
        assert!(verify(pin(&ca), &foreign, &both, "localhost").is_err());
        assert!(verify(known(&ca), &foreign, &both, "localhost").is_err());
    }

    #[test]
    fn a_chain_without_its_authority_is_refused_where_that_is_not_known() {
        let ca = authority();
        let leaf = leaf(&ca, &[CONTROL_PLANE]);
        assert!(verify(pin(&ca), &leaf, &[], "localhost").is_err());
        assert!(verify(known(&ca), &leaf, &[], "localhost").is_ok());
    }

    #[test]
    fn nobody_else_of_the_same_authority_can_pose_as_the_control_plane() {
        let ca = authority();
        let chain = [ca.certificate.clone()];
        let machine = "spiffe://example.org/machine/mch_0000000000000000000007";
        let posing: &[&[&str]] = &[
            &[],
            &[machine],
            &[CONTROL_PLANE, machine],
            &["spiffe://example.org/control-plane/x"],
            &["https://example.org/control-plane"],
        ];
        for uris in posing {
            let leaf = leaf(&ca, uris);
            for trust in [known(&ca), pin(&ca)] {
                let refused = verify(trust, &leaf, &chain, "localhost").unwrap_err();
                assert!(refused.to_string().contains("invalid peer certificate"));
            }
        }
        let elsewhere = leaf(&ca, &["spiffe://example.com/control-plane"]);
        assert!(verify(known(&ca), &elsewhere, &chain, "localhost").is_err());
        let joining = verify(pin(&ca), &elsewhere, &chain, "localhost");
        assert!(joining.is_ok(), "which domain it is, is learnt by joining");
    }
}
