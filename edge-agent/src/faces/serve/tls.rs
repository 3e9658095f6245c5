//! TLS of the HTTP faces: which certificate they show.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_util::sync::CancellationToken;

use crate::{config::TlsVersion, identity::CertificateSource};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A certificate that cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` cannot be used: {problem}")]
pub struct CertificateError {
    path: PathBuf,
    problem: String,
}

/// A certificate in files, which may be replaced while the edge runs.
#[derive(Debug)]
pub struct CertificateFiles {
    chain: PathBuf,
    key: PathBuf,
    source: CertificateSource,
    seen: Seen,
}

/// What tells a file from the one that was there before.
type Seen = [Option<(u64, u64, i64, i64)>; 2];

impl CertificateFiles {
    /// Reads them.
    ///
    /// # Errors
    /// When a file cannot be read, or the key is not the certificate's.
    pub fn open(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let seen = seen(chain, key);
        let certified = read(chain, key)?;
        Ok(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            source: Arc::new(ArcSwap::from_pointee(certified)),
            seen,
        })
    }

    /// What new connections are shown.
    pub fn source(&self) -> CertificateSource {
        self.source.clone()
    }

    /// Reads them again when they have changed and whenever `asked` says so,
    /// until `stop`. What cannot be used leaves the old one in use.
    pub async fn follow(
        mut self,
        mut asked: tokio::sync::watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                Ok(()) = asked.changed() => true,
                () = stop.cancelled() => return,
            };
            self.look(is_asked);
        }
    }

    fn look(&mut self, is_asked: bool) {
        let seen = seen(&self.chain, &self.key);
        if !is_asked && seen == self.seen {
            return;
        }
        self.seen = seen;
        match read(&self.chain, &self.key) {
            Ok(certified) => {
                self.source.store(Arc::new(certified));
                tracing::info!(file = %self.chain.display(), "the certificate was read again");
            }
            Err(error) => tracing::error!(%error, "the certificate from before stays in use"),
        }
    }
}

/// How connections are encrypted: HTTP/1.1 over this version or newer, with the
/// newest certificate.
///
/// # Errors
/// When the crypto library does not know the version.
pub(super) fn config(
    source: CertificateSource,
    min_version: TlsVersion,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&rustls::SupportedProtocolVersion] = match min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Newest(source)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Newest(CertificateSource);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let unusable = |path: &Path, problem: String| CertificateError {
        path: path.to_owned(),
        problem,
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(chain, error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(
            chain,
            "there is no PEM certificate in it".to_owned(),
        ));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    CertifiedKey::from_der(certificates, private, &aws_lc_rs::default_provider()).map_err(|error| {
        unusable(
            key,
            format!("with the certificate in `{}`: {error}", chain.display()),
        )
    })
}

fn seen(chain: &Path, key: &Path) -> Seen {
    let state = |path: &Path| -> io::Result<_> {
        let metadata = fs::metadata(path)?;
        let (modified, nanos) = (metadata.mtime(), metadata.mtime_nsec());
        Ok((metadata.ino(), metadata.len(), modified, nanos))
    };
    [state(chain).ok(), state(key).ok()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
        fs::write(&chain, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (chain, key)
    }

    #[test]
    fn what_cannot_be_shown_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = write(dir.path(), "one");
        assert!(CertificateFiles::open(&chain, &key).is_ok());
        let said =
            |chain: &Path, key: &Path| CertificateFiles::open(chain, key).unwrap_err().to_string();
        assert!(said(Path::new("/nowhere.pem"), &key).contains("/nowhere.pem"));
        assert!(said(&key, &key).contains("no PEM certificate"));
        assert!(said(&chain, &chain).contains("chain.pem"));
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        let (_, other_key) = write(&other, "one");
        assert!(said(&chain, &other_key).contains("with the certificate in"));
    }

    #[test]
    fn replaced_files_are_shown_and_broken_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = write(dir.path(), "one");
        let mut files = CertificateFiles::open(&chain, &key).unwrap();
        let source = files.source();
        let first = source.load_full();
        files.look(false);
        assert!(Arc::ptr_eq(&first, &source.load_full()), "nothing changed");

        fs::write(&key, "broken").unwrap();
        files.look(false);
        assert!(Arc::ptr_eq(&first, &source.load_full()));

        write(dir.path(), "another");
        files.look(false);
        let second = source.load_full();
        assert_ne!(first.cert, second.cert);
        files.look(true);
        assert!(!Arc::ptr_eq(&second, &source.load_full()), "asked for");
    }
}
