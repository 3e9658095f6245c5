//! Three PostgreSQL servers under Patroni with three etcd (`deploy/ha/cluster`),
//! each process of which can be killed, stopped and started again, and each
//! database node cut off. Nothing outlives the test, however it ends.

mod failover;
mod following;
mod layout;
mod network;
mod process;
mod sealing;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use control_plane::config::{Config, LeaderLease};
use reqwest::Client;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

pub(crate) use self::process::Process;
use self::{layout::Layout, network::Network};
use crate::{edge::http, wait::until_async};

/// Database nodes, and etcd members.
pub(crate) const NODES: usize = 3;

/// Of a node's log, where the cluster does not start.
const LINES: usize = 40;

/// A cluster that runs until it is dropped.
pub(crate) struct Cluster {
    layout: Layout,
    network: Option<Network>,
    told: Value,
    http: Client,
    script: Child,
    dir: TempDir,
}

impl Cluster {
    /// Starts one, and waits until it has a primary and two standbys that
    /// confirm its writes.
    pub(crate) async fn start() -> Self {
        Self::start_on(Layout::on_free_ports(), None).await
    }

    /// One whose database nodes can be cut off: what they send and are sent
    /// passes through this process. etcd's members talk to each other directly;
    /// stopping one cuts it off as well.
    pub(crate) async fn start_with_network() -> Self {
        let mut layout = Layout::on_free_ports();
        let network = Network::between(&mut layout).await;
        Self::start_on(layout, Some(network)).await
    }

    /// Where control planes connect to; see also [`Cluster::configure`].
    pub(crate) fn database_url(&self) -> &str {
        self.text("database_url")
    }

    /// etcd's members.
    pub(crate) fn etcd(&self) -> Vec<String> {
        let members = self.told["etcd"].as_array().unwrap();
        let text = |member: &Value| member.as_str().unwrap().to_owned();
        members.iter().map(text).collect()
    }

    /// Sets a control plane's `[database]` to this cluster: a write quorum of
    /// two, and the leader lease.
    pub(crate) fn configure(&self, config: &mut Config) {
        config.database.url = self.database_url().to_owned().into();
        config.database.write_quorum = 2;
        config.database.leader_lease = LeaderLease {
            endpoints: self.etcd(),
            scope: self.text("scope").to_owned(),
            namespace: self.text("namespace").to_owned(),
            ..LeaderLease::default()
        };
    }

    /// The same as `section.key=value`, for `control-plane … --set`.
    pub(crate) fn settings(&self) -> Vec<String> {
        vec![
            format!("database.url={}", self.database_url()),
            "database.write_quorum=2".to_owned(),
            format!("database.leader_lease.endpoints={}", self.etcd().join(",")),
            format!("database.leader_lease.scope={}", self.text("scope")),
            format!("database.leader_lease.namespace={}", self.text("namespace")),
        ]
    }

    /// Which node is the primary, by its own Patroni and PostgreSQL; `None`
    /// while there is none. A node whose Patroni does not answer is none.
    pub(crate) async fn primary(&self) -> Option<usize> {
        let asked = (0..NODES).map(async |node| self.answers(node, "primary").await);
        let answers = futures::future::join_all(asked).await;
        answers.iter().position(|primary| *primary)
    }

    /// Waits for a primary that is another than `deposed`, and returns it.
    pub(crate) async fn until_primary_is_not(&self, deposed: usize) -> usize {
        until_async("there is another primary", async || {
            self.primary().await.is_some_and(|node| node != deposed)
        })
        .await;
        self.primary().await.unwrap()
    }

