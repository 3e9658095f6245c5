//! A strong board on a quorum cluster: writes beside `pgbench` writing the same
//! rows there and beside puts of an etcd of three members; reads beside etcd's
//! linearizable gets; and what a million keys cost.

mod board;
mod cluster;
mod etcd;
mod rows;

use anyhow::Result;

use crate::{
    args::Args,
    daemon::ControlPlane,
    keys::{Keys, VALUE},
    load::{self, Outcome},
    progress,
    report::{Row, Section, Target},
    system,
};
use board::{Does, Machine};
use cluster::Cluster;
use etcd::Etcd;
use rows::{Figures, Rows};

/// On the board of everything but the last rows.
const FEW_KEYS: u64 = 100;
const MANY_KEYS: u64 = 1_000_000;
const FEW: &str = "few";
const MANY: &str = "many";
const CLIENTS: [usize; 3] = [1, 8, 64];

struct Rig {
    machine: Machine,
    etcd: Etcd,
    rows: Rows,
    /// Ended before its database.
    control_plane: ControlPlane,
    cluster: Cluster,
}

/// One round.
#[derive(Default)]
struct Samples {
    writes: Vec<Vec<Outcome>>,
    raw: Vec<Vec<Figures>>,
    puts: Vec<Vec<Outcome>>,
    reads: Vec<Vec<Outcome>>,
    gets: Vec<Vec<Outcome>>,
    writes_among_many: Vec<Outcome>,
    reads_among_many: Vec<Outcome>,
}

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let rig = Rig::start(args).await?;
    let mut samples = Samples::default();
    for round in 1..=args.rounds() {
        progress!("blackboard: round {round}");
        rig.round(args, &mut samples)?;
    }
    Ok(samples.section())
}

impl Rig {
    async fn start(args: &Args) -> Result<Self> {
        progress!("blackboard: starting a cluster");
        let cluster = Cluster::start()?;
        let master_key = cluster.dir().join("master.key");
        std::fs::write(&master_key, "07".repeat(32))?;
        let (api_key, join_tokens) = system::set_up(cluster.url(), &master_key, 1).await?;
        progress!("blackboard: filling boards");
        let many = if args.quick { 10_000 } else { MANY_KEYS };
        cluster.execute(&filling(many)).await?;
        let mut settings = cluster.settings();
        settings.push(format!("identity.master_key_file={}", master_key.display()));
        let control_plane = ControlPlane::start(&settings)?;
        let machine = Machine::join(control_plane.server()?, &join_tokens[0], &api_key).await?;
        let etcd = Etcd::at(cluster.etcd()).await?;
        etcd.fill(&Keys::new(FEW_KEYS)).await?;
        Ok(Self {
            machine,
            etcd,
            rows: Rows::prepare(&cluster).await?,
            control_plane,
            cluster,
        })
    }

    fn round(&self, args: &Args, samples: &mut Samples) -> Result<()> {
        let few = Keys::new(FEW_KEYS);
        let many = Keys::new(if args.quick { 10_000 } else { MANY_KEYS });
        let mut parts = self.cluster.parts();
        parts.push(self.control_plane.part());
        let plan = args.plan(&parts);
        let ask = |clients, does, board, keys: &Keys| {
            load::run(&plan, || self.machine.clients(clients, does, board, keys))
        };
        let ask_etcd =
            |clients, does| load::run(&args.plan(&[]), || self.etcd.clients(clients, does, &few));
        let each = |measure: &dyn Fn(usize) -> Result<Outcome>| -> Result<Vec<Outcome>> {
            CLIENTS.into_iter().map(measure).collect()
        };
        samples
            .writes
            .push(each(&|clients| ask(clients, Does::Puts, FEW, &few))?);
        let raw = CLIENTS
            .into_iter()
            .map(|clients| self.rows.run(clients, FEW_KEYS, args.duration()));
        samples.raw.push(raw.collect::<Result<_>>()?);
        samples
            .puts
            .push(each(&|clients| ask_etcd(clients, etcd::Does::Puts))?);
        samples
            .reads
            .push(each(&|clients| ask(clients, Does::Gets, FEW, &few))?);
        samples
            .gets
            .push(each(&|clients| ask_etcd(clients, etcd::Does::Gets))?);
        samples
            .writes_among_many
            .push(ask(64, Does::Puts, MANY, &many)?);
        samples
            .reads_among_many
            .push(ask(64, Does::Gets, MANY, &many)?);
        Ok(())
    }
}

