//! Secrets at rest: AES-256-GCM (NIST SP 800-38D) under master keys that the
//! database never sees. The first of them seals and all of them open, so that
//! one can take another's place while everything runs.

use std::{fmt, path::Path};

use authguardian_proto::{ids::SigningKeyId, reason::Reason};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac,
};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// What a master key's id is made from, with the key itself.
const ID_CONTEXT: &[u8] = b"authguardian master key id, version 1";

/// Tells master keys apart, and nothing else of them: 16 hex digits of an
/// HMAC-SHA-256 under the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyId(String);

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// A random nonce, then the sealed bytes. Empty: it was wiped.
    pub bytes: Vec<u8>,
    /// What it is sealed under; `None`: that was not noted.
    pub master_key: Option<MasterKeyId>,
}

/// The master keys: 32 bytes each, in their file as 64 hex digits, one a line.
pub struct MasterKeys {
    first: MasterKey,
    others: Vec<MasterKey>,
}

struct MasterKey {
    id: MasterKeyId,
    key: RandomizedNonceKey,
}

impl MasterKeyId {
    /// As it is stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The 16 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl MasterKey {
    fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), ID_CONTEXT);
        let digits = u64::from_be_bytes(std::array::from_fn(|at| tag.as_ref()[at]));
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes)
            .map_err(|_| Error::internal("AES-256-GCM refused the master key"))?;
        Ok(Self {
            id: MasterKeyId(format!("{digits:016x}")),
            key,
        })
    }

    fn open(&self, id: SigningKeyId, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut secret = Zeroizing::new(sealed.to_vec());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(id.as_uuid().into_bytes()), &mut secret)
            .ok()?
            .len();
        secret.truncate(length);
        Some(secret)
    }
}

