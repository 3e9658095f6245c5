//! An edge's replica of boards: reads and durable writes by REST, beside a bare handler and
//! a bare `fdatasync`; what a million keys cost; and how soon 50 edges have what one of
//! them was told.

mod asker;
mod crowd;
mod disk;
mod fill;
mod site;
mod wire;

use anyhow::Result;

use crate::{
    args::Args,
    load::Outcome,
    progress,
    report::{Row, Section, Target},
    trivial::{Kind, Trivial},
};
use asker::Does;
use crowd::{Crowd, RATE, Way};
use site::{Site, Writes};

const FEW_KEYS: u64 = 100;
const MANY_KEYS: u64 = 1_000_000;
const MANY_KEYS_WHEN_QUICK: u64 = 20_000;
const CLIENTS: [usize; 2] = [1, 64];
/// What a write may take beside making it durable, ms.
const BESIDE_DISK: f64 = 0.5;

/// Rounds.
#[derive(Default)]
struct Samples {
    /// By clients.
    bare_reads: [Vec<Outcome>; 2],
    reads: [Vec<Outcome>; 2],
    bare_writes: [Vec<Outcome>; 2],
    writes: [Vec<Writes>; 2],
    /// Median of appending 4 KiB durably, ms; before and after one client has written.
    appends: Vec<f64>,
    /// By 64 clients.
    reads_among_many: Vec<Outcome>,
    writes_among_many: Vec<Writes>,
    ways: Vec<Way>,
}

/// What does not differ by round.
struct Sizes {
    keys: u64,
    /// In this process, µs.
    read_among_few: f64,
    read_among_many: f64,
    /// Versions per second.
    taken: f64,
    /// Bytes of the file.
    file: f64,
    /// Bytes of memory that the edge has more than one with few keys.
    memory: f64,
    edges: usize,
}

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let mut samples = Samples::default();
    let mut sizes = boards(args, &mut samples).await?;
    let crowd = Crowd::start(args).await?;
    sizes.edges = crowd.count();
    for round in 1..=args.rounds() {
        progress!("replica: round {round}, {} edges", sizes.edges);
        samples.ways.push(crowd.round(args, round)?);
    }
    Ok(Section {
        name: "replica",
        title: "an eventual board in an edge's replica: by REST, and from one edge to all",
        rows: samples.rows(&sizes),
    })
}

/// Everything that one edge does.
async fn boards(args: &Args, samples: &mut Samples) -> Result<Sizes> {
    let keys = if args.quick {
        MANY_KEYS_WHEN_QUICK
    } else {
        MANY_KEYS
    };
    let bare = Trivial::start(Kind::Board)?;
    progress!("replica: filling boards");
    let mut few = Site::start(FEW_KEYS, args.duration()).await?;
    let mut many = Site::start(keys, args.duration()).await?;
    few.compare(&bare).await?;
    for round in 1..=args.rounds() {
        progress!("replica: round {round}");
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            let bare = |does| few.bare(args, &bare, clients, does);
            samples.bare_reads[at].push(bare(Does::Reads)?);
            samples.reads[at].push(few.reads(args, clients)?);
            samples.bare_writes[at].push(bare(Does::Writes)?);
            let before = disk::append(few.edge.dir())?;
            samples.writes[at].push(few.writes(args, clients).await?);
            if clients == 1 {
                // disks have their moods
                let after = disk::append(few.edge.dir())?;
                samples.appends.push(f64::midpoint(before, after));
            }
        }
        samples.reads_among_many.push(many.reads(args, 64)?);
        samples.writes_among_many.push(many.writes(args, 64).await?);
    }
    Ok(Sizes {
        keys,
        read_among_few: few.filled.read_us,
        read_among_many: many.filled.read_us,
        taken: many.filled.rate,
        file: many.filled.bytes,
        memory: many.resident()? - few.resident()?,
        edges: 0,
    })
}

