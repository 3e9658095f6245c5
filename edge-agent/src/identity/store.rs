//! Where the identity lies on disk, and in which order its files change.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{Identity, IdentityError, MachineKey, files, record};

/// The identity's directory, held by one process at a time.
///
/// | file | what |
/// |---|---|
/// | `machine.json` | the identity in use |
/// | `next.json` | a renewed identity that was not used yet |
/// | `pending.key` | a key that a certificate was, or will be, asked for |
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    _lock: File,
}

/// The identity's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("cannot use `{path}`: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process holds the directory.
    #[error("`{path}` is in use by another edge-agent")]
    Locked {
        /// Which directory.
        path: PathBuf,
    },
    /// A file has been changed or damaged.
    #[error("`{path}` is damaged; restore it, or remove it and join again")]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] IdentityError),
}

impl Store {
    /// Opens the identity under a data directory; makes what is missing.
    ///
    /// # Errors
    /// [`StoreError::Io`], and [`StoreError::Locked`] while another process
    /// has it open.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let dir = data_dir.join("identity");
        let failed = |source| StoreError::Io {
            path: dir.clone(),
            source,
        };
        crate::files::make_private_dir(&dir).map_err(failed)?;
        let lock = File::create(dir.join("lock")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked { path: dir }),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The identity in use; `None` before the machine has joined.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    pub fn load(&self) -> Result<Option<Identity>, StoreError> {
        self.read("machine.json")
    }

    /// The key that a certificate is asked for next: the same at every call,
    /// also after a crash, until [`Store::adopt`] or [`Store::stage`].
    pub(super) fn pending_key(&self) -> Result<MachineKey, StoreError> {
        let path = self.dir.join("pending.key");
        if let Some(der) = crate::files::read(&path).map_err(|source| self.failed(&path, source))? {
            return Ok(MachineKey::from_pkcs8(der));
        }
        let key = MachineKey::generate()?;
        self.write(&path, key.pkcs8())?;
        Ok(key)
    }

    /// Takes a first identity into use.
    pub(super) fn adopt(&self, identity: &Identity) -> Result<(), StoreError> {
        self.write(&self.dir.join("machine.json"), &record::write(identity))?;
        self.forget_pending()
    }

    /// Replaces the identity in use by the same one that trusts other CAs.
    pub(super) fn keep(&self, identity: &Identity) -> Result<(), StoreError> {
        self.write(&self.dir.join("machine.json"), &record::write(identity))
    }

    /// Keeps a renewed identity beside the one in use.
    pub(super) fn stage(&self, identity: &Identity) -> Result<(), StoreError> {
        self.write(&self.dir.join("next.json"), &record::write(identity))?;
        self.forget_pending()
    }

    /// The renewed identity that was not used yet.
    pub(super) fn staged(&self) -> Result<Option<Identity>, StoreError> {
        self.read("next.json")
    }

    /// The staged identity has been used: it replaces the old one.
    pub(super) fn promote(&self) -> Result<(), StoreError> {
        let next = self.dir.join("next.json");
        files::rename(&next, &self.dir.join("machine.json"))
            .map_err(|source| self.failed(&next, source))
    }

    /// The staged identity cannot be used: the old one stays.
    pub(super) fn discard_staged(&self) -> Result<(), StoreError> {
        let next = self.dir.join("next.json");
        files::remove(&next).map_err(|source| self.failed(&next, source))
    }

    fn forget_pending(&self) -> Result<(), StoreError> {
        let pending = self.dir.join("pending.key");
        files::remove(&pending).map_err(|source| self.failed(&pending, source))
    }

    fn read(&self, name: &str) -> Result<Option<Identity>, StoreError> {
        let path = self.dir.join(name);
        match crate::files::read(&path).map_err(|source| self.failed(&path, source))? {
            None => Ok(None),
            Some(json) => record::read(&json)
                .map(Some)
                .ok_or(StoreError::Damaged { path }),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        files::replace(path, bytes).map_err(|source| self.failed(path, source))
    }

    #[expect(clippy::unused_self, reason = "reads as a step of the store")]
    fn failed(&self, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io {
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::identity::Validity;

    /// An identity with a self-signed certificate.
    pub(crate) fn identity(machine_name: &str) -> Identity {
        let key = MachineKey::generate().unwrap();
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from(key.pkcs8().to_vec());
        let pair = KeyPair::try_from(&der).unwrap();
        let certificate = CertificateParams::default().self_signed(&pair).unwrap();
        let certificate: CertificateDer<'static> = certificate.der().clone();
        Identity {
            machine_id: "mch_0000000000000000000007".parse().unwrap(),
            machine_name: machine_name.to_owned(),
            trust_domain: "authguardian.local".to_owned(),
            server: "https://127.0.0.1:3004".parse().unwrap(),
            validity: Validity::of(&certificate).unwrap(),
            key,
            chain: vec![certificate.clone()],
            authorities: vec![certificate],
        }
    }

    #[test]
    fn a_pending_key_is_the_same_until_its_certificate_came() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = store.pending_key().unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.pending_key().unwrap().pkcs8(), key.pkcs8());
        store.adopt(&identity("a")).unwrap();
        assert_ne!(store.pending_key().unwrap().pkcs8(), key.pkcs8());
    }

    #[test]
    fn the_old_identity_stays_until_the_new_one_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(store.load().unwrap().is_none());
        store.adopt(&identity("old")).unwrap();
        store.stage(&identity("new")).unwrap();
        assert_eq!(store.load().unwrap().unwrap().machine_name, "old");
        assert_eq!(store.staged().unwrap().unwrap().machine_name, "new");
        store.promote().unwrap();
        assert_eq!(store.load().unwrap().unwrap().machine_name, "new");
        assert!(store.staged().unwrap().is_none());
        assert!(store.load().unwrap().unwrap().tls().is_ok());
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let _store = Store::open(dir.path()).unwrap();
        assert!(matches!(
            Store::open(dir.path()),
            Err(StoreError::Locked { .. })
        ));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("identity/machine.json"), "{").unwrap();
        let error = store.load().unwrap_err();
        assert!(error.to_string().contains("machine.json"), "{error}");
    }
}
