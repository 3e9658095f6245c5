//! What was measured, as rows.

use super::{BUDGETS, CLIENTS, Samples};
use crate::{
    commits::During,
    load::Outcome,
    report::{Row, Target},
};

/// An exchange a second, and what falls into a few seconds beside.
const ONE_A_SECOND: f64 = 1.2;

impl Samples {
    pub(super) fn rows(&self, threads: usize, commits: &During) -> Vec<Row> {
        let mut rows = self.peers();
        rows.extend(self.in_process(threads));
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            rows.extend(self.by_rest(at, clients));
        }
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            rows.extend(self.by_mcp(at, clients));
        }
        rows.extend(self.at_the_control_plane(commits));
        rows.extend(self.refills());
        rows
    }

    fn peers(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            let name = |sync| format!("Redis INCRBY, {sync}, {clients} client(s)");
            rows.push(Row::of_load(name("everysec"), &self.everysec[at]));
            rows.push(Row::of_load(name("always"), &self.always[at]));
            let name = format!("UPDATE … RETURNING, {clients} connection(s)");
            rows.push(Row::new(name, "/s", &self.updates[at]));
        }
        rows
    }

    fn in_process(&self, threads: usize) -> [Row; 4] {
        let [alone, together, apart] = &self.local;
        let [one, many] = &self.everysec;
        [
            Row::of_load("in process, 1 thread", alone)
                .against("Redis everysec, 1 client", &rates(one))
                .target(Target::AtLeast(10.0)),
            Row::of_load("in process, 1 thread", alone)
                .against("UPDATE, 64 connections", &self.updates[1]),
            Row::of_load(
                format!("in process, {threads} threads on one budget"),
                together,
            )
            .against("Redis everysec, 64 clients", &rates(many)),
            Row::of_load(
                format!("in process, {threads} threads on a budget each"),
                apart,
            )
            .against("Redis everysec, 64 clients", &rates(many)),
        ]
    }

    fn by_rest(&self, at: usize, clients: usize) -> [Row; 4] {
        let (bare, rest) = (&self.bare_rest[at], &self.rest[at]);
        let name = format!("REST, {clients} client(s)");
        [
            Row::of_load(format!("bare axum JSON, {clients} client(s)"), bare),
            Row::of_load(name.as_str(), rest)
                .against("bare axum JSON", &rates(bare))
                .target(Target::AtLeast(0.6)),
            Row::of_load(name.as_str(), rest).against("Redis always", &rates(&self.always[at])),
            Row::of_load(name.as_str(), rest).against("UPDATE … RETURNING", &self.updates[at]),
        ]
    }

    fn by_mcp(&self, at: usize, clients: usize) -> [Row; 2] {
        let (bare, mcp) = (&self.bare_mcp[at], &self.mcp[at]);
        let against = "rmcp tools behind the same guard";
        [
            Row::of_load(format!("{against}, {clients} client(s)"), bare),
            Row::of_load(format!("MCP, {clients} client(s)"), mcp).against(against, &rates(bare)),
        ]
    }

    fn at_the_control_plane(&self, commits: &During) -> Vec<Row> {
        let exchanges = CLIENTS.iter().zip(&self.exchanges);
        let mut rows: Vec<Row> = exchanges
            .map(|(clients, exchanges)| {
                let budgets = BUDGETS.min(*clients);
                let name =
                    format!("exchanges while {clients} client(s) spend from {budgets} budget(s)");
                Row::new(name, "/s", exchanges).target(Target::AtMost(ONE_A_SECOND))
            })
            .collect();
        let name = "all commits of PostgreSQL meanwhile, 64 client(s)";
        rows.push(
            Row::new(name, "/s", &[commits.per_second()])
                .against("while nobody spends", &[commits.idle]),
        );
        rows
    }

    fn refills(&self) -> [Row; 2] {
        let each = |at: usize| -> Vec<f64> { self.refills.iter().map(|both| both[at]).collect() };
        let name = "request_allocation where the slice is empty";
        [
            Row::new(format!("{name}, median"), "ms", &each(0)),
            Row::new(format!("{name}, p99"), "ms", &each(1)),
        ]
    }
}

fn rates(outcomes: &[Outcome]) -> Vec<f64> {
    outcomes.iter().map(|outcome| outcome.rate).collect()
}
