//! The sockets that clients connect to, and telling who is at the other end.

use std::{fs, io, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::Prompt;
use crate::core::{AnswerBy, Peer};

/// A connection's other end, and its next answer's limit, as axum's connect
/// info.
#[derive(Debug, Clone)]
pub struct PeerOf {
    pub(super) peer: Peer,
    pub(super) answer: AnswerBy,
}

/// TCP that sends small answers at once.
#[derive(Debug)]
pub struct Tcp(pub TcpListener);

impl Listener for Tcp {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot send without delay");
        }
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Prompt<Tcp>>> for PeerOf {
    fn connect_info(stream: IncomingStream<'_, Prompt<Tcp>>) -> Self {
        Self {
            peer: Peer::Tcp(*stream.remote_addr()),
            answer: stream.io().answer(),
        }
    }
}

impl Connected<IncomingStream<'_, Prompt<UnixListener>>> for PeerOf {
    fn connect_info(stream: IncomingStream<'_, Prompt<UnixListener>>) -> Self {
        Self {
            peer: Peer::Unix,
            answer: stream.io().answer(),
        }
    }
}

/// Binds a socket that only this user can connect to. It is made under another
/// name, closed to others, and then renamed, so that there is no moment in
/// which others could connect; a socket that a crash left behind is replaced.
///
/// # Errors
/// As `bind(2)`, `chmod(2)`, `rename(2)`.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_the_owner_and_replaces_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.sock");
        drop(bind_unix(&path).unwrap());
        let _listener = bind_unix(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
    }
}
