//! The file of an admin's client certificate: the key, which is made here and
//! never leaves this machine, and the chain that the control plane gives for it.

use std::path::Path;

use authguardian_proto::reason::Problem;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use zeroize::Zeroizing;

use super::{failure::Failure, files::write_private, pem::pem};

/// A key that is not certified yet.
pub(super) struct NewCertificate<'a> {
    file: &'a Path,
    key: KeyPair,
}

impl<'a> NewCertificate<'a> {
    /// Makes a key for a file that is not there yet.
    pub(super) fn new(file: &'a Path) -> Result<Self, Failure> {
        if file.symlink_metadata().is_ok() {
            let detail = format!("`{}` is there already; choose another name", file.display());
            return Err(Problem::invalid("certificate", detail).into());
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| Failure::internal(format!("no key can be made: {error}")))?;
        Ok(Self { file, key })
    }

    /// What is sent: a PKCS #10 request (RFC 2986), DER. Who it is for is the
    /// server's to say.
    pub(super) fn request(&self) -> Result<Vec<u8>, Failure> {
        let request = CertificateParams::default()
            .serialize_request(&self.key)
            .map_err(|error| Failure::internal(format!("no request can be made: {error}")))?;
        Ok(request.der().to_vec())
    }

    /// Writes key and chain, for this user only.
    pub(super) fn write(&self, chain: &[Vec<u8>]) -> Result<(), Failure> {
        let mut text = Zeroizing::new(self.key.serialize_pem());
        for certificate in chain {
            text.push_str(&pem(certificate));
        }
        write_private(self.file, &text)
    }
}
