//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

use crate::{cpu::Part, load::Plan, trivial::AsServer};

/// Measures the whole system, built in release, on this machine
///
/// Starts its own PostgreSQL, control plane and edges, and the baselines that
/// every figure is compared with. Prints a table and writes JSON; progress goes
/// to stderr. Nothing is left behind.
#[derive(Debug, Parser)]
#[command(name = "bench", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to measure; everything when nothing is named
    sections: Vec<Section>,
    /// How often everything is measured; medians are told
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How long each measurement takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// One round of one second each: whether everything works, not how fast
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    pub(crate) quick: bool,
    /// Where the JSON goes
    #[arg(long, value_name = "FILE", default_value_os_t = default_json())]
    pub(crate) json: PathBuf,
    #[command(flatten)]
    pub(crate) serve: AsServer,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

const EXAMPLES: &str = "\
Examples:
  make bench
  make bench ARGS=\"grants confirmed --rounds 5\"
  make bench ARGS=--quick";

/// What can be measured on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// Durable grants per second by gRPC and MCP, against pgbench
    Grants,
    /// The same by gRPC, with a standby that confirms each commit 5 ms later
    Confirmed,
    /// Validations per second by MCP and REST, against trivial servers
    Validations,
    /// The same through each face, and its CPU time, against bare handlers
    Faces,
    /// Memory of an edge, and how soon it is ready
    Footprint,
    /// How soon a revocation is known at 20 edges
    Revocation,
    /// Memory of idle streams, and how soon a revocation is told to all of them
    Streams,
    /// 10,000 agents on 1,000 edges: heartbeats, discovery, watched changes
    Registry,
    /// A strong board on a quorum cluster, against pgbench there and against etcd
    Blackboard,
    /// An edge's replica of boards: by REST against a bare handler, among a million keys, and on 50 edges
    Replica,
    /// Amounts set aside and settled at an edge, against Redis and PostgreSQL counting them
    Budgets,
    /// The audit log: sealing 10,000 entries a second, and proofs among ten million
    Audit,
    /// What the gRPC framework alone can do
    Floor,
}

impl Args {
    /// What to measure, in order.
    pub(crate) fn sections(&self) -> Vec<Section> {
        let named = |section: &Section| self.sections.is_empty() || self.sections.contains(section);
        Section::value_variants()
            .iter()
            .copied()
            .filter(named)
            .collect()
    }

    /// How often.
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.into() }
    }

    /// How long each measurement takes.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { self.seconds })
    }

    /// A load of that duration on these processes.
    pub(crate) fn plan(&self, parts: &[Part]) -> Plan {
        Plan {
            warm_up: Duration::from_millis(500),
            duration: self.duration(),
            parts: parts.to_vec(),
        }
    }
}

/// In cargo's target directory.
fn default_json() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench.json")
}