/// Two boards with keys in them, and one for the baseline.
fn filling(many: u64) -> Vec<String> {
    let board = |name: &str| {
        format!(
            "INSERT INTO board (name, level, readers, writers, min_trust, requires_grant, max_keys, max_bytes,
                                default_ttl_seconds, retention_seconds, description, created_at)
             VALUES ('{name}', 2, '{{*}}', '{{*}}', 0, false, 10000000, 10000000000, 0, 3600, '', now())"
        )
    };
    let entries = |name: &str, count: u64| {
        format!(
            "INSERT INTO board_entry (board, key, value, revision, created_revision, is_lock, writer, written_at)
             SELECT '{name}', 'task/' || number, '{VALUE}', number + 1, number + 1, false, 'agent:data_analyst', now()
             FROM generate_series(0, {count} - 1) AS number"
        )
    };
    let head = |name: &str| {
        format!(
            "INSERT INTO board_head (board, revision, floor, keys, bytes)
             SELECT '{name}', max(revision), max(revision), count(*), sum(octet_length(key) + octet_length(value))
             FROM board_entry WHERE board = '{name}'"
        )
    };
    let mut statements = Vec::new();
    for (name, count) in [(FEW, FEW_KEYS), (MANY, many), (rows::BOARD, FEW_KEYS)] {
        statements.extend([board(name), entries(name, count), head(name)]);
    }
    // else the first readers would do what vacuum has left undone
    statements.extend([
        "VACUUM (FREEZE, ANALYZE)".to_owned(),
        "CHECKPOINT".to_owned(),
    ]);
    statements
}

impl Samples {
    fn section(&self) -> Section {
        let mut rows = Vec::new();
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            rows.push(self.write(at, clients));
        }
        rows.push(self.median_of_one());
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            let writes = column(&self.writes, at);
            let row = Row::of_load(format!("write, {clients} clients"), &writes)
                .against("etcd put", &rates(&column(&self.puts, at)));
            rows.push(if clients == 64 {
                row.target(Target::AtLeast(1.5))
            } else {
                row
            });
        }
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            let row = Row::of_load(format!("read, {clients} clients"), &column(&self.reads, at))
                .against("etcd linearizable get", &rates(&column(&self.gets, at)));
            rows.push(if clients == 64 {
                row.target(Target::AtLeast(2.0))
            } else {
                row
            });
        }
        rows.extend([
            cost("write", &column(&self.writes, 2), &self.writes_among_many),
            cost("read", &column(&self.reads, 2), &self.reads_among_many),
        ]);
        rows.extend(self.peers());
        Section {
            name: "blackboard",
            title: "a strong board by gRPC, on three PostgreSQL servers under Patroni",
            rows,
        }
    }

    fn write(&self, at: usize, clients: usize) -> Row {
        let raw: Vec<f64> = self.raw.iter().map(|round| round[at].rate).collect();
        let row = Row::of_load(
            format!("write, {clients} clients"),
            &column(&self.writes, at),
        )
        .against("pgbench, same rows", &raw);
        if clients == 64 {
            row.target(Target::AtLeast(1.0))
        } else {
            row
        }
    }

    fn median_of_one(&self) -> Row {
        let millis = |micros: f64| micros / 1e3;
        let writes: Vec<f64> = column(&self.writes, 0)
            .iter()
            .map(|outcome| millis(outcome.p50_us))
            .collect();
        let raw: Vec<f64> = self
            .raw
            .iter()
            .map(|round| millis(round[0].p50_us))
            .collect();
        Row::new("write, 1 client, median", "ms", &writes)
            .against("pgbench, same rows", &raw)
            .target(Target::AtMost(1.6))
    }

    /// What the others took, for those who read the table.
    fn peers(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            let of = |figure: fn(&Figures) -> f64| -> Vec<f64> {
                self.raw.iter().map(|round| figure(&round[at])).collect()
            };
            let name = |percent| format!("pgbench, same rows, {clients} clients, p{percent}");
            rows.push(Row::new(name(50), "µs", &of(|figures| figures.p50_us)));
            rows.push(Row::new(name(99), "µs", &of(|figures| figures.p99_us)));
        }
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            rows.push(Row::of_load(
                format!("etcd put, {clients} clients"),
                &column(&self.puts, at),
            ));
            rows.push(Row::of_load(
                format!("etcd linearizable get, {clients} clients"),
                &column(&self.gets, at),
            ));
        }
        rows
    }
}

/// Time per operation among many keys, by that among few.
fn cost(what: &str, few: &[Outcome], many: &[Outcome]) -> Row {
    let each = |outcomes: &[Outcome]| -> Vec<f64> {
        outcomes.iter().map(|outcome| 1e6 / outcome.rate).collect()
    };
    Row::new(
        format!("{what} among 1,000,000 keys, 64 clients"),
        "µs",
        &each(many),
    )
    .against("among 100", &each(few))
    .target(Target::AtMost(1.5))
}

fn column(rounds: &[Vec<Outcome>], at: usize) -> Vec<Outcome> {
    rounds.iter().map(|round| round[at].clone()).collect()
}

fn rates(outcomes: &[Outcome]) -> Vec<f64> {
    outcomes.iter().map(|outcome| outcome.rate).collect()
}
