//! The edge of `dev`: a process of its own, started again when it dies. Its
//! stdin is a pipe that ends with us, even if we are killed, and it ends then.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use authguardian_proto::reason::{Problem, Reason};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::progress;
use crate::cli::{failure::Failure, files::remove_file};

/// How long the first start may take, joining included.
const START_BOUND: Duration = Duration::from_mins(1);
/// How often the ready file is looked for.
const READY_POLL: Duration = Duration::from_millis(20);
/// Longer than the edge gives its own calls in flight.
const STOP_BOUND: Duration = Duration::from_secs(12);
/// Waits between starts: doubled each time up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// One that ran for so long did not die of its start.
const HEALTHY: Duration = Duration::from_secs(30);

/// What the edge is started with.
#[derive(Debug, Clone)]
pub(super) struct EdgeOptions {
    pub binary: PathBuf,
    pub data_dir: PathBuf,
    pub ready_file: PathBuf,
    pub socket: PathBuf,
    pub listen: SocketAddr,
    pub listen_websocket: SocketAddr,
    /// The control plane's edge listener.
    pub server: String,
    pub log_level: String,
    /// `None` once it has joined.
    pub join_token: Option<Zeroizing<String>>,
}

/// A running edge, and the task that keeps it running.
#[derive(Debug)]
pub(super) struct Edge {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// One process, and the pipe that keeps it alive.
struct Process {
    child: Child,
    // `Child::wait` closes a stdin that it still owns
    lifeline: Option<ChildStdin>,
}

/// The `edge-agent` that stands beside this program.
pub(super) fn binary() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| {
        Failure::internal(format!("cannot tell where this program is: {error}"))
    })?;
    let edge = own.with_file_name("edge-agent");
    if edge.is_file() {
        return Ok(edge);
    }
    let dir = own.parent().unwrap_or(Path::new("."));
    let detail = format!(
        "there is no `edge-agent` in `{}`: build both with `cargo build --workspace --bins`",
        dir.display()
    );
    Err(Failure::internal(detail))
}

impl Edge {
    /// Starts the edge and waits until it is ready.
    pub(super) async fn start(options: EdgeOptions) -> Result<Self, Failure> {
        let mut process = Process::spawn(&options)?;
        let ready = process.ready(&options.ready_file);
        let Ok(ready) = tokio::time::timeout(START_BOUND, ready).await else {
            process.stop().await;
            let bound = START_BOUND.as_secs();
            let detail =
                format!("the edge was not ready after {bound} s; its messages stand above");
            return Err(Problem::new(Reason::Unavailable, detail).into());
        };
        ready?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep_running(process, options, stop.clone()));
        Ok(Self { stop, task })
    }

    /// Lets calls in flight end; returns when the process is gone.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the edge's keeper failed");
        }
    }
}

async fn keep_running(mut process: Process, options: EdgeOptions, stop: CancellationToken) {
    let mut wait = BACKOFF.0;
    loop {
        let born = tokio::time::Instant::now();
        let ended = tokio::select! {
            ended = process.ended() => ended,
            () = stop.cancelled() => return process.stop().await,
        };
        progress(&format!("the edge ended {ended}; starting it again"));
        if born.elapsed() > HEALTHY {
            wait = BACKOFF.0;
        }
        loop {
            if stop
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return;
            }
            wait = (wait * 2).min(BACKOFF.1);
            match Process::spawn(&options) {
                Ok(again) => break process = again,
                Err(failure) => tracing::error!(?failure, "the edge cannot be started"),
            }
        }
    }
}

impl Process {
    fn spawn(options: &EdgeOptions) -> Result<Self, Failure> {
        remove_file(&options.ready_file)?;
        let mut command = Command::new(&options.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AUTHGUARDIAN_") {
                command.env_remove(name);
            }
        }
        // not an argument: those can be read by every user of the machine
        if let Some(token) = &options.join_token {
            command.env("AUTHGUARDIAN_JOIN_TOKEN", token.as_str());
        }
        command
            .env("AUTHGUARDIAN_LOG__LEVEL", &options.log_level)
            .arg("run")
            .arg("--data-dir")
            .arg(&options.data_dir)
            .arg("--listen")
            .arg(options.listen.to_string())
            .arg("--listen-websocket")
            .arg(options.listen_websocket.to_string())
            .arg("--socket")
            .arg(&options.socket)
            .arg("--server")
            .arg(&options.server)
            .arg("--ready-file")
            .arg(&options.ready_file)
            .arg("--exit-with-parent")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // a Ctrl-C at the terminal reaches us alone, and we stop it in its turn
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            Failure::internal(format!(
                "cannot start `{}`: {error}",
                options.binary.display()
            ))
        })?;
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline })
    }

    async fn ready(&mut self, file: &Path) -> Result<(), Failure> {
        loop {
            if file.exists() {
                return Ok(());
            }
            tokio::select! {
                ended = self.ended() => {
                    let detail = format!("the edge ended {ended} before it was ready; its messages stand above");
                    return Err(Failure::internal(detail));
                }
                () = tokio::time::sleep(READY_POLL) => {}
            }
        }
    }

    /// Waits for its end, in words.
    async fn ended(&mut self) -> String {
        self.child
            .wait()
            .await
            .map_or_else(|error| format!("unseen: {error}"), describe)
    }

    async fn stop(mut self) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            tracing::debug!(%error, "the edge was gone already");
        }
        // a read of its stdin would hold up its end
        drop(self.lifeline.take());
        let ended = tokio::time::timeout(STOP_BOUND, self.child.wait()).await;
        if ended.is_err() {
            tracing::warn!("the edge did not end in time and is killed");
            if let Err(error) = self.child.kill().await {
                tracing::warn!(%error, "the edge cannot be killed");
            }
        }
    }
}

fn describe(status: ExitStatus) -> String {
    format!("with {status}")
}
