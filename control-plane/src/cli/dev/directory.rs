//! The data directory of `dev`.
//!
//! ```text
//! postgres/      the private PostgreSQL server
//! standby1/ …    its standbys, copied anew at each start
//! edge/          the edge's key and certificate
//! master.key     what our own keys are sealed under
//! ca.pem         CA certificates, for clients
//! api-key        demo API key
//! admin-token    demo admin token
//! join-token     only between making it and the edge's first start
//! ```

use std::{
    fmt::Write,
    fs::{self, DirBuilder},
    io,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use authguardian_proto::reason::Problem;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::{
    cli::{
        failure::Failure,
        files::{refused, remove_file, write_private},
        pem::pem,
    },
    clock::Ambient,
};

/// `sizeof(sun_path)`, less the final NUL and what the edge appends while it
/// replaces a socket.
const MAX_SOCKET_PATH: usize = 103;

/// Where everything of one `dev` lies; absolute.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    socket: PathBuf,
    /// Made for the socket alone; removed in the end.
    socket_dir: Option<PathBuf>,
}

impl Directory {
    /// Finds the directory, and makes it when it is missing.
    pub(super) fn create(given: Option<PathBuf>) -> Result<Self, Failure> {
        let root = match given {
            Some(dir) => std::path::absolute(&dir).map_err(|error| refused(&dir, &error))?,
            None => default_root()?,
        };
        // as root, PostgreSQL runs as another user, who has to pass through;
        // every file in here is closed to others by itself
        let access = if rustix::process::geteuid().is_root() {
            0o711
        } else {
            0o700
        };
        let parent = root.parent().unwrap_or(&root);
        fs::create_dir_all(parent).map_err(|error| refused(parent, &error))?;
        match DirBuilder::new().mode(access).create(&root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && root.is_dir() => {}
            made => made.map_err(|error| refused(&root, &error))?,
        }
        if root.to_str().is_none() {
            return Err(
                Problem::invalid("data_dir", format!("`{}` is not UTF-8", root.display())).into(),
            );
        }
        let socket = root.join("edge.sock");
        if socket.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH {
            return Ok(Self {
                root,
                socket,
                socket_dir: None,
            });
        }
        let dir = temporary_dir().map_err(|error| refused(&std::env::temp_dir(), &error))?;
        Ok(Self {
            root,
            socket: dir.join("edge.sock"),
            socket_dir: Some(dir),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    pub(super) fn standby(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn edge(&self) -> PathBuf {
        self.root.join("edge")
    }

    pub(super) fn edge_ready(&self) -> PathBuf {
        self.root.join("edge-ready.json")
    }

    /// A path short enough for a socket.
    pub(super) fn edge_socket(&self) -> PathBuf {
        self.socket.clone()
    }

    pub(super) fn master_key(&self) -> PathBuf {
        self.root.join("master.key")
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.root.join("ca.pem")
    }

    pub(super) fn api_key(&self) -> PathBuf {
        self.root.join("api-key")
    }

    pub(super) fn admin_token(&self) -> PathBuf {
        self.root.join("admin-token")
    }

    pub(super) fn join_token(&self) -> PathBuf {
        self.root.join("join-token")
    }

    /// Makes the master key at the first start. One that is there is never
    /// replaced: without it, the database's keys are lost.
    pub(super) fn ensure_master_key(&self, ambient: &Ambient) -> Result<(), Failure> {
        let path = self.master_key();
        if path.exists() {
            return Ok(());
        }
        let key = Zeroizing::new(ambient.entropy.bytes::<32>());
        let mut digits = Zeroizing::new(String::with_capacity(65));
        for byte in key.iter() {
            // writing to a String cannot fail
            let _ = write!(digits, "{byte:02x}");
        }
        digits.push('\n');
        write_private(&path, &digits)
    }

    /// Writes the certificates that clients are to trust.
    pub(super) fn write_ca(&self, certificates: &[CertificateDer<'_>]) -> Result<(), Failure> {
        let pem: String = certificates
            .iter()
            .map(|certificate| pem(certificate))
            .collect();
        write_private(&self.ca_file(), &pem)
    }

    /// A join token that was used has done its work.
    pub(super) fn forget_join_token(&self) -> Result<(), Failure> {
        remove_file(&self.join_token())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(dir) = &self.socket_dir {
            // it holds at most a dead socket
            let _ = fs::remove_dir_all(dir);
        }
    }
}

fn default_root() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/authguardian/dev"));
    }
    // the XDG base directory specification: relative paths are to be ignored
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("authguardian/dev"))
        .ok_or_else(|| {
            Problem::invalid(
                "data_dir",
                "neither HOME nor XDG_STATE_HOME is set: say `--data-dir`",
            )
            .into()
        })
}

/// A directory of our own in the system's temporary directory.
fn temporary_dir() -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    for attempt in 0..1000 {
        let dir = base.join(format!("authguardian-dev-{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| dir),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_master_key_is_made_once_and_for_us_alone() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::create(Some(parent.path().join("a/b"))).unwrap();
        let ambient = crate::cli::ambient().unwrap();
        directory.ensure_master_key(&ambient).unwrap();
        let first = fs::read_to_string(directory.master_key()).unwrap();
        directory.ensure_master_key(&ambient).unwrap();
        assert_eq!(fs::read_to_string(directory.master_key()).unwrap(), first);
        let mode = fs::metadata(directory.master_key())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        crate::identity::seal::MasterKeys::from_file(&directory.master_key()).unwrap();
    }

    #[test]
    fn a_long_directory_gets_a_short_socket() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::create(Some(parent.path().join("x".repeat(120)))).unwrap();
        let socket = directory.edge_socket();
        assert!(socket.as_os_str().len() <= MAX_SOCKET_PATH);
        let dir = socket.parent().unwrap().to_owned();
        assert!(dir.is_dir());
        drop(directory);
        assert!(!dir.exists());
    }
}
