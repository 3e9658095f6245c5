//! Secrets at rest: AES-256-GCM (NIST SP 800-38D) under a master key that the
//! database never sees.

use std::{fmt, path::Path};

use authguardian_proto::{ids::SigningKeyId, reason::Reason};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The master key: 32 bytes, in its file as 64 hex digits.
pub struct MasterKey(RandomizedNonceKey);

impl MasterKey {
    /// Takes the key's bytes.
    ///
    /// # Errors
    /// When the crypto library refuses the key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes)
            .map(Self)
            .map_err(|_| Error::internal("AES-256-GCM refused the master key"))
    }

    /// Reads the key from its file.
    ///
    /// # Errors
    /// When the file is missing or is not 64 hex digits.
    pub fn from_file(path: &Path) -> Result<Self> {
        let expected = "expected a file of 64 hex digits; `openssl rand -hex 32` makes one";
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| {
            Error::invalid(
                "identity.master_key_file",
                format!("`{}` cannot be read: {expected}", path.display()),
            )
            .caused_by(error)
        })?);
        let bytes = decode_hex(text.trim()).ok_or_else(|| {
            Error::invalid(
                "identity.master_key_file",
                format!("`{}`: {expected}", path.display()),
            )
        })?;
        Self::from_bytes(&bytes)
    }

    /// Seals a secret for one key id: a random nonce, then the sealed bytes.
    /// The id is authenticated, so that rows cannot be swapped.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn seal(&self, id: SigningKeyId, secret: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = secret.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(id.as_uuid().into_bytes()), &mut sealed)
            .map_err(|_| Error::internal("sealing failed"))?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens what [`MasterKey::seal`] made for the same id.
    ///
    /// # Errors
    /// When this is not the key that it was sealed under.
    pub fn open(&self, id: SigningKeyId, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let open = || {
            let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut secret = Zeroizing::new(sealed.to_vec());
            let length = self
                .0
                .open_in_place(nonce, Aad::from(id.as_uuid().into_bytes()), &mut secret)
                .ok()?
                .len();
            secret.truncate(length);
            Some(secret)
        };
        open().ok_or_else(|| {
            Error::new(
                Reason::Internal,
                "the master key does not open the stored keys: give the key that they were sealed under",
            )
        })
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(redacted)")
    }
}

fn decode_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> SigningKeyId {
        SigningKeyId::from_uuid(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn only_the_same_key_and_id_open_a_secret() {
        let master = MasterKey::from_bytes(&[1; 32]).unwrap();
        let sealed = master.seal(id(1), b"secret").unwrap();
        assert_eq!(master.open(id(1), &sealed).unwrap().as_slice(), b"secret");
        assert!(master.open(id(2), &sealed).is_err());
        assert!(
            MasterKey::from_bytes(&[2; 32])
                .unwrap()
                .open(id(1), &sealed)
                .is_err()
        );
        assert!(master.open(id(1), b"").is_err());
        assert_ne!(sealed, master.seal(id(1), b"secret").unwrap());
    }

    #[test]
    fn a_key_file_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        assert!(MasterKey::from_file(&path).is_err());
        for bad in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            std::fs::write(&path, bad).unwrap();
            assert!(MasterKey::from_file(&path).is_err(), "{bad}");
        }
        std::fs::write(&path, format!("{}\n", "0a".repeat(32))).unwrap();
        assert!(MasterKey::from_file(&path).is_ok());
    }
}