    /// Waits until a node other than `deposed` takes writes that a standby
    /// confirms, as a client without a control plane sees it.
    pub(crate) async fn until_writes_are_confirmed(&self, deposed: usize) {
        let confirmed = |node| async move {
            let mut connection = PgConnection::connect(&self.url_of(node)).await?;
            sqlx::query("SELECT pg_logical_emit_message(true, 'test', '')")
                .execute(&mut connection)
                .await?;
            sqlx::query_scalar(
                "SELECT current_setting('synchronous_standby_names') LIKE 'ANY%' AND EXISTS (
                     SELECT FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'quorum')",
            )
            .fetch_one(&mut connection)
            .await
        };
        until_async("a standby confirms a new primary's writes", async || {
            let asked = (0..NODES).filter(|node| *node != deposed).map(confirmed);
            let answers: Vec<sqlx::Result<bool>> = futures::future::join_all(asked).await;
            answers.iter().any(|answer| matches!(answer, Ok(true)))
        })
        .await;
    }

    /// Waits until there is a primary and all other nodes confirm its writes.
    pub(crate) async fn until_whole(&self) -> usize {
        until_async("all nodes stream from a primary", async || {
            let asked = (0..NODES).map(async |node| self.answers(node, "quorum").await);
            let confirming = futures::future::join_all(asked).await;
            let standbys = confirming.iter().filter(|confirms| **confirms).count();
            standbys == NODES - 1 && self.primary().await.is_some()
        })
        .await;
        self.primary().await.unwrap()
    }

    /// Kills it, as `kill -9` does, and waits until it has gone.
    pub(crate) async fn kill(&self, process: Process) {
        self.signal(process, Signal::KILL);
        until_async("the process is gone", async || {
            process.find(self.dir.path()).is_empty()
        })
        .await;
    }

    /// Kills a node's Patroni and PostgreSQL, as if its machine had failed.
    pub(crate) async fn kill_node(&self, node: usize) {
        self.kill(Process::Patroni(node)).await;
        self.kill(Process::Postgres(node)).await;
    }

    /// Stops it where it is (SIGSTOP), until [`Cluster::resume`].
    pub(crate) fn pause(&self, process: Process) {
        self.signal(process, Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&self, process: Process) {
        self.signal(process, Signal::CONT);
    }

    /// Starts an etcd or a Patroni again that was killed, and with the latter
    /// its PostgreSQL; waits for neither.
    pub(crate) async fn start_again(&self, process: Process) {
        let mut command = tokio::process::Command::from(script());
        command.arg("start").arg(self.dir.path());
        let status = command.arg(process.name()).status().await;
        assert!(status.unwrap().success(), "{process:?} does not start");
    }

    /// Has Patroni make another node the primary; does not wait until it is.
    pub(crate) fn switch_over(&self, primary: usize) {
        let port = self.layout.nodes[primary].patroni;
        let url = format!("http://127.0.0.1:{port}/switchover");
        let leader = format!("node{}", primary + 1);
        let asked = self.http.post(url).json(&json!({"leader": leader}));
        tokio::spawn(asked.send());
    }

    /// Cuts a database node off: nothing of Patroni's and PostgreSQL's passes
    /// to it or from it any more, and no connection is closed. Only after
    /// [`Cluster::start_with_network`].
    pub(crate) fn cut(&self, node: usize) {
        self.network.as_ref().unwrap().cut(node);
    }

    /// Everything passes again; what was sent meanwhile arrives late.
    pub(crate) fn mend(&self, node: usize) {
        self.network.as_ref().unwrap().mend(node);
    }

    /// As [`Cluster::settings`], for one control plane that can be cut off from
    /// every database node alone. Only after [`Cluster::start_with_network`].
    pub(crate) fn settings_apart(&self) -> Vec<String> {
        let (name, value) = network::APART.split_once('=').unwrap();
        let url = format!("{}&options[{name}]={value}", self.database_url());
        let mut settings = self.settings();
        settings.push(format!("database.url={url}"));
        settings
    }

    /// Nothing passes between that control plane and the database any more, or
    /// everything again.
    pub(crate) fn let_pass_apart(&self, open: bool) {
        self.network.as_ref().unwrap().let_pass_apart(open);
    }

    /// Where a node's PostgreSQL itself listens, whatever the network does.
    pub(crate) fn url_of(&self, node: usize) -> String {
        let (before, _) = self.database_url().split_once('@').unwrap();
        let port = self.layout.nodes[node].postgres;
        format!("{before}@127.0.0.1:{port}/authguardian?sslmode=disable")
    }

    fn signal(&self, process: Process, signal: Signal) {
        process.signal(self.dir.path(), signal);
    }

    /// Whether a node's Patroni says that it is this.
    async fn answers(&self, node: usize, role: &str) -> bool {
        let port = self.layout.nodes[node].patroni;
        let asked = self.http.get(format!("http://127.0.0.1:{port}/{role}"));
        let asked = asked.timeout(std::time::Duration::from_secs(1));
        let answer = asked.send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    fn text(&self, name: &str) -> &str {
        self.told[name].as_str().unwrap()
    }

    async fn start_on(layout: Layout, network: Option<Network>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        layout.write(&dir.path().join("layout.json"));
        let log = File::create(dir.path().join("cluster.log")).unwrap();
        let mut script = script()
            .arg("run")
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let told = dir.path().join("cluster.json");
        let mut ended = None;
        crate::wait::until("the cluster is whole", || {
            ended = script.try_wait().unwrap();
            ended.is_some() || told.exists()
        })
        .await;
        let log = std::fs::read_to_string(dir.path().join("cluster.log")).unwrap();
        assert!(
            ended.is_none(),
            "the cluster has not started: {log}{}",
            logs(dir.path())
        );
        let told = serde_json::from_slice(&std::fs::read(told).unwrap()).unwrap();
        Self {
            layout,
            network,
            told,
            http: http(),
            script,
            dir,
        }
    }
}

impl Drop for Cluster {
    /// Waits, so that its files can be removed and nothing is left.
    fn drop(&mut self) {
        // ends it; so would the death of this process
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// The ends of its nodes' logs.
fn logs(dir: &Path) -> String {
    let ends = (1..=NODES).map(|node| {
        let log = std::fs::read(dir.join(format!("node{node}.log"))).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        let end = &lines[lines.len().saturating_sub(LINES)..];
        format!("\nnode{node}:\n{}\n", end.join("\n"))
    });
    ends.collect()
}

fn script() -> Command {
    let at: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../deploy/ha/cluster"]
        .iter()
        .collect();
    Command::new(at)
}

/// The servers run as another user when this is root.
fn open_to_all(dir: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir, mode).unwrap();
}
