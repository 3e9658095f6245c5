//! `db::private_postgres`, with real servers.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use control_plane::db::private_postgres::{Error, Options, PrivatePostgres};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::wait;

const RUNNER: &str = env!("CARGO_BIN_EXE_with-postgres");
const NOBODY: u32 = 65534;

async fn start(dir: &Path) -> PrivatePostgres {
    PrivatePostgres::start(Options::new(dir))
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn write_note(url: &str) {
    let mut connection = connect(url).await;
    sqlx::query("CREATE TABLE note AS SELECT 'kept' AS text")
        .execute(&mut connection)
        .await
        .unwrap();
}

async fn read_note(url: &str) -> String {
    sqlx::query_scalar("SELECT text FROM note")
        .fetch_one(&mut connect(url).await)
        .await
        .unwrap()
}

async fn show(connection: &mut PgConnection, setting: &str) -> String {
    let value = sqlx::query_scalar("SELECT current_setting($1)").bind(setting);
    value.fetch_one(connection).await.unwrap()
}

/// Not so when it is only waiting to be reaped.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| !state.starts_with('Z'))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The runner with a command that tells its database's URL and then lives until its input ends.
fn runner(program: &Path, prefix: &[String], data_dir: &Path) -> (Child, String) {
    let words: Vec<_> = prefix
        .iter()
        .map(String::as_str)
        .chain([program.to_str().unwrap()])
        .collect();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--", "sh", "-c", "echo $DATABASE_URL; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    (child, url.trim_end().to_owned())
}

fn postmaster(data_dir: &Path) -> u32 {
    let file = fs::read_to_string(data_dir.join("cluster/postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn it_is_durable_and_on_a_unix_socket_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let mut connection = connect(&server.url()).await;
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        assert_eq!(show(&mut connection, setting).await, "on", "{setting}");
    }
    assert_eq!(show(&mut connection, "listen_addresses").await, "");
    assert_eq!(show(&mut connection, "max_connections").await, "200");
    let socket = fs::metadata(dir.path().join("socket")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o700);
    server.stop().await;
}

#[tokio::test]
async fn stopping_leaves_no_process_and_keeps_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let pid = server.pid();
    write_note(&server.url()).await;
    server.stop().await;
    assert!(!is_alive(pid));

    let server = start(dir.path()).await;
    assert_eq!(read_note(&server.url()).await, "kept");
    server.stop().await;
}

#[tokio::test]
async fn dropping_ends_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let pid = server.pid();
    drop(server);
    wait::until("the server is gone", || !is_alive(pid)).await;
}

#[tokio::test]
async fn a_killed_postmaster_is_noticed_and_its_directory_can_be_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    write_note(&server.url()).await;
    let pid = i32::try_from(server.pid()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(!server.exited().await.unwrap().success());

    let again = start(dir.path()).await;
    assert_eq!(read_note(&again.url()).await, "kept");
    again.stop().await;
}

#[tokio::test]
async fn a_second_holder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    let refused = PrivatePostgres::start(Options::new(dir.path()))
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::InUse(_)), "{refused}");
    connect(&server.url()).await;
    server.stop().await;
}

#[tokio::test]
async fn the_server_goes_with_a_killed_parent_and_the_next_start_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (mut parent, url) = runner(Path::new(RUNNER), &[], dir.path());
    write_note(&url).await;
    let session = connect(&url).await; // which a smart shutdown would wait for
    let pid = postmaster(dir.path());
    parent.kill().unwrap(); // SIGKILL

    // at once, while the old server is still stopping
    let server = start(dir.path()).await;
    assert!(!is_alive(pid));
    assert_eq!(read_note(&server.url()).await, "kept");
    server.stop().await;
    drop(session);
    parent.wait().unwrap();
}

#[tokio::test]
async fn the_servers_leftover_process_id_may_belong_to_another_by_now() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).await.stop().await;
    let own = std::process::id();
    let stale = format!(
        "{own}\n{}\n1700000000\n5432\n\n\n\nready\n",
        dir.path().display()
    );
    fs::write(dir.path().join("cluster/postmaster.pid"), stale).unwrap();
    start(dir.path()).await.stop().await;
}

#[tokio::test]
async fn what_a_killed_initdb_has_left_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("initializing.1");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("PG_VERSION"), "15\n").unwrap();
    start(dir.path()).await.stop().await;
    assert!(!left.exists());
}

