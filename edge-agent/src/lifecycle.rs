//! How the process ends, and how it tells its supervisor.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use authguardian_proto::ids::MachineId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Where a running edge is found.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The HTTP faces.
    pub http: SocketAddr,
    /// WebSocket alone.
    pub websocket: Option<SocketAddr>,
    /// Where edges of other machines call.
    pub peer: Option<SocketAddr>,
    /// Whether they speak TLS.
    pub has_tls: bool,
    /// The same faces on the Unix socket; absolute.
    pub socket: PathBuf,
    /// This machine.
    pub machine_id: MachineId,
}

impl Addresses {
    /// The URL of the HTTP faces.
    pub fn url(&self) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.http)
    }

    /// The URL of WebSocket alone.
    pub fn websocket_url(&self) -> Option<String> {
        let scheme = if self.has_tls { "wss" } else { "ws" };
        self.websocket
            .map(|address| format!("{scheme}://{address}"))
    }
}

/// Raises the number of files, connections among them, that this process may have
/// open to what the system allows it.
pub fn allow_many_connections() {
    let allowed = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: allowed.maximum,
        maximum: allowed.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, allowed = ?allowed.current, "the limit of open files cannot be raised");
    }
}

/// How long calls under way may take after the stop signal.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Returns on SIGTERM, on SIGINT and, where asked for, when stdin ends: a
/// parent that holds the other end of that pipe and dies takes this process
/// with it.
///
/// # Errors
/// When the signals cannot be waited for.
pub async fn told_to_stop(exit_with_parent: bool) -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = end_of_stdin(), if exit_with_parent => "the end of its parent",
    })
}

/// Counts the SIGHUPs, which ask for files to be read again.
///
/// # Errors
/// When the signal cannot be waited for.
pub fn hangups() -> io::Result<watch::Receiver<u64>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(counted)
}

/// Tells a waiting parent, by a file that is written whole, and systemd.
///
/// # Errors
/// When the file cannot be written.
pub fn tell_ready(file: Option<&Path>, addresses: &Addresses) -> io::Result<()> {
    if let Some(path) = file {
        let body = json!({
            "edge_http": addresses.url(),
            "edge_ws": addresses.websocket_url(),
            "edge_peer": addresses.peer.map(|address| address.to_string()),
            "edge_socket": addresses.socket,
            "machine_id": addresses.machine_id.to_string(),
        });
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, body.to_string())?;
        std::fs::rename(&temporary, path)?;
    }
    // without a supervisor there is nobody to tell
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    Ok(())
}

/// Tells systemd that the process is on its way out.
pub fn tell_stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}

async fn end_of_stdin() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    while matches!(stdin.read(&mut buffer).await, Ok(read) if read > 0) {}
}