impl MasterKeys {
    /// One key alone.
    ///
    /// # Errors
    /// When the crypto library refuses the key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        Ok(Self {
            first: MasterKey::from_bytes(bytes)?,
            others: Vec::new(),
        })
    }

    /// Reads the keys from their file.
    ///
    /// # Errors
    /// When the file is missing or a line of it is not 64 hex digits.
    pub fn from_file(path: &Path) -> Result<Self> {
        let expected = "expected a file of 64 hex digits a line, one line for each master key; `openssl rand -hex 32` makes one";
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| {
            Error::invalid(
                "identity.master_key_file",
                format!("`{}` cannot be read: {expected}", path.display()),
            )
            .caused_by(error)
        })?);
        let refused = || {
            Error::invalid(
                "identity.master_key_file",
                format!("`{}`: {expected}", path.display()),
            )
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut keys = Vec::new();
        for line in lines {
            let bytes = decode_hex(line).ok_or_else(refused)?;
            keys.push(MasterKey::from_bytes(&bytes)?);
        }
        let mut keys = keys.into_iter();
        Ok(Self {
            first: keys.next().ok_or_else(refused)?,
            others: keys.collect(),
        })
    }

    /// The id of the key that seals.
    pub fn first(&self) -> &MasterKeyId {
        &self.first.id
    }

    /// The ids of all of them, the one that seals first.
    pub fn ids(&self) -> impl Iterator<Item = &MasterKeyId> {
        self.all().map(|key| &key.id)
    }

    /// Seals a secret for one key id, which is authenticated with it, so that
    /// rows cannot be swapped.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn seal(&self, id: SigningKeyId, secret: &[u8]) -> Result<Sealed> {
        let mut sealed = secret.to_vec();
        let nonce = self
            .first
            .key
            .seal_in_place_append_tag(Aad::from(id.as_uuid().into_bytes()), &mut sealed)
            .map_err(|_| Error::internal("sealing failed"))?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Ok(Sealed {
            bytes,
            master_key: Some(self.first.id.clone()),
        })
    }

    /// Opens what [`MasterKeys::seal`] made for the same id.
    ///
    /// # Errors
    /// When it was sealed under none of these keys.
    pub fn open(&self, id: SigningKeyId, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>> {
        let fits = |key: &&MasterKey| sealed.master_key.as_ref().is_none_or(|id| *id == key.id);
        let opened = self
            .all()
            .filter(fits)
            .find_map(|key| key.open(id, &sealed.bytes));
        opened.ok_or_else(|| Error::new(Reason::Internal, self.missing(sealed)))
    }

    fn missing(&self, sealed: &Sealed) -> String {
        let known: Vec<_> = self.ids().map(|id| format!("`{id}`")).collect();
        let known = known.join(", ");
        let needed = match &sealed.master_key {
            Some(id) if self.ids().any(|known| known == id) => {
                return format!(
                    "a stored key is damaged: the master key `{id}`, which it was sealed under, does not open it"
                );
            }
            Some(id) => format!("the master key `{id}`"),
            None => "another master key".to_owned(),
        };
        format!(
            "the stored keys are sealed under {needed}, and `identity.master_key_file` has {known}: give the key that they were sealed under"
        )
    }

    fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKeys(redacted)")
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
        let master = MasterKeys::from_bytes(&[1; 32]).unwrap();
        let sealed = master.seal(id(1), b"secret").unwrap();
        assert_eq!(master.open(id(1), &sealed).unwrap().as_slice(), b"secret");
        assert!(master.open(id(2), &sealed).is_err());
        let other = MasterKeys::from_bytes(&[2; 32]).unwrap();
        let refused = other.open(id(1), &sealed).unwrap_err();
        let detail = &refused.problem().detail;
        assert!(detail.contains(master.first().as_str()), "{detail}");
        assert!(detail.contains(other.first().as_str()), "{detail}");
        let wiped = Sealed {
            bytes: Vec::new(),
            ..sealed.clone()
        };
        assert!(master.open(id(1), &wiped).is_err());
        assert_ne!(sealed, master.seal(id(1), b"secret").unwrap());
    }

    #[test]
    fn a_secret_whose_master_key_was_not_noted_is_opened_by_whichever_fits() {
        let master = MasterKeys::from_bytes(&[1; 32]).unwrap();
        let sealed = Sealed {
            master_key: None,
            ..master.seal(id(1), b"secret").unwrap()
        };
        assert!(master.open(id(1), &sealed).is_ok());
        let other = MasterKeys::from_bytes(&[2; 32]).unwrap();
        assert!(other.open(id(1), &sealed).is_err());
    }

    #[test]
    fn the_first_line_seals_and_every_line_opens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let (old, new) = ("0a".repeat(32), "0b".repeat(32));
        let read = |text: String| {
            std::fs::write(&path, text).unwrap();
            MasterKeys::from_file(&path).unwrap()
        };
        let before = read(old.clone());
        let sealed = before.seal(id(1), b"secret").unwrap();
        let both = read(format!("{new}\n\n{old}\n"));
        assert_eq!(both.ids().count(), 2);
        assert_eq!(both.open(id(1), &sealed).unwrap().as_slice(), b"secret");
        let again = both.seal(id(1), b"secret").unwrap();
        assert!(before.open(id(1), &again).is_err());
        let after = read(new);
        assert_eq!(after.first(), both.first());
        assert!(after.open(id(1), &again).is_ok());
        assert!(after.open(id(1), &sealed).is_err());
    }

    #[test]
    fn a_key_file_is_checked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        assert!(MasterKeys::from_file(&path).is_err());
        let good = "0a".repeat(32);
        for bad in [
            "",
            "\n",
            "zz",
            &"g".repeat(64),
            &"é".repeat(32),
            &format!("{good}\nzz"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let refused = MasterKeys::from_file(&path).unwrap_err();
            let field = refused.problem().field.as_deref();
            assert_eq!(field, Some("identity.master_key_file"), "{bad}");
        }
        std::fs::write(&path, format!("{good}\n")).unwrap();
        assert!(MasterKeys::from_file(&path).is_ok());
    }
}
