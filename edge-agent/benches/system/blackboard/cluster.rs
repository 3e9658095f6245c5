//! Three PostgreSQL servers under Patroni with three etcd (`deploy/ha/cluster`),
//! ended with the bench.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::cpu::{self, Part};

/// How long a start may take.
const DEADLINE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(20);

/// A running cluster.
pub(super) struct Cluster {
    told: Told,
    script: Child,
    dir: TempDir,
}

/// What `cluster.json` tells.
#[derive(Deserialize)]
struct Told {
    database_url: String,
    superuser_url: String,
    etcd: Vec<String>,
    scope: String,
    namespace: String,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    pg_port: u16,
    pids: Pids,
}

#[derive(Deserialize)]
struct Pids {
    postgres: u32,
}

impl Cluster {
    /// Starts one, and waits until it is whole.
    pub(super) fn start() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("authguardian-bench-")
            // as root, the servers run as another user, who has to pass through
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()?;
        let program: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../deploy/ha/cluster"]
            .iter()
            .collect();
        let mut script = Command::new(program)
            .arg("run")
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start `deploy/ha/cluster`")?;
        let began = Instant::now();
        let file = dir.path().join("cluster.json");
        let told = loop {
            if let Some(told) = read(&file) {
                break told;
            }
            if let Some(status) = script.try_wait()? {
                bail!("the cluster has not started: {status}");
            }
            if began.elapsed() > DEADLINE {
                bail!("the cluster is not whole after {DEADLINE:?}");
            }
            std::thread::sleep(POLL);
        };
        Ok(Self { told, script, dir })
    }

    /// Where control planes connect to.
    pub(super) fn url(&self) -> &str {
        &self.told.database_url
    }

    /// A control plane's settings: a quorum of two, and the lease.
    pub(super) fn settings(&self) -> Vec<String> {
        let Told {
            scope, namespace, ..
        } = &self.told;
        let lease = "database.leader_lease";
        vec![
            format!("database.url={}", self.told.database_url),
            "database.write_quorum=2".to_owned(),
            format!("{lease}.endpoints={}", self.told.etcd.join(",")),
            format!("{lease}.scope={scope}"),
            format!("{lease}.namespace={namespace}"),
        ]
    }

    /// Where etcd's members listen.
    pub(super) fn etcd(&self) -> &[String] {
        &self.told.etcd
    }

    /// A directory for what belongs to the cluster.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// All servers, as one.
    pub(super) fn parts(&self) -> Vec<Part> {
        let part = |node: &Node| Part {
            name: cpu::POSTGRESQL,
            pid: node.pids.postgres,
        };
        self.told.nodes.iter().map(part).collect()
    }

    /// URL of the primary, as the superuser, in the control plane's database.
    pub(super) async fn primary(&self) -> Result<String> {
        for node in &self.told.nodes {
            let url = self.url_of(node)?;
            let Ok(mut connection) = PgConnection::connect(&url).await else {
                continue;
            };
            let is_standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
                .fetch_one(&mut connection)
                .await?;
            if !is_standby {
                return Ok(url);
            }
        }
        bail!("the cluster has no primary")
    }

    /// Carries out statements of our own at the primary.
    pub(super) async fn execute(&self, statements: &[String]) -> Result<()> {
        let mut connection = PgConnection::connect(&self.primary().await?).await?;
        for statement in statements {
            sqlx::query(AssertSqlSafe(statement.clone()))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        Ok(())
    }

    fn url_of(&self, node: &Node) -> Result<String> {
        let (who, _) = self
            .told
            .superuser_url
            .split_once('@')
            .context("a URL with a user")?;
        Ok(format!(
            "{who}@127.0.0.1:{}/authguardian?sslmode=disable",
            node.pg_port
        ))
    }
}

impl Drop for Cluster {
    /// Waits, so that its files can be removed and nothing is left.
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

fn read(file: &Path) -> Option<Told> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}
