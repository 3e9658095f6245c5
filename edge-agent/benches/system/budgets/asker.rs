//! Clients that set an amount aside and settle it, by REST and by MCP.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{RESERVED, SPENT};
use crate::{http::Connection, load::Client, mcp, system::AGENT};

/// Where an edge answers, first `request_allocation`, then `report_spending`.
pub(super) const AT_AN_EDGE: Paths = [
    "/mcp/tools/request_allocation",
    "/mcp/tools/report_spending",
];
/// Where the bare handler does as if.
pub(super) const AT_A_BARE_HANDLER: Paths = ["/allocate", "/report"];

/// For the one and the other.
pub(super) type Paths = [&'static str; 2];

/// Of an allocation.
#[derive(Deserialize)]
struct Allocated {
    granted: u64,
    reservation_id: String,
}

/// Of a report.
#[derive(Deserialize)]
struct Reported {
    recorded: u64,
    overdraft: u64,
}

/// A client by REST, on a connection of its own.
pub(super) struct ByRest {
    connection: Connection,
    paths: Paths,
    task: String,
}

/// A client by MCP, on one connection for each tool.
pub(super) struct ByMcp {
    allocating: mcp::Caller,
    reporting: mcp::Caller,
    task: String,
}

impl ByRest {
    /// So many, each of which spends from one of these tasks.
    pub(super) async fn open(
        count: usize,
        (server, paths): (SocketAddr, Paths),
        api_key: &str,
        tasks: &[String],
    ) -> Result<Vec<Self>> {
        let bearer = format!("Bearer {api_key}");
        let headers = [("Authorization", bearer.as_str())];
        let mut askers = Vec::new();
        for task in tasks.iter().cycle().take(count) {
            askers.push(Self {
                connection: Connection::open(server, paths[0], &headers).await?,
                paths,
                task: task.clone(),
            });
        }
        Ok(askers)
    }

    /// One pair; how long the answers are.
    pub(super) async fn pair(&mut self) -> Result<[usize; 2]> {
        let [allocating, reporting] = self.paths;
        self.connection.go_to(allocating);
        let told = self
            .connection
            .post(&allocate(&self.task, RESERVED))
            .await?;
        let (allocated, first) = (read::<Allocated>(told)?, told.len());
        let asked = report(&self.task, &allocated.checked(RESERVED)?);
        self.connection.go_to(reporting);
        let told = self.connection.post(&asked).await?;
        read::<Reported>(told)?.check()?;
        Ok([first, told.len()])
    }

    /// Sets an amount aside, and leaves it so.
    pub(super) async fn allocate(&mut self, task: &str, amount: u64) -> Result<()> {
        let [allocating, _] = self.paths;
        self.connection.go_to(allocating);
        let told = self.connection.post(&allocate(task, amount)).await?;
        read::<Allocated>(told)?.checked(amount).map(drop)
    }
}

impl ByMcp {
    /// So many, each of which spends from one of these tasks.
    pub(super) async fn open(
        count: usize,
        server: SocketAddr,
        api_key: &str,
        tasks: &[String],
    ) -> Result<Vec<Self>> {
        let mut askers = Vec::new();
        for task in tasks.iter().cycle().take(count) {
            askers.push(Self {
                allocating: mcp::Caller::open(server, api_key, "request_allocation").await?,
                reporting: mcp::Caller::open(server, api_key, "report_spending").await?,
                task: task.clone(),
            });
        }
        Ok(askers)
    }
}

impl Client for ByRest {
    async fn call(&mut self) -> Result<()> {
        self.pair().await.map(drop)
    }
}

impl Client for ByMcp {
    async fn call(&mut self) -> Result<()> {
        let asked = allocate(&self.task, RESERVED);
        let allocated: Allocated = self.allocating.call(&asked).await?;
        let asked = report(&self.task, &allocated.checked(RESERVED)?);
        let reported: Reported = self.reporting.call(&asked).await?;
        reported.check()
    }
}

impl Allocated {
    /// Its id, where it is what was asked for.
    fn checked(self, amount: u64) -> Result<String> {
        ensure!(self.granted == amount, "{} were set aside", self.granted);
        Ok(self.reservation_id)
    }
}

impl Reported {
    fn check(&self) -> Result<()> {
        ensure!(
            self.recorded == SPENT && self.overdraft == 0,
            "{} were recorded, {} of it overdraft",
            self.recorded,
            self.overdraft
        );
        Ok(())
    }
}

fn allocate(task: &str, amount: u64) -> String {
    format!(r#"{{"agent_id":"{AGENT}","task_id":"{task}","tokens":{amount}}}"#)
}

fn report(task: &str, reservation: &str) -> String {
    format!(
        r#"{{"agent_id":"{AGENT}","task_id":"{task}","tokens":{SPENT},"reservation_id":"{reservation}"}}"#
    )
}

fn read<'a, T: Deserialize<'a>>(told: &'a [u8]) -> Result<T> {
    serde_json::from_slice(told)
        .with_context(|| format!("not a result: {}", String::from_utf8_lossy(told)))
}
