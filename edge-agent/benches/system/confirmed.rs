//! Durable grants per second when every commit is confirmed by a standby
//! 5 ms later, as one in another place would.

use std::time::Duration;

use anyhow::Result;

use crate::{
    args::Args,
    grants::check_durable,
    load::{self, Outcome},
    machine::Machine,
    pgbench::{Pgbench, Transaction},
    postgres::Postgres,
    progress,
    report::{Row, Section, Target},
    standby::Standby,
    system::System,
};

/// When a commit is confirmed.
const DELAY: Duration = Duration::from_millis(5);
/// For one who commits with every call, and for one who batches.
const FEW: usize = 64;
const MANY: usize = 512;

/// A control plane that the bench calls.
struct Rig {
    machine: Machine,
    system: System,
}

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let postgres = Postgres::start().await?;
    let pgbench = Pgbench::prepare(&postgres).await?;
    let standby = Standby::follow(&postgres, DELAY).await?;
    let confirmed = Rig::start(
        postgres,
        &[
            "database.write_quorum=2",
            "database.leader_lease.watchdog=true",
        ],
    )
    .await?;
    let alone = Rig::start(Postgres::start().await?, &[]).await?;

    let (mut latencies, mut reference) = (Vec::new(), Vec::new());
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds() {
        progress!("confirmed: round {round}");
        let raw = pgbench.run(Transaction::OneInsert, 1, args.duration())?;
        latencies.push(raw.latency.as_secs_f64() * 1e3);
        few.push(confirmed.measure(args, FEW, Some(&standby))?);
        many.push(confirmed.measure(args, MANY, Some(&standby))?);
        reference.push(alone.measure(args, FEW, None)?);
    }
    for (rig, outcomes) in [
        (&confirmed, [few.as_slice(), &many].concat()),
        (&alone, reference.clone()),
    ] {
        let answers = outcomes.iter().map(|outcome| outcome.answers).sum();
        check_durable(&rig.system, answers).await?;
    }

    let each_alone: Vec<f64> = latencies.iter().map(|ms| 64.0 * 1e3 / ms).collect();
    let unconfirmed: Vec<f64> = reference.iter().map(|outcome| outcome.rate).collect();
    Ok(Section {
        name: "confirmed",
        title: "durable grants by gRPC, each commit confirmed by a standby 5 ms later",
        rows: vec![
            Row::new(
                "raw commit, pgbench with one insert, 1 client",
                "ms",
                &latencies,
            ),
            Row::of_load("gRPC, 64 clients", &few)
                .against("64 / raw commit", &each_alone)
                .target(Target::AtLeast(0.7)),
            Row::of_load("gRPC, 512 clients", &many)
                .against("unconfirmed, 64 clients", &unconfirmed)
                .target(Target::AtLeast(0.7)),
            Row::of_load("gRPC, 64 clients, unconfirmed", &reference),
        ],
    })
}

impl Rig {
    async fn start(postgres: Postgres, settings: &[&str]) -> Result<Self> {
        let mut system = System::start(postgres, 1, settings).await?;
        let machine = Machine::join(&mut system).await?;
        Ok(Self { machine, system })
    }

    fn measure(&self, args: &Args, clients: usize, standby: Option<&Standby>) -> Result<Outcome> {
        let mut parts = vec![
            self.system.control_plane.part(),
            self.system.postgres.part(),
        ];
        parts.extend(standby.map(Standby::part));
        load::run(&args.plan(&parts), || self.machine.clients(clients))
    }
}