impl Samples {
    fn rows(&self, sizes: &Sizes) -> Vec<Row> {
        let mut rows = Vec::new();
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            rows.extend(self.reads(at, clients));
        }
        rows.extend(self.writes_of_one());
        rows.extend(self.writes_of_many());
        rows.extend(self.flatness(sizes));
        rows.extend(self.crowd(sizes.edges));
        rows
    }

    fn reads(&self, at: usize, clients: usize) -> [Row; 2] {
        let (bare, reads) = (&self.bare_reads[at], &self.reads[at]);
        [
            Row::of_load(
                format!("bare axum JSON as of a read, {clients} client(s)"),
                bare,
            ),
            Row::of_load(format!("read, {clients} client(s)"), reads)
                .against("bare axum JSON", &rates(bare))
                .target(Target::AtLeast(1.0 / 1.5)),
        ]
    }

    fn writes_of_one(&self) -> [Row; 3] {
        let writes = outcomes(&self.writes[0]);
        let medians: Vec<f64> = writes.iter().map(|write| write.p50_us / 1e3).collect();
        let may: Vec<f64> = self.appends.iter().map(|ms| ms + BESIDE_DISK).collect();
        [
            Row::new(
                "4 KiB appended with one fdatasync, median",
                "ms",
                &self.appends,
            ),
            Row::of_load("durable write, 1 client", &writes)
                .against("bare axum JSON", &rates(&self.bare_writes[0])),
            Row::new("durable write, 1 client, median", "ms", &medians)
                .against("one fdatasync + 0.5 ms:", &may)
                .target(Target::AtMost(1.0)),
        ]
    }

    fn writes_of_many(&self) -> [Row; 3] {
        let (bare, writes) = (&self.bare_writes[1], outcomes(&self.writes[1]));
        [
            Row::of_load("bare axum JSON as of a write, 64 clients", bare),
            Row::of_load("durable write, 64 clients", &writes)
                .against("bare axum JSON", &rates(bare))
                .target(Target::AtLeast(0.3)),
            taken("64 clients", &self.writes[1]),
        ]
    }

    fn flatness(&self, sizes: &Sizes) -> Vec<Row> {
        let keys = sizes.keys;
        let among = |what: &str| format!("{what} among {keys} keys");
        vec![
            cost(
                among("read, 64 clients,"),
                &self.reads_among_many,
                &self.reads[1],
            ),
            cost(
                among("durable write, 64 clients,"),
                &outcomes(&self.writes_among_many),
                &outcomes(&self.writes[1]),
            ),
            taken("64 clients among all", &self.writes_among_many),
            Row::new(
                among("read in this process"),
                "µs",
                &[sizes.read_among_many],
            )
            .against("among 100", &[sizes.read_among_few]),
            Row::new("taken from the control plane", "/s", &[sizes.taken]),
            Row::new(format!("file with {keys} keys"), "MB", &[sizes.file / 1e6]),
            Row::new(
                format!("memory of the edge with {keys} keys, more than with 100"),
                "MB",
                &[sizes.memory / 1e6],
            ),
        ]
    }

    fn crowd(&self, edges: usize) -> Vec<Row> {
        let each = |figure: &dyn Fn(&Way) -> f64| self.ways.iter().map(figure).collect::<Vec<_>>();
        let mut rows = vec![
            Row::new(
                format!("changes on one of {edges} edges"),
                "/s",
                &each(&|way| way.rate),
            )
            .against("asked for", &vec![f64::from(RATE); self.ways.len()]),
            Row::new(
                "acknowledged until on the last edge, median",
                "ms",
                &each(&|way| way.percent(50)),
            ),
            Row::new(
                "acknowledged until on the last edge, p99",
                "ms",
                &each(&|way| way.percent(99)),
            ),
            Row::new(
                "bytes to and from an edge for a change, TLS included",
                "B",
                &each(&|way| way.bytes),
            ),
        ];
        let names = self.ways.first().map(|way| &way.cpu);
        for (at, (name, _)) in names.into_iter().flatten().enumerate() {
            rows.push(Row::new(
                format!("CPU meanwhile: {name}"),
                "% of a core",
                &each(&|way| way.cpu[at].1 * 100.0),
            ));
        }
        rows
    }
}

/// Time per operation among many keys, by that among few.
fn cost(name: String, many: &[Outcome], few: &[Outcome]) -> Row {
    let each = |outcomes: &[Outcome]| -> Vec<f64> {
        outcomes.iter().map(|outcome| 1e6 / outcome.rate).collect()
    };
    Row::new(name, "µs", &each(many))
        .against("among 100", &each(few))
        .target(Target::AtMost(1.5))
}

/// How many writes the control plane takes while they are written.
fn taken(who: &str, writes: &[Writes]) -> Row {
    let each: Vec<f64> = writes.iter().map(|write| write.taken).collect();
    Row::new(
        format!("taken by the control plane meanwhile, {who}"),
        "/s",
        &each,
    )
    .against("written", &rates(&outcomes(writes)))
}

fn outcomes(writes: &[Writes]) -> Vec<Outcome> {
    writes.iter().map(|write| write.outcome.clone()).collect()
}

fn rates(outcomes: &[Outcome]) -> Vec<f64> {
    outcomes.iter().map(|outcome| outcome.rate).collect()
}
