//! Backups, their restore, and the fence between a restored database and the
//! one that was lost.

mod fence;
mod positions;
mod refused;
mod verbs;

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use control_plane::{config::Config, testing::TestDatabase};
use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::process::Command;

use crate::wait::DEADLINE;

/// A database with nothing in it, on the server of another one.
struct Empty {
    url: String,
}

impl Empty {
    async fn beside(database: &TestDatabase) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let options: PgConnectOptions = database.url().parse().unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{count}", options.get_database().unwrap());
        let create = format!(r#"CREATE DATABASE "{name}""#);
        sqlx::query(AssertSqlSafe(create))
            .execute(database.pool())
            .await
            .unwrap();
        Self {
            url: options.database(&name).to_url_lossy().into(),
        }
    }

    /// How many tables, functions and the like it has.
    async fn holds(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)
                  + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap()
    }
}

/// A verb of the configured control plane, on a database.
fn verb(config: &Config, database_url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUTHGUARDIAN_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .env("AUTHGUARDIAN_DATABASE__URL", database_url)
        .env(
            "AUTHGUARDIAN_IDENTITY__TRUST_DOMAIN",
            &config.identity.trust_domain,
        )
        .env(
            "AUTHGUARDIAN_IDENTITY__MASTER_KEY_FILE",
            &config.identity.master_key_file,
        )
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> Output {
    tokio::time::timeout(DEADLINE, command.output())
        .await
        .unwrap()
        .unwrap()
}

/// What a verb that succeeds tells, and what it says meanwhile.
async fn told(command: Command) -> (Value, String) {
    let output = output(command).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

/// Why a verb is refused, and its exit code.
async fn refused(command: Command) -> (String, i32) {
    let output = output(command).await;
    let said = String::from_utf8(output.stderr).unwrap();
    let code = output.status.code().unwrap();
    assert_ne!(code, 0, "{said}");
    (said, code)
}

/// A backup of a database, in a directory of its own.
struct Backup {
    directory: PathBuf,
    files: TempDir,
}

impl Backup {
    async fn of(config: &Config) -> (Self, Value, String) {
        let files = tempfile::tempdir().unwrap();
        let directory = files.path().join("monday");
        let path = directory.to_str().unwrap();
        let arguments = ["backup", "--output", path, "-o", "json"];
        let (view, said) = told(verb(config, config.database.url.expose(), &arguments)).await;
        (Self { directory, files }, view, said)
    }

    fn path(&self) -> &str {
        self.directory.to_str().unwrap()
    }

    fn manifest(&self) -> Value {
        read(&self.directory.join("manifest.json"))
    }

    /// The manifest, changed.
    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut manifest = self.manifest();
        change(&mut manifest);
        let path = self.directory.join("manifest.json");
        std::fs::write(path, manifest.to_string()).unwrap();
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
