//! A streaming standby that confirms a commit only after a while, as one in
//! another place would.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Result, ensure};
use sqlx::Connection;
use tokio::time::Instant;

use crate::{
    cpu::{self, Part},
    postgres::Postgres,
};

/// How long it may take to copy the primary and to follow it.
const DEADLINE: Duration = Duration::from_mins(1);
/// How often it is looked whether it follows.
const POLL: Duration = Duration::from_millis(20);
/// Its name for `synchronous_standby_names`.
const NAME: &str = "standby";
/// Whether it is one whose confirmation counts.
const CONFIRMS: &str = "SELECT count(*) FROM pg_stat_replication
    WHERE state = 'streaming' AND sync_state = 'quorum'";

/// A running standby, killed when it is dropped.
pub(crate) struct Standby(Child);

impl Standby {
    /// Copies the primary, follows it, and from then on every commit there
    /// waits until it was applied here, `delay` after it was made.
    pub(crate) async fn follow(primary: &Postgres, delay: Duration) -> Result<Self> {
        let as_owner = AsOwner::of(primary.part().pid)?;
        let directory = primary.dir().join(NAME);
        DirBuilder::new().mode(0o700).create(&directory)?;
        if rustix::process::geteuid().is_root() {
            chown(&directory, Some(as_owner.uid), Some(as_owner.gid))?;
        }
        let copied = as_owner
            .command("pg_basebackup")
            .args(["--write-recovery-conf", "--checkpoint=fast", "--pgdata"])
            .arg(&directory)
            .arg("--dbname")
            .arg(primary.url())
            .status()?;
        ensure!(copied.success(), "`pg_basebackup` has failed: {copied}");
        let standby = Self(as_owner.serve(&directory, delay)?);
        primary
            .execute(&[
                &format!("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ({NAME})'"),
                "ALTER SYSTEM SET synchronous_commit = remote_apply",
                "SELECT pg_reload_conf()",
            ])
            .await?;
        if let Err(error) = until_it_confirms(primary).await {
            let log = std::fs::read_to_string(directory.with_extension("log"))?;
            return Err(error.context(log));
        }
        Ok(standby)
    }

    /// The process.
    pub(crate) fn part(&self) -> Part {
        Part {
            name: cpu::STANDBY,
            pid: self.0.id(),
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until_it_confirms(primary: &Postgres) -> Result<()> {
    let mut connection = primary.connect().await?;
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>(CONFIRMS)
        .fetch_one(&mut connection)
        .await?
        == 0
    {
        ensure!(began.elapsed() < DEADLINE, "the standby does not follow");
        tokio::time::sleep(POLL).await;
    }
    connection.close().await?;
    Ok(())
}

/// The primary's programs, run as the user that it runs as.
struct AsOwner {
    programs: PathBuf,
    uid: u32,
    gid: u32,
}

impl AsOwner {
    fn of(pid: u32) -> Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let owner = process.metadata()?;
        Ok(Self {
            programs: process.join("exe").read_link()?,
            uid: owner.uid(),
            gid: owner.gid(),
        })
    }

    /// Ends with the thread that spawns it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if rustix::process::geteuid().is_root() {
            command.arg(format!("--reuid={}", self.uid));
            command.arg(format!("--regid={}", self.gid));
            command.arg("--clear-groups");
        }
        command.args(["--pdeathsig", "INT"]);
        command.arg(self.programs.with_file_name(program));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.current_dir("/");
        command
    }

    fn serve(&self, directory: &Path, delay: Duration) -> Result<Child> {
        let settings = [
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories={}", directory.display()),
            format!("cluster_name={NAME}"),
            format!("recovery_min_apply_delay={}ms", delay.as_millis()),
            // one that allows fewer than its primary refuses to follow
            "max_connections=1000".to_owned(),
        ];
        let mut command = self.command("postgres");
        command.arg("-D").arg(directory);
        command.stderr(File::create(directory.with_extension("log"))?);
        for setting in settings {
            command.args(["-c", &setting]);
        }
        Ok(command.spawn()?)
    }
}
