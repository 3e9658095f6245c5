//! Runs a command with a private PostgreSQL server, and stops the server when
//! the command ends.
//!
//! ```text
//! with-postgres [--data-dir DIR] -- cargo nextest run
//! ```
//!
//! The command finds `AUTHGUARDIAN_TEST_POSTGRES_URL`, the server for
//! `control_plane::testing`, and `DATABASE_URL`, a database on it to which the
//! migrations of the working tree have been applied: not those compiled in,
//! for this also serves to compile queries against a schema that is new. Its
//! temporary files go to a directory that is removed with the server, also
//! those of what is killed.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
};

use anyhow::Context;
use clap::Parser;
use control_plane::{
    db::private_postgres::{Options, PrivatePostgres},
    testing,
};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection, migrate::Migrator};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");

#[derive(Parser)]
#[command(about = "Runs a command with a private PostgreSQL server")]
struct Arguments {
    /// Where the server keeps its data; a temporary directory unless given.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
    let data_dir = arguments
        .data_dir
        .unwrap_or_else(|| temporary.path().to_owned());
    // every test process has pools of its own
    let options = Options {
        max_connections: 500,
        ..Options::new(data_dir)
    };
    let scratch = scratch().context("cannot make a directory for temporary files")?;
    let server = PrivatePostgres::start(options).await?;
    let status = run(&server, &arguments.command, scratch.path()).await;
    server.stop().await;
    Ok(exit_code(status?))
}

/// A directory for temporary files that all users may use, as the system's own: root starts
/// servers as another one.
fn scratch() -> std::io::Result<TempDir> {
    let scratch = tempfile::tempdir()?;
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o1777))?;
    Ok(scratch)
}

async fn run(
    server: &PrivatePostgres,
    command: &[String],
    scratch: &Path,
) -> anyhow::Result<ExitStatus> {
    let mut connection = PgConnection::connect(&server.url()).await?;
    Migrator::new(Path::new(MIGRATIONS))
        .await?
        .run(&mut connection)
        .await?;
    connection.close().await?;

    let (program, arguments) = command.split_first().context("no command given")?;
    let mut command = Command::new(program);
    command.args(arguments);
    command.env(testing::SERVER_VARIABLE, server.url_of("postgres"));
    command.env("DATABASE_URL", server.url());
    command.env("TMPDIR", scratch);
    let child = command
        .spawn()
        .with_context(|| format!("cannot execute `{program}`"))?;
    wait(child).await
}

/// A terminal sends Ctrl-C to the command too, and so only the command decides
/// when to end; SIGTERM comes to us alone, and is passed on.
async fn wait(mut child: Child) -> anyhow::Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                if let Some(pid) = pid {
                    kill_process(pid, Signal::TERM)?;
                }
            }
        }
    }
}

/// A command that a signal ended has 128 + its number, as in a shell.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
