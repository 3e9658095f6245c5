//! One edge with a control plane of its own, and budgets that never end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use control_plane::{
    audit::Context,
    budgets::{MAX_AMOUNT, NewBudget, Terms, Window},
    db::private_postgres::DATABASE,
};
use tokio::time::Instant;

use super::{
    BUDGETS, SPENT,
    asker::{AT_A_BARE_HANDLER, AT_AN_EDGE, ByMcp, ByRest},
    refill,
};
use crate::{
    args::Args,
    commits::During,
    cpu::Part,
    daemon::Edge,
    load::{self, Client, Outcome, Plan},
    postgres::Postgres,
    system::System,
    trivial::Trivial,
};

/// What was spent is told by then, or it is lost.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Long enough that it does not matter when it begins and ends.
const AT_LEAST: Duration = Duration::from_secs(10);
/// Budgets whose slices are emptied in each round.
const EMPTIED: usize = 5;

/// An edge, and what it needs.
pub(super) struct Site {
    /// Ended before its control plane.
    edge: Edge,
    system: System,
    tasks: Vec<String>,
    /// Of which nothing was taken yet.
    fresh: Vec<String>,
    /// Pairs that were answered.
    pairs: u64,
}

impl Site {
    /// Starts it, and makes budgets.
    pub(super) async fn start(args: &Args) -> Result<Self> {
        let mut system = System::start(Postgres::start().await?, 2, &[]).await?;
        let named = |name: &'static str, count: usize| -> Vec<String> {
            let name = |number| format!("{name}-{number}");
            (0..count).map(name).collect()
        };
        let tasks = named("bench", BUDGETS);
        let fresh = named("emptied", EMPTIED * args.rounds());
        let app = system.app().await?;
        for task in tasks.iter().chain(&fresh) {
            let new = NewBudget {
                task: task.parse()?,
                terms: terms(),
            };
            app.budgets.create(Context::system(), new).await?;
        }
        app.close().await;
        Ok(Self {
            edge: system.edge()?,
            system,
            tasks,
            fresh,
            pairs: 0,
        })
    }

    /// The cluster.
    pub(super) fn postgres(&self) -> &Postgres {
        &self.system.postgres
    }

    /// An rmcp server behind the edge's own guard.
    pub(super) fn bare_mcp(&mut self) -> Result<Trivial> {
        let token = self.system.join_token()?;
        Trivial::start_mcp(&self.system.control_plane.server()?, &token)
    }

    /// Sees that a bare handler's answers are about as long as the edge's are.
    pub(super) async fn compare(&mut self, rest: &Trivial, mcp: &Trivial) -> Result<()> {
        let places = [
            (self.edge.address, AT_AN_EDGE),
            (rest.ready.address, AT_A_BARE_HANDLER),
        ];
        let mut lengths = Vec::new();
        for place in places {
            let askers = ByRest::open(1, place, &self.system.api_key, self.one()).await?;
            let mut asker = askers.into_iter().next().context("one")?;
            lengths.push(asker.pair().await?);
        }
        self.pairs += 1;
        for (edge, bare) in lengths[0].into_iter().zip(lengths[1]) {
            ensure!(
                edge.abs_diff(bare) * 10 <= edge,
                "the edge answers with {edge} bytes, the bare handler with {bare}"
            );
        }
        let address = mcp.ready.address;
        let askers = ByMcp::open(1, address, &self.system.api_key, self.one()).await?;
        askers.into_iter().next().context("one")?.call().await
    }

    /// Clients that spend from one budget by REST.
    pub(super) fn rest(&mut self, args: &Args, clients: usize) -> Result<Outcome> {
        let plan = args.plan(&self.parts());
        let outcome = self.spend(&plan, clients, self.one())?;
        self.pairs += outcome.answers;
        Ok(outcome)
    }

    /// The same of a bare handler that answers as if.
    pub(super) fn bare_rest_of(
        &self,
        args: &Args,
        server: &Trivial,
        clients: usize,
    ) -> Result<Outcome> {
        let place = (server.ready.address, AT_A_BARE_HANDLER);
        let key = &self.system.api_key;
        load::run(&args.plan(&[server.part()]), || {
            ByRest::open(clients, place, key, self.one())
        })
    }

    /// Clients that spend from one budget by MCP.
    pub(super) fn mcp(&mut self, args: &Args, clients: usize) -> Result<Outcome> {
        let (address, key) = (self.edge.address, &self.system.api_key);
        let outcome = load::run(&args.plan(&self.parts()), || {
            ByMcp::open(clients, address, key, self.one())
        })?;
        self.pairs += outcome.answers;
        Ok(outcome)
    }

    /// The same of a tool that answers as if.
    pub(super) fn bare_mcp_of(
        &self,
        args: &Args,
        server: &Trivial,
        clients: usize,
    ) -> Result<Outcome> {
        let (address, key) = (server.ready.address, &self.system.api_key);
        load::run(&args.plan(&[server.part()]), || {
            ByMcp::open(clients, address, key, self.one())
        })
    }

    /// How many exchanges per second the control plane takes of the edge while clients spend
    /// from all budgets; those that come before it has learned how much is spent do not count.
    pub(super) async fn exchanges(&mut self, args: &Args, clients: usize) -> Result<f64> {
        let before = self.spend(&args.plan(&[]), clients, &self.tasks)?;
        let (from, began) = (self.exchanged().await?, Instant::now());
        let outcome = self.spend(&self.long(args), clients, &self.tasks)?;
        let (to, took) = (self.exchanged().await?, began.elapsed());
        self.pairs += before.answers + outcome.answers;
        Ok(f64::from(u32::try_from(to - from)?) / took.as_secs_f64())
    }

    /// What PostgreSQL has to commit while 64 clients spend from all budgets.
    pub(super) async fn commits(&mut self, args: &Args) -> Result<During> {
        let (plan, clients) = (self.long(args), 64);
        let place = (self.edge.address, AT_AN_EDGE);
        let key = &self.system.api_key;
        let connect = || ByRest::open(clients, place, key, &self.tasks);
        let during = During::count(args, &self.system.postgres, &plan, connect).await?;
        self.pairs += during.answers;
        Ok(during)
    }

    /// How long callers wait for refills, ms: median and p99.
    pub(super) async fn refills(&mut self, args: &Args) -> Result<[f64; 2]> {
        let place = (self.edge.address, AT_AN_EDGE);
        let askers = ByRest::open(1, place, &self.system.api_key, self.one()).await?;
        let mut asker = askers.into_iter().next().context("one")?;
        let mut took = Vec::new();
        let budgets = if args.quick { 1 } else { EMPTIED };
        for _ in 0..budgets {
            let task = self.fresh.pop().context("all were emptied")?;
            took.extend(refill::of(&mut asker, &task).await?);
        }
        took.sort_by(f64::total_cmp);
        let percentile = |percent: usize| took.get(took.len() * percent / 100).copied();
        let both = percentile(50).zip(percentile(99));
        both.map(<[f64; 2]>::from).context("some were refilled")
    }

    /// All that was answered as settled comes to the control plane, and nothing else does.
    pub(super) async fn check_spent(&self) -> Result<()> {
        let (began, spent) = (Instant::now(), self.pairs * SPENT);
        let query = "SELECT coalesce(sum(reported), 0)::bigint FROM budget_account";
        loop {
            let reported = self.number(query).await?.unsigned_abs();
            ensure!(
                reported <= spent && began.elapsed() < DEADLINE,
                "{spent} were spent, the control plane has counted {reported}"
            );
            if reported == spent {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn spend(&self, plan: &Plan, clients: usize, tasks: &[String]) -> Result<Outcome> {
        let place = (self.edge.address, AT_AN_EDGE);
        let key = &self.system.api_key;
        load::run(plan, || ByRest::open(clients, place, key, tasks))
    }

    fn long(&self, args: &Args) -> Plan {
        let plan = args.plan(&self.parts());
        if args.quick {
            return plan;
        }
        Plan {
            duration: plan.duration.max(AT_LEAST),
            ..plan
        }
    }

    async fn exchanged(&self) -> Result<i64> {
        let query = "SELECT coalesce(sum(sequence), 0)::bigint FROM budget_exchange";
        self.number(query).await
    }

    async fn number(&self, query: &str) -> Result<i64> {
        self.postgres().number(DATABASE, query).await
    }

    /// The budget of those that spend from one.
    fn one(&self) -> &[String] {
        &self.tasks[..1]
    }

    fn parts(&self) -> [Part; 3] {
        let system = &self.system;
        [
            self.edge.part(),
            system.control_plane.part(),
            system.postgres.part(),
        ]
    }
}

fn terms() -> Terms {
    Terms {
        unit: "tokens".to_owned(),
        total: MAX_AMOUNT,
        parent: None,
        window: Window::None,
        carries_over: false,
        thresholds: Vec::new(),
        owner: String::new(),
        spenders: vec!["*".to_owned()],
    }
}
