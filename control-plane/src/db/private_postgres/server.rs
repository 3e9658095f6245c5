//! The thread that a private server is the child of.
//!
//! Linux sends the parent-death signal when the **thread** that spawned a
//! process ends, not when its process does. Threads of an async runtime come
//! and go, so the server is spawned by a thread of its own, which then has
//! nothing to do but wait for it.

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{oneshot, watch};

use super::{
    Error, Follows, Options,
    account::Account,
    binaries::Binaries,
    directory::{Directory, poll},
    socket::SocketDir,
};

/// A server that takes connections.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) pid: u32,
    pub(super) socket_dir: String,
    /// Unlike the process id it never comes to mean another process.
    handle: Arc<OwnedFd>,
}

impl Server {
    /// Sends a signal; nothing happens when the server has already ended.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&*self.handle, signal);
    }
}

/// Starts a server on a thread of its own, and waits until it is ready. The
/// receiver gets its exit status once it has ended and the directory is free.
pub(super) async fn start(
    options: Options,
) -> Result<(Server, watch::Receiver<Option<ExitStatus>>), Error> {
    let dir = options.data_dir.clone();
    let (ready_sender, ready) = oneshot::channel();
    let (exited_sender, exited) = watch::channel(None);
    thread::Builder::new()
        .name("private-postgres".into())
        .spawn(move || supervise(&options, ready_sender, &exited_sender))
        .map_err(Error::io("start a thread for", &dir))?;
    let lost = |_| Error::Io {
        action: "supervise the server of",
        path: dir,
        source: std::io::Error::other("its thread panicked"),
    };
    Ok((ready.await.map_err(lost)??, exited))
}