#[tokio::test]
async fn a_long_data_directory_has_its_socket_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("a, long' path".repeat(8));
    let server = start(&long).await;
    connect(&server.url()).await;
    let socket = fs::read_link(long.join("socket")).unwrap();
    server.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn what_the_server_says_is_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).await.stop().await;
    fs::write(dir.path().join("cluster/PG_VERSION"), "7\n").unwrap();
    let failed = PrivatePostgres::start(Options::new(dir.path()))
        .await
        .unwrap_err();
    let text = failed.to_string();
    assert!(
        text.contains("server.log") && text.contains("incompatible"),
        "{text}"
    );
}

#[test]
fn without_binaries_the_package_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(RUNNER)
        .args(["--", "true"])
        .env("PG_BIN_DIR", empty.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && text.contains("Debian package `postgresql`"),
        "{text}"
    );
}

#[test]
fn the_runner_ends_as_its_command_does() {
    let run = |script: &str| {
        Command::new(RUNNER)
            .args(["--", "sh", "-c", script])
            .status()
            .unwrap()
    };
    assert_eq!(run("exit 7").code(), Some(7));
    assert_eq!(run("kill -TERM $$").code(), Some(143));
}

#[test]
fn temporary_files_of_the_runners_command_go_with_it() {
    let script = r#"touch "$TMPDIR/left" && stat -c '%a %n' "$TMPDIR" && kill -KILL $$"#;
    let output = Command::new(RUNNER)
        .args(["--", "sh", "-c", script])
        .output();
    let told = String::from_utf8(output.unwrap().stdout).unwrap();
    let (mode, place) = told.trim_end().split_once(' ').unwrap();
    assert_eq!(mode, "1777", "servers of other users have files there too");
    assert!(!Path::new(place).exists(), "{place}");
}

/// A directory that anybody can reach, with the runner in it, for a user who cannot reach ours.
fn public_dir_with_runner() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let runner = dir.path().join("with-postgres");
    fs::copy(RUNNER, &runner).unwrap();
    (dir, runner)
}

#[tokio::test]
async fn a_normal_user_can_run_it_and_root_afterwards_leaves_it_to_that_user() {
    if !is_root() {
        return; // then all the other tests have shown the first half
    }
    let (dir, program) = public_dir_with_runner();
    let data_dir = dir.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    chown(&data_dir, Some(NOBODY), Some(NOBODY)).unwrap();
    let user = format!("setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups");
    let user: Vec<_> = user.split(' ').map(str::to_owned).collect();

    let (mut parent, url) = runner(&program, &user, &data_dir);
    let pid = postmaster(&data_dir);
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), NOBODY);
    write_note(&url).await;
    parent.kill().unwrap();
    wait::until("the server is gone", || !is_alive(pid)).await;
    parent.wait().unwrap();

    let server = start(&data_dir).await;
    assert_eq!(read_note(&server.url()).await, "kept");
    server.stop().await;

    let (mut parent, url) = runner(&program, &user, &data_dir);
    assert_eq!(read_note(&url).await, "kept");
    drop(parent.stdin.take());
    assert!(parent.wait().unwrap().success());
}

#[tokio::test]
async fn root_can_run_it_where_nobody_else_gets() {
    if !is_root() {
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let data_dir = closed.path().join("data");
    let namespaces = Command::new("unshare")
        .args(["--user", "--map-user=1000", "true"])
        .status();
    let started = PrivatePostgres::start(Options::new(&data_dir)).await;
    if !namespaces.is_ok_and(|status| status.success()) {
        assert!(matches!(started, Err(Error::Unreachable(_))));
        return;
    }
    let server = started.unwrap();
    write_note(&server.url()).await;
    assert_eq!(fs::metadata(data_dir.join("cluster")).unwrap().uid(), 0);
    server.stop().await;

    // and it goes with a killed parent there, too
    let (mut parent, url) = runner(Path::new(RUNNER), &[], &data_dir);
    assert_eq!(read_note(&url).await, "kept");
    let pid = postmaster(&data_dir);
    parent.kill().unwrap();
    wait::until("the server is gone", || !is_alive(pid)).await;
    parent.wait().unwrap();

    // once others get there, it becomes theirs
    fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let server = start(&data_dir).await;
    assert_eq!(read_note(&server.url()).await, "kept");
    assert_ne!(
        fs::metadata(format!("/proc/{}", server.pid()))
            .unwrap()
            .uid(),
        0
    );
    server.stop().await;
}
