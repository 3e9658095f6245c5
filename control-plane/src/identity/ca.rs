//! The certificate authority: ECDSA P-256, one level, SPIFFE ids (SPIFFE-ID
//! and X.509-SVID specifications) for machines.

use std::str::FromStr;

use authguardian_proto::{
    credential::sha256,
    ids::{AdminTokenId, MachineId},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};
use zeroize::Zeroizing;

use super::{AdminCertificate, ServerName};
use crate::{
    clock::Entropy,
    error::{Error, Result},
};

/// How long a CA certificate lives.
pub(super) const CA_LIFETIME: Duration = Duration::days(3650);

/// How many CAs may stand between a server's certificate and one that a peer
/// trusts, each certified by the one before it.
pub const LONGEST_CROSSING: u8 = 4;

/// How far back certificates begin, for clocks that run behind.
const BACKDATED: Duration = Duration::minutes(5);

/// The CA in use.
pub struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate with its key, for rustls.
#[derive(Debug)]
pub struct ServerIdentity {
    /// The leaf alone.
    pub certificate: CertificateDer<'static>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// A machine's public key, taken from a certificate signing request (PKCS #10,
/// RFC 2986) whose signature was good. Nothing else of the request counts.
pub struct RequestedKey(rcgen::PublicKey);

/// What a machine's certificate is good for.
#[derive(Debug, Clone, Copy)]
pub struct MachineNames<'a> {
    /// Whose machine it is.
    pub trust_domain: &'a str,
    /// The machine itself.
    pub machine: MachineId,
    /// What those that call it call it.
    pub server_names: &'a [ServerName],
}

impl RequestedKey {
    /// Reads and verifies a request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`csr_der`).
    pub fn from_csr(der: &[u8]) -> Result<Self> {
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map(|csr| Self(csr.public_key))
            .map_err(|error| {
                Error::invalid(
                    "csr_der",
                    "expected a PKCS #10 request in DER, signed with its own key",
                )
                .caused_by(error)
            })
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

/// Makes a CA: its certificate and its key as PKCS #8.
///
/// # Errors
/// When the crypto library fails.
pub fn generate(
    trust_domain: &str,
    entropy: &Entropy,
    now: OffsetDateTime,
) -> Result<(CertificateDer<'static>, Zeroizing<Vec<u8>>)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::internal)?;
    let mut params = authority(trust_domain, entropy, now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let certificate = params.self_signed(&key).map_err(Error::internal)?;
    Ok((
        certificate.der().clone(),
        Zeroizing::new(key.serialize_der()),
    ))
}

impl Ca {
    /// Takes a stored CA.
    ///
    /// # Errors
    /// When certificate or key cannot be read.
    pub fn load(certificate: Vec<u8>, pkcs8: &[u8]) -> Result<Self> {
        let certificate = CertificateDer::from(certificate);
        let key = KeyPair::try_from(pkcs8).map_err(Error::internal)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(Error::internal)?;
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the CA's certificate, as join tokens carry it.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    /// Certifies the key of the CA that is to follow (RFC 4210 §4.4, "new with
    /// old"): who trusts only this CA can trust the next one by it. All CAs of
    /// an installation have one name, so that it counts as issued by itself,
    /// which the bound on the path's length does not count (RFC 5280 §4.2.1.9).
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn vouch_for(
        &self,
        next: &Self,
        trust_domain: &str,
        entropy: &Entropy,
        now: OffsetDateTime,
    ) -> Result<CertificateDer<'static>> {
        let mut params = authority(trust_domain, entropy, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(LONGEST_CROSSING));
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(next.issuer.key(), &self.issuer)
            .map_err(Error::internal)?;
        Ok(certificate.der().clone())
    }

    /// Certifies a machine's key as `spiffe://<trust domain>/machine/<id>` and,
    /// for those that call the machine, under its server names; leaf first,
    /// then the CA.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn certify_machine(
        &self,
        names: &MachineNames<'_>,
        key: &RequestedKey,
        entropy: &Entropy,
        from: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Vec<CertificateDer<'static>>> {
        let mut params = leaf(entropy, from, until);
        params
            .distinguished_name
            .push(DnType::CommonName, names.machine.to_string());
        params.subject_alt_names = vec![uri(&spiffe_id(names.trust_domain, names.machine))?];
        for name in names.server_names {
            params.subject_alt_names.push(san(name)?);
        }
        // an edge also answers other edges
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params
            .signed_by(&key.0, &self.issuer)
            .map_err(Error::internal)?;
        Ok(vec![certificate.der().clone(), self.certificate.clone()])
    }

    /// Certifies an admin's key as `spiffe://<trust domain>/admin/<id>`; leaf
    /// first, then the CA.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn certify_admin(
        &self,
        trust_domain: &str,
        admin: AdminTokenId,
        key: &RequestedKey,
        entropy: &Entropy,
        from: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Vec<CertificateDer<'static>>> {
        let mut params = leaf(entropy, from, until);
        params
            .distinguished_name
            .push(DnType::CommonName, admin.to_string());
        let name = format!("spiffe://{trust_domain}/admin/{admin}");
        params.subject_alt_names = vec![uri(&name)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params
            .signed_by(&key.0, &self.issuer)
            .map_err(Error::internal)?;
        Ok(vec![certificate.der().clone(), self.certificate.clone()])
    }

    /// Makes a certificate for a control plane's own listeners.
    ///
    /// # Errors
    /// When a name is no DNS name or address, or the crypto library fails.
    pub fn certify_server(
        &self,
        names: &[String],
        trust_domain: &str,
        entropy: &Entropy,
        from: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<ServerIdentity> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::internal)?;
        let mut params = leaf(entropy, from, until);
        params
            .distinguished_name
            .push(DnType::CommonName, "AuthGuardian control plane");
        let parsed = CertificateParams::new(names).map_err(|error| {
            Error::invalid(
                "identity.server_names",
                "expected DNS names and IP addresses",
            )
            .caused_by(error)
        })?;
        params.subject_alt_names = parsed.subject_alt_names;
        params
            .subject_alt_names
            .push(uri(&format!("spiffe://{trust_domain}/control-plane"))?);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(Error::internal)?;
        Ok(ServerIdentity {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca(key redacted)")
    }
}

/// What a machine is called in its certificate.
pub fn spiffe_id(trust_domain: &str, machine: MachineId) -> String {
    format!("spiffe://{trust_domain}/machine/{machine}")
}

/// The machine that a verified client certificate names; `None` when it names
/// none of this trust domain.
pub fn machine_of(certificate: &CertificateDer<'_>, trust_domain: &str) -> Option<MachineId> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    named(&certificate, &format!("spiffe://{trust_domain}/machine/"))
}

/// The admin that a verified client certificate names; `None` when it names
/// none of this trust domain.
pub fn admin_of(certificate: &CertificateDer<'_>, trust_domain: &str) -> Option<AdminCertificate> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(AdminCertificate {
        id: named(&certificate, &format!("spiffe://{trust_domain}/admin/"))?,
        key: sha256(certificate.public_key().raw),
    })
}

/// What comes after a prefix in one of a certificate's URIs.
fn named<T: FromStr>(certificate: &X509Certificate<'_>, prefix: &str) -> Option<T> {
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(prefix)?.parse().ok(),
            _ => None,
        })
}

