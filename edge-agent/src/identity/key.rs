//! The machine's private key.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::IdentityError;

/// An ECDSA P-256 key as PKCS #8; wiped on drop.
#[derive(Clone)]
pub(super) struct MachineKey(Zeroizing<Vec<u8>>);

impl MachineKey {
    /// A fresh key.
    pub(super) fn generate() -> Result<Self, IdentityError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        Ok(Self(Zeroizing::new(pair.serialize_der())))
    }

    /// A stored key; checked where it is used.
    pub(super) fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// The key, DER.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.0
    }

    /// A PKCS #10 request for the public key, DER. It names nobody: the
    /// control plane decides what the certificate says.
    pub(super) fn signing_request(&self) -> Result<Vec<u8>, IdentityError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.to_vec()));
        let pair =
            KeyPair::from_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        let request = CertificateParams::default()
            .serialize_request(&pair)
            .map_err(unusable)?;
        Ok(request.der().to_vec())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unusable(error: rcgen::Error) -> IdentityError {
    IdentityError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_signs_requests_for_the_same_public_key() {
        let key = MachineKey::generate().unwrap();
        let stored = MachineKey::from_pkcs8(key.pkcs8().to_vec());
        let public = |der: &[u8]| {
            use x509_parser::prelude::FromDer;
            let (_, request) =
                x509_parser::certification_request::X509CertificationRequest::from_der(der)
                    .unwrap();
            request.verify_signature().unwrap();
            request.certification_request_info.subject_pki.raw.to_vec()
        };
        assert_eq!(
            public(&key.signing_request().unwrap()),
            public(&stored.signing_request().unwrap())
        );
    }
}
