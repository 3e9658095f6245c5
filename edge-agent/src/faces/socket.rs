//! The sockets that clients connect to, and telling who is at the other end.

use std::{collections::HashMap, fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use authguardian_proto::ids::AgentId;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::serve::End;
use crate::config::{ConfigError, Socket};

/// Something that connections come from.
pub(super) trait Listen {
    /// What they are made of.
    type Socket: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static;

    /// The next connection with its other end; `None` when that is nobody who
    /// may connect.
    fn accept(
        &self,
        users: &Users,
    ) -> impl Future<Output = io::Result<Option<(Self::Socket, End)>>> + Send;
}

impl Listen for TcpListener {
    type Socket = TcpStream;

    async fn accept(&self, _: &Users) -> io::Result<Option<(TcpStream, End)>> {
        let (stream, address) = Self::accept(self).await?;
        // small answers are sent at once
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot send without delay");
        }
        let end = End::Address(address.ip().to_canonical());
        Ok(Some((stream, end)))
    }
}

impl Listen for UnixListener {
    type Socket = UnixStream;

    async fn accept(&self, users: &Users) -> io::Result<Option<(UnixStream, End)>> {
        let (stream, _) = Self::accept(self).await?;
        let uid = stream.peer_cred()?.uid();
        let Some(agents) = users.find(uid) else {
            tracing::warn!(uid, "a user that may not use the socket was refused");
            return Ok(None);
        };
        Ok(Some((stream, End::User { uid, agents })))
    }
}

/// Who may use the Unix socket.
#[derive(Debug, Clone)]
pub struct Users {
    own: u32,
    others: HashMap<u32, Arc<[AgentId]>>,
}

impl Users {
    /// Root and the edge's own user, and who is configured.
    ///
    /// # Errors
    /// When an agent is none.
    pub fn new(config: &Socket) -> Result<Self, ConfigError> {
        let others = config
            .users
            .iter()
            .map(|user| Ok((user.uid, user.agents()?.into())));
        Ok(Self {
            own: rustix::process::geteuid().as_raw(),
            others: others.collect::<Result<_, ConfigError>>()?,
        })
    }

    /// Whether anybody else may.
    pub fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// The agents that a user may speak for; the inner `None` are all. Outer
    /// `None`: it may not connect.
    #[expect(clippy::option_option, reason = "nobody and everything are different")]
    fn find(&self, uid: u32) -> Option<Option<Arc<[AgentId]>>> {
        if uid == 0 || uid == self.own {
            return Some(None);
        }
        self.others.get(&uid).cloned().map(Some)
    }
}

/// Binds a socket that only this user can connect to, or everybody on this
/// machine, to be told apart when they do. It is made under another name,
/// closed to others, and then renamed, so that there is no moment in which
/// others could connect; a socket that a crash left behind is replaced.
///
/// # Errors
/// As `bind(2)`, `chmod(2)`, `rename(2)`.
pub fn bind_unix(path: &Path, for_others: bool) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    let mode = if for_others { 0o666 } else { 0o600 };
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))?;
    fs::rename(&temporary, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SocketUser;

    #[tokio::test]
    async fn the_socket_is_for_the_owner_and_replaces_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.sock");
        drop(bind_unix(&path, true).unwrap());
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o666);
        let _listener = bind_unix(&path, false).unwrap();
        assert_eq!(mode(), 0o600);
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[test]
    fn users_are_root_the_own_one_and_those_configured_with_their_agents() {
        let own = rustix::process::geteuid().as_raw();
        let user = SocketUser {
            uid: own + 7,
            agents: vec!["data_analyst".to_owned()],
        };
        let users = Users::new(&Socket { users: vec![user] }).unwrap();
        assert_eq!(users.find(0), Some(None));
        assert_eq!(users.find(own), Some(None));
        let agents = users.find(own + 7).unwrap().unwrap();
        assert_eq!(agents[0].as_str(), "data_analyst");
        assert_eq!(users.find(own + 8), None);
    }
}
