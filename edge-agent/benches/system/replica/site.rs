//! One edge with a control plane of its own, and keys in its replica.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use control_plane::db::private_postgres::DATABASE;
use tokio::time::Instant;

use super::{
    asker::{Asker, BOARD, Does},
    fill::{self, Filled},
};
use crate::{
    args::Args,
    cpu::Part,
    daemon::Edge,
    keys::Keys,
    load::{self, Outcome},
    memory,
    postgres::Postgres,
    system::System,
    trivial::Trivial,
};

/// What was written is with the control plane by then, or it is lost.
const DEADLINE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(20);

/// An edge, and what it needs.
pub(super) struct Site {
    /// Ended before its control plane.
    pub(super) edge: Edge,
    system: System,
    keys: Keys,
    /// What the edge was filled with.
    pub(super) filled: Filled,
    /// Writes that the edge has acknowledged.
    acknowledged: u64,
}

/// Writes of many clients, and what became of them.
#[derive(Debug, Clone)]
pub(super) struct Writes {
    /// As the clients have seen them.
    pub(super) outcome: Outcome,
    /// How many per second the control plane has taken meanwhile.
    pub(super) taken: f64,
}

impl Site {
    /// One with so many keys.
    pub(super) async fn start(count: u64, reading: Duration) -> Result<Self> {
        let mut system = System::start(Postgres::start().await?, 1, &[]).await?;
        let mut edge = system.edge()?;
        edge.end()?;
        let filled = fill::fill(edge.dir(), count, reading).await?;
        edge.start_again()?;
        Ok(Self {
            edge,
            system,
            keys: Keys::new(count),
            filled,
            acknowledged: 0,
        })
    }

    /// The processes.
    fn parts(&self) -> [Part; 3] {
        let system = &self.system;
        [
            self.edge.part(),
            system.control_plane.part(),
            system.postgres.part(),
        ]
    }

    /// Clients that read, or a bare handler's that answers as if.
    pub(super) fn reads(&self, args: &Args, clients: usize) -> Result<Outcome> {
        self.ask(args, clients, Does::Reads)
    }

    /// The same of a bare handler.
    pub(super) fn bare(
        &self,
        args: &Args,
        server: &Trivial,
        clients: usize,
        does: Does,
    ) -> Result<Outcome> {
        let place = (server.ready.address, does.at_a_bare_handler());
        let key = &self.system.api_key;
        load::run(&args.plan(&[server.part()]), || {
            Asker::open(clients, place, key, does, &self.keys)
        })
    }

    /// Clients that write; waits until the control plane has it all.
    pub(super) async fn writes(&mut self, args: &Args, clients: usize) -> Result<Writes> {
        let (before, began) = (self.taken().await?, Instant::now());
        let outcome = self.ask(args, clients, Does::Writes)?;
        let (after, took) = (self.taken().await?, began.elapsed());
        self.acknowledged += outcome.answers;
        self.handed_over().await?;
        Ok(Writes {
            outcome,
            taken: f64::from(u32::try_from(after - before)?) / took.as_secs_f64(),
        })
    }

    fn ask(&self, args: &Args, clients: usize, does: Does) -> Result<Outcome> {
        let place = (self.edge.address, does.at_an_edge());
        let key = &self.system.api_key;
        load::run(&args.plan(&self.parts()), || {
            Asker::open(clients, place, key, does, &self.keys)
        })
    }

    /// How many writes the control plane has taken.
    async fn taken(&self) -> Result<i64> {
        let query = format!(
            "SELECT coalesce(sum(received), 0)::bigint FROM board_actor WHERE board = '{BOARD}'"
        );
        self.system.postgres.number(DATABASE, &query).await
    }

    /// Waits until no acknowledged write is left to be handed over.
    async fn handed_over(&self) -> Result<()> {
        let began = Instant::now();
        while self.taken().await?.unsigned_abs() < self.acknowledged {
            ensure!(
                began.elapsed() < DEADLINE,
                "the control plane has not had all of {} writes",
                self.acknowledged
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Writes each key once, and sees that a bare handler's answers are about as long as
    /// the edge's are then.
    pub(super) async fn compare(&mut self, server: &Trivial) -> Result<()> {
        for does in [Does::Writes, Does::Reads] {
            let mut lengths = [0, 0];
            let places = [
                (self.edge.address, does.at_an_edge()),
                (server.ready.address, does.at_a_bare_handler()),
            ];
            for (place, length) in places.into_iter().zip(&mut lengths) {
                let key = &self.system.api_key;
                let askers = Asker::open(1, place, key, does, &self.keys).await?;
                let mut asker = askers.into_iter().next().context("one")?;
                for key in self.keys.all() {
                    *length = asker.ask(&key).await?;
                }
            }
            let [edge, bare] = lengths;
            ensure!(
                edge.abs_diff(bare) * 10 <= edge,
                "the edge answers with {edge} bytes, the bare handler with {bare}"
            );
        }
        self.acknowledged += self.keys.all().count() as u64;
        self.handed_over().await
    }

    /// What the edge has in memory, bytes.
    pub(super) fn resident(&self) -> Result<f64> {
        memory::resident(self.edge.part())
    }
}
