//! The baseline of every durable write: `pgbench` on the same cluster, two
//! inserts in one transaction, as small as a grant and its audit entry could be.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::postgres::Postgres;

const DATABASE: &str = "baseline";

const TABLES: &str = "
CREATE TABLE baseline_grant (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id      text        NOT NULL,
    resource_type text        NOT NULL,
    justification text        NOT NULL,
    issued_at     timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL
);
CREATE TABLE baseline_audit (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL,
    subject    text        NOT NULL,
    action     text        NOT NULL,
    outcome    text        NOT NULL,
    request_id text        NOT NULL
);
CREATE TABLE baseline_budget (
    task_id text   PRIMARY KEY,
    total   bigint NOT NULL,
    spent   bigint NOT NULL,
    CHECK (spent BETWEEN 0 AND total)
) WITH (fillfactor = 50);
INSERT INTO baseline_budget VALUES ('bench', 9007199254740991, 0);";

const SET_REQUEST: &str = "\\set request random(1, 1000000000)\n";
const INSERT_GRANT: &str = "INSERT INTO baseline_grant (agent_id, resource_type, justification, issued_at, expires_at) VALUES ('data_analyst', 'SAP_API', 'Q4 analysis task', now(), now() + interval '1 hour');\n";
const INSERT_AUDIT: &str = "INSERT INTO baseline_audit (at, subject, action, outcome, request_id) VALUES (now(), 'data_analyst', 'grant.request', 'granted', (:request)::text);\n";

const UPDATE_BUDGET: &str = "UPDATE baseline_budget SET spent = spent + 80 WHERE task_id = 'bench' RETURNING total - spent;\n";

/// What a client does over and over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transaction {
    /// What a grant and its audit entry come to without batches.
    TwoInserts,
    /// Hardly more than a commit.
    OneInsert,
    /// Spending from a budget that is one row.
    OneUpdate,
}

/// The baseline's database on a cluster.
pub(crate) struct Pgbench {
    program: PathBuf,
    two_inserts: PathBuf,
    one_insert: PathBuf,
    one_update: PathBuf,
    url: String,
}

/// What it tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Transactions per second.
    pub(crate) rate: f64,
    /// Mean time of a transaction.
    pub(crate) latency: Duration,
}

impl Pgbench {
    /// Makes the baseline's tables on this cluster.
    pub(crate) async fn prepare(postgres: &Postgres) -> Result<Self> {
        postgres
            .execute(&[&format!("CREATE DATABASE {DATABASE}")])
            .await?;
        let url = postgres.url_of(DATABASE);
        let mut connection = PgConnection::connect(&url).await?;
        sqlx::raw_sql(AssertSqlSafe(TABLES))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        let write = |name: &str, parts: &[&str]| -> Result<PathBuf> {
            let path = postgres.dir().join(name);
            std::fs::write(&path, parts.concat())?;
            Ok(path)
        };
        let both = [
            SET_REQUEST,
            "BEGIN;\n",
            INSERT_GRANT,
            INSERT_AUDIT,
            "COMMIT;\n",
        ];
        Ok(Self {
            program: beside_the_server(postgres.part().pid)?,
            two_inserts: write("two_inserts.sql", &both)?,
            one_insert: write("one_insert.sql", &[SET_REQUEST, INSERT_AUDIT])?,
            one_update: write("one_update.sql", &[UPDATE_BUDGET])?,
            url,
        })
    }

    /// So many clients for so long.
    pub(crate) fn run(
        &self,
        transaction: Transaction,
        clients: usize,
        duration: Duration,
    ) -> Result<Figures> {
        let script = match transaction {
            Transaction::TwoInserts => &self.two_inserts,
            Transaction::OneInsert => &self.one_insert,
            Transaction::OneUpdate => &self.one_update,
        };
        let threads = clients.min(std::thread::available_parallelism()?.get());
        let seconds = duration.as_secs().max(1);
        let output = Command::new(&self.program)
            .args(["--no-vacuum", "--protocol=prepared"])
            .arg(format!("--client={clients}"))
            .arg(format!("--jobs={threads}"))
            .arg(format!("--time={seconds}"))
            .arg("--file")
            .arg(script)
            .arg(&self.url)
            .output()
            .context("cannot start `pgbench`")?;
        if !output.status.success() {
            bail!("pgbench: {}", String::from_utf8_lossy(&output.stderr));
        }
        let told = String::from_utf8_lossy(&output.stdout);
        let latency = number(&told, "latency average = ")?;
        Ok(Figures {
            rate: number(&told, "tps = ")?,
            latency: Duration::from_secs_f64(latency / 1e3),
        })
    }
}

/// The `pgbench` of the server's own version.
fn beside_the_server(pid: u32) -> Result<PathBuf> {
    let server = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    let beside = server.with_file_name("pgbench");
    Ok(if beside.is_file() {
        beside
    } else {
        "pgbench".into()
    })
}

fn number(told: &str, after: &str) -> Result<f64> {
    told.split_once(after)
        .and_then(|(_, rest)| rest.split_ascii_whitespace().next()?.parse().ok())
        .with_context(|| format!("pgbench did not tell `{after}`: {told}"))
}