/// What all CA certificates of an installation have in common.
fn authority(
    trust_domain: &str,
    entropy: &Entropy,
    now: OffsetDateTime,
) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(
        DnType::CommonName,
        format!("AuthGuardian CA {trust_domain}"),
    );
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    params.serial_number = Some(serial(entropy));
    params.not_before = now - BACKDATED;
    params.not_after = now + CA_LIFETIME;
    Ok(params)
}

fn leaf(entropy: &Entropy, from: OffsetDateTime, until: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(serial(entropy));
    params.use_authority_key_identifier_extension = true;
    params.not_before = from - BACKDATED;
    params.not_after = until;
    params
}

/// 20 octets at most and positive (RFC 5280 §4.1.2.2).
fn serial(entropy: &Entropy) -> SerialNumber {
    let mut bytes = entropy.bytes::<16>();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn san(name: &ServerName) -> Result<SanType> {
    let name = name.as_str();
    match name.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into().map_err(Error::internal)?)),
    }
}

fn uri(text: &str) -> Result<SanType> {
    Ok(SanType::URI(text.try_into().map_err(
        |error: rcgen::Error| {
            Error::invalid("identity.trust_domain", "expected a DNS name").caused_by(error)
        },
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_recognised_by_its_certificate() {
        let entropy = Entropy::from_seed(1);
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let (certificate, key) = generate("example.org", &entropy, now).unwrap();
        let ca = Ca::load(certificate.to_vec(), &key).unwrap();

        let machine_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&machine_key)
            .unwrap();
        let requested = RequestedKey::from_csr(csr.der()).unwrap();
        assert_eq!(requested.spki(), machine_key.subject_public_key_info());

        let machine = MachineId::from_uuid(uuid::Uuid::from_u128(7));
        let server_names =
            ["build-7.example.org", "10.0.0.7"].map(|name| ServerName::parse(name).unwrap());
        let chain = ca
            .certify_machine(
                &MachineNames {
                    trust_domain: "example.org",
                    machine,
                    server_names: &server_names,
                },
                &requested,
                &entropy,
                now,
                now + Duration::days(1),
            )
            .unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(machine_of(&chain[0], "example.org"), Some(machine));
        assert_eq!(machine_of(&chain[0], "example.com"), None);
        assert_eq!(machine_of(&chain[1], "example.org"), None);

        let leaf = rustls::server::ParsedCertificate::try_from(&chain[0]).unwrap();
        for (name, carried) in [
            ("build-7.example.org", true),
            ("10.0.0.7", true),
            ("build-8.example.org", false),
        ] {
            let name = rustls_pki_types::ServerName::try_from(name).unwrap();
            assert_eq!(
                rustls::client::verify_server_name(&leaf, &name).is_ok(),
                carried
            );
        }
        assert_eq!(admin_of(&chain[0], "example.org"), None);

        let admin = AdminTokenId::from_uuid(uuid::Uuid::from_u128(8));
        let until = now + Duration::days(1);
        let chain = ca
            .certify_admin("example.org", admin, &requested, &entropy, now, until)
            .unwrap();
        let named = AdminCertificate {
            id: admin,
            key: sha256(&requested.spki()),
        };
        assert_eq!(admin_of(&chain[0], "example.org"), Some(named));
        assert_eq!(admin_of(&chain[0], "example.com"), None);
        assert_eq!(machine_of(&chain[0], "example.org"), None);
    }

    #[test]
    fn a_request_with_a_broken_signature_is_refused() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let mut der = csr.der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert!(RequestedKey::from_csr(&der).is_err());
        assert!(RequestedKey::from_csr(b"rubbish").is_err());
    }
}
