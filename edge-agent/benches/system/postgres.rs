//! A PostgreSQL cluster for one section: durable, private, gone with the bench.

use std::{path::Path, thread};

use anyhow::Result;
use control_plane::db::private_postgres::{Options, PrivatePostgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::cpu::{self, Part};

/// A running cluster.
pub(crate) struct Postgres {
    /// Taken when it is stopped.
    server: Option<PrivatePostgres>,
    pid: u32,
    url: String,
    dir: TempDir,
}

impl Postgres {
    /// Makes and starts one.
    pub(crate) async fn start() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("authguardian-bench-")
            // as root, PostgreSQL runs as another user, who has to pass through
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .tempdir()?;
        let server = PrivatePostgres::start(Options::new(dir.path().join("primary"))).await?;
        Ok(Self {
            pid: server.pid(),
            url: server.url(),
            server: Some(server),
            dir,
        })
    }

    /// URL of the control plane's database.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// URL of a database of the baseline, on the same cluster.
    pub(crate) fn url_of(&self, database: &str) -> String {
        self.server
            .as_ref()
            .map(|server| server.url_of(database))
            .unwrap_or_default()
    }

    /// The postmaster.
    pub(crate) fn part(&self) -> Part {
        Part {
            name: cpu::POSTGRESQL,
            pid: self.pid,
        }
    }

    /// A directory for what belongs to the cluster.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A superuser's connection.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    /// Carries out statements of our own, one after the other.
    pub(crate) async fn execute(&self, statements: &[&str]) -> Result<()> {
        let mut connection = self.connect().await?;
        for statement in statements {
            sqlx::query(AssertSqlSafe((*statement).to_owned()))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        Ok(())
    }

    /// One number that a query of our own tells, in this database.
    pub(crate) async fn number(&self, database: &str, query: &str) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.url_of(database)).await?;
        let number = sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(number)
    }
}

impl Drop for Postgres {
    /// Waits, so that its files can be removed and nothing is left.
    fn drop(&mut self) {
        let Some(server) = self.server.take() else {
            return;
        };
        let stop = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime {
                runtime.block_on(server.stop());
            }
        };
        let _ = thread::spawn(stop).join();
    }
}
