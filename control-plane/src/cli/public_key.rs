//! Public keys that others have made, such as `openssl pkey -pubout`.

use std::path::Path;

use authguardian_proto::reason::Problem;
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};

use super::failure::Failure;

/// What stands before the 32 bytes of an Ed25519 public key in its
/// SubjectPublicKeyInfo (RFC 8410 §4).
const ED25519: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Reads an Ed25519 public key from a PEM file.
pub(super) fn read(path: &Path) -> Result<[u8; 32], Failure> {
    let unusable = |why: &dyn std::fmt::Display| -> Failure {
        let detail = format!("cannot use `{}`: {why}", path.display());
        Problem::invalid("public_key_file", detail).into()
    };
    let text = std::fs::read(path).map_err(|error| unusable(&error))?;
    let key = SubjectPublicKeyInfoDer::from_pem_slice(&text)
        .map_err(|_| unusable(&"it holds no public key as PEM (`BEGIN PUBLIC KEY`)"))?;
    key.strip_prefix(&ED25519)
        .and_then(|key| key.try_into().ok())
        .ok_or_else(|| unusable(&"the key is not an Ed25519 one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<[u8; 32], Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn a_key_of_openssl_is_read_and_nothing_else() {
        let public = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----\n";
        assert_eq!(read_text(public).unwrap()[..3], [0x19, 0xbf, 0x44]);
        let private = "-----BEGIN PRIVATE KEY-----\n\
                       MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAg2N\n\
                       -----END PRIVATE KEY-----\n";
        let another = "-----BEGIN PUBLIC KEY-----\n\
                       MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n\
                       AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n\
                       -----END PUBLIC KEY-----\n";
        for bad in ["", "agk_", private, another] {
            assert!(read_text(bad).is_err(), "{bad}");
        }
        assert!(read(Path::new("/nonexistent.pem")).is_err());
    }
}