fn supervise(
    options: &Options,
    ready: oneshot::Sender<Result<Server, Error>>,
    exited: &watch::Sender<Option<ExitStatus>>,
) {
    let (mut running, server) = match Running::start(options) {
        Ok(started) => started,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if let Err(Ok(server)) = ready.send(Ok(server)) {
        server.signal(Signal::INT); // nobody waits for it any more
    }
    let status = running.child.wait().ok();
    drop(running);
    exited.send_replace(status);
}

/// A postmaster and what it needs while it runs.
struct Running {
    child: Child,
    _socket: SocketDir,
    _directory: Directory,
}

impl Running {
    fn start(options: &Options) -> Result<(Self, Server), Error> {
        let binaries = Binaries::find()?;
        let directory = Directory::hold(&options.data_dir)?;
        directory.wait_until_free(options.start_timeout)?;

        let cluster = directory.cluster();
        let account = Account::choose(directory.root(), &cluster, &binaries.postgres)?;
        if let Some(follows) = &options.follows {
            directory.remove_cluster()?;
            copy(&directory, account, &binaries.pg_basebackup, follows)?;
        } else if !cluster.exists() {
            initialize(&directory, account, &binaries.initdb)?;
        }
        account.own(&cluster)?;

        let socket = SocketDir::create(directory.root(), account)?;
        let socket_dir = socket
            .path()
            .to_str()
            .ok_or_else(|| Error::NotUtf8(socket.path().into()))?;
        let mut command = account.command(&binaries.postgres);
        command
            .arg("-D")
            .arg(&cluster)
            .args(settings(options, socket_dir));

        let (log, log_start) = directory.open_log()?;
        account.own(&directory.log_path())?;
        let mut child = spawn(command, log, "postgres")?;
        let server = Server {
            pid: child.id(),
            socket_dir: socket_dir.to_owned(),
            handle: Arc::new(handle(&child)?),
        };
        wait_until_ready(
            &directory,
            &mut child,
            &server,
            log_start,
            options.start_timeout,
        )?;
        Ok((
            Self {
                child,
                _socket: socket,
                _directory: directory,
            },
            server,
        ))
    }
}

/// Makes the cluster beside its place and renames it, so that a cluster either
/// is not there or is complete.
fn initialize(directory: &Directory, account: Account, initdb: &Path) -> Result<(), Error> {
    let made = directory.new_cluster()?;
    account.own(&made)?;
    let mut command = account.command(initdb);
    command.arg("-D").arg(&made).args([
        "--username=postgres",
        "--auth=trust", // who may reach the socket is decided by its directory's mode
        "--encoding=UTF8",
        "--locale=C", // the one locale that every machine has
        "--no-instructions",
    ]);
    let (log, log_start) = directory.open_log()?;
    let status = spawn(command, log, "initdb")?
        .wait()
        .map_err(Error::io("wait for", initdb))?;
    if !status.success() {
        return Err(failed("initdb", status, directory, log_start));
    }
    directory.install_cluster(&made)
}

/// Makes the cluster a copy of another server's that knows to follow it.
fn copy(
    directory: &Directory,
    account: Account,
    pg_basebackup: &Path,
    follows: &Follows,
) -> Result<(), Error> {
    let made = directory.new_cluster()?;
    account.own(&made)?;
    let mut command = account.command(pg_basebackup);
    command.arg("--pgdata").arg(&made).args([
        "--host",
        &follows.socket_dir,
        "--username=postgres",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--no-sync", // it is made anew at the next start
    ]);
    let (log, log_start) = directory.open_log()?;
    let status = spawn(command, log, "pg_basebackup")?
        .wait()
        .map_err(Error::io("wait for", pg_basebackup))?;
    if !status.success() {
        return Err(failed("pg_basebackup", status, directory, log_start));
    }
    let signal = made.join("standby.signal");
    File::create(&signal).map_err(Error::io("create", &signal))?;
    account.own(&signal)?;
    directory.install_cluster(&made)
}

/// Settings are given at each start and not written into the cluster, so that
/// a new version's hold for an old cluster. What makes it durable (`fsync`,
/// `full_page_writes`, `synchronous_commit`) stays at its default: on.
fn settings(options: &Options, socket_dir: &str) -> impl Iterator<Item = String> {
    // a list, in which quotes keep commas and spaces from parting a path
    let socket_dir = format!("\"{}\"", socket_dir.replace('"', "\"\""));
    let follows = options.follows.as_ref().map(|follows| {
        let host = follows
            .socket_dir
            .replace('\\', "\\\\")
            .replace('\'', "\\'");
        let name = &follows.name;
        let from = format!("host='{host}' user=postgres application_name={name}");
        [("primary_conninfo", from)]
    });
    [
        ("listen_addresses", String::new()),
        ("port", "5432".into()),
        ("unix_socket_directories", socket_dir),
        ("unix_socket_permissions", "0700".into()),
        ("max_connections", options.max_connections.to_string()),
        ("timezone", "UTC".into()),
        ("log_timezone", "UTC".into()),
        // two copies made at once each begin with a checkpoint, and without slots of their own
        // the second one's would remove what the first has yet to stream
        ("wal_keep_size", "256MB".into()),
    ]
    .into_iter()
    .chain(follows.into_iter().flatten())
    .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
}

fn spawn(mut command: Command, log: File, program: &'static str) -> Result<Child, Error> {
    let errors = log
        .try_clone()
        .map_err(Error::io("open the log of", program))?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    // what is executed first is setpriv or unshare, both of Debian's package util-linux
    let path = command.get_program().to_owned();
    command.spawn().map_err(Error::io("execute", path))
}

fn handle(child: &Child) -> Result<OwnedFd, Error> {
    // not yet waited for, so this is still the child
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let opened = pid
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    opened.map_err(|errno| Error::io("open a handle of", "postgres")(errno.into()))
}

/// Waits for the word `ready` in `postmaster.pid`, as pg_ctl does.
fn wait_until_ready(
    directory: &Directory,
    child: &mut Child,
    server: &Server,
    log_start: u64,
    limit: Duration,
) -> Result<(), Error> {
    let pid_file = directory.cluster().join("postmaster.pid");
    let ready = poll(limit, || {
        if let Some(status) = child
            .try_wait()
            .map_err(Error::io("wait for", "postgres"))?
        {
            return Err(failed("postgres", status, directory, log_start));
        }
        Ok(fs::read_to_string(&pid_file)
            .ok()
            .filter(|text| is_ready(text, server.pid)))
    })?;
    if ready.is_some() {
        return Ok(());
    }
    server.signal(Signal::QUIT);
    let _ = child.wait();
    let tail = directory.log_tail(log_start);
    Err(Error::NotReady {
        waited: limit,
        log: directory.log_path(),
        tail,
    })
}

/// `postmaster.pid` has the process id in its first line, the state in its
/// eighth; until the new server has written it, it is an old one's.
fn is_ready(pid_file: &str, pid: u32) -> bool {
    let mut lines = pid_file.lines().map(str::trim);
    lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("ready")
}

fn failed(
    program: &'static str,
    status: ExitStatus,
    directory: &Directory,
    log_start: u64,
) -> Error {
    Error::Failed {
        program,
        status: status.to_string(),
        log: directory.log_path(),
        tail: directory.log_tail(log_start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_pid_file_makes_a_server_ready() {
        let file = "42\n/data\n1700000000\n5432\n/socket\n\n  1 2\nready   \n";
        assert!(is_ready(file, 42));
        assert!(!is_ready(file, 43));
        assert!(!is_ready(&file.replace("ready   ", "starting"), 42));
        assert!(!is_ready("42\n", 42));
    }
}
