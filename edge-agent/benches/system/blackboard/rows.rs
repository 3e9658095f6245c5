//! What a write comes to without batches: `pgbench` writing the same rows into
//! tables of the same form, one transaction each.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use super::cluster::Cluster;
use crate::keys::VALUE;

/// A board of its own, so that it and the control plane do not meet.
pub(super) const BOARD: &str = "baseline";

/// One write.
const SCRIPT: &str = include_str!("rows.sql");

/// The script, and where it runs.
pub(super) struct Rows {
    program: PathBuf,
    script: PathBuf,
    log: PathBuf,
    url: String,
}

/// What it tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    /// Transactions per second.
    pub(super) rate: f64,
    /// Median time of a transaction, µs.
    pub(super) p50_us: f64,
    /// 99th percentile, µs.
    pub(super) p99_us: f64,
}

impl Rows {
    /// Writes the script; the tables are the control plane's.
    pub(super) async fn prepare(cluster: &Cluster) -> Result<Self> {
        let script = cluster.dir().join("rows.sql");
        let value = format!("'{VALUE}'");
        std::fs::write(&script, SCRIPT.replace("{value}", &value))?;
        Ok(Self {
            program: program(cluster)?,
            script,
            log: cluster.dir().join("pgbench"),
            url: cluster.primary().await?,
        })
    }

    /// So many clients for so long, on so many keys.
    pub(super) fn run(&self, clients: usize, keys: u64, duration: Duration) -> Result<Figures> {
        let threads = clients.min(std::thread::available_parallelism()?.get());
        let output = Command::new(&self.program)
            .args(["--no-vacuum", "--protocol=prepared", "--log"])
            .arg(format!("--client={clients}"))
            .arg(format!("--jobs={threads}"))
            .arg(format!("--time={}", duration.as_secs().max(1)))
            .arg(format!("--define=keys={keys}"))
            .arg(format!("--log-prefix={}", self.log.display()))
            .arg("--file")
            .arg(&self.script)
            .arg(&self.url)
            .output()
            .context("cannot start `pgbench`")?;
        if !output.status.success() {
            bail!("pgbench: {}", String::from_utf8_lossy(&output.stderr));
        }
        let told = String::from_utf8_lossy(&output.stdout);
        let rate = told
            .split_once("tps = ")
            .and_then(|(_, rest)| rest.split_ascii_whitespace().next()?.parse().ok())
            .with_context(|| format!("pgbench did not tell its rate: {told}"))?;
        let mut latencies = self.latencies()?;
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let index = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            let latency = latencies.get(index).copied();
            latency.map(f64::from).context("pgbench logged nothing")
        };
        Ok(Figures {
            rate,
            p50_us: percentile(50)?,
            p99_us: percentile(99)?,
        })
    }

    /// µs of every transaction; the files are gone then.
    fn latencies(&self) -> Result<Vec<u32>> {
        let dir = self.log.parent().context("a directory")?;
        let mut latencies = Vec::new();
        for file in std::fs::read_dir(dir)? {
            let path = file?.path();
            let name = path.file_name().and_then(std::ffi::OsStr::to_str);
            if !name.is_some_and(|name| name.starts_with("pgbench.")) {
                continue;
            }
            let log = std::fs::read_to_string(&path)?;
            // client, transaction, µs, …
            latencies.extend(
                log.lines()
                    .filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u32>().ok()),
            );
            std::fs::remove_file(path)?;
        }
        Ok(latencies)
    }
}

/// The `pgbench` of the servers' own version.
fn program(cluster: &Cluster) -> Result<PathBuf> {
    let part = cluster.parts().into_iter().next().context("a server")?;
    let server = std::fs::read_link(format!("/proc/{}/exe", part.pid))?;
    let beside = server.with_file_name("pgbench");
    Ok(if beside.is_file() {
        beside
    } else {
        "pgbench".into()
    })
}
