//! One agent that spends at one edge, and repeats every call whose outcome it was not told.

use std::{sync::Arc, time::Duration};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    super::site::AGENT,
    tally::{Of, Tally},
    task,
};
use crate::{board_faults::dice::Dice, wait::DEADLINE};

/// Before a call is repeated: long enough not to keep a machine busy whose edge is just
/// starting.
const PAUSE: Duration = Duration::from_millis(25);

/// Longer than an edge takes to give a call up.
const TRY_TIMEOUT: Duration = Duration::from_secs(15);

/// Most that one has set aside at the same time.
const OPEN: usize = 4;

/// Longer than a test takes: what is settled must not have ended by itself.
const TTL_SECONDS: u64 = 24 * 3600;

/// Where it calls.
pub(super) struct Target {
    pub(super) edge: usize,
    pub(super) url: String,
    pub(super) api_key: String,
}

pub(super) struct Spender {
    name: String,
    http: Client,
    target: Target,
    tally: Arc<Tally>,
    dice: Dice,
    stop: CancellationToken,
    open: Vec<Reservation>,
    /// Of its last call.
    number: usize,
}

/// What it has set aside.
struct Reservation {
    id: String,
    of: Of,
    amount: u64,
    /// See [`Tally::holds`].
    window: Option<i64>,
}

/// What came of an attempt.
enum Answer {
    Done(Value),
    Refused(String),
    /// Nobody knows.
    Unknown,
}

impl Spender {
    pub(super) fn new(
        number: usize,
        target: Target,
        tally: Arc<Tally>,
        dice: Dice,
        stop: CancellationToken,
    ) -> Self {
        let http = Client::builder().no_proxy().timeout(TRY_TIMEOUT);
        Self {
            name: format!("spender-{number}"),
            http: http.build().unwrap(),
            target,
            tally,
            dice,
            stop,
            open: Vec::new(),
            number: 0,
        }
    }

    /// Spends until it is told to stop, and settles all then; how much is left.
    pub(super) async fn work(mut self) -> usize {
        while !self.stop.is_cancelled() {
            self.step().await;
        }
        while let Some(reservation) = self.open.pop() {
            self.settle(reservation).await;
        }
        self.open.len()
    }

    async fn step(&mut self) {
        let task = usize::try_from(self.dice.below(task::ALL.len() as u64)).unwrap();
        let amount = self.dice.below(task::ALL[task].most) + 1;
        self.number += 1;
        match self.dice.below(20) {
            0 => self.reserve(task, amount, 1).await,
            1..3 if task::ALL[task].is_loose => self.spend(task, amount).await,
            1..12 if self.open.len() < OPEN => self.reserve(task, amount, TTL_SECONDS).await,
            _ if !self.open.is_empty() => {
                let at = self.dice.below(self.open.len() as u64);
                let reservation = self.open.swap_remove(usize::try_from(at).unwrap());
                self.settle(reservation).await;
            }
            _ => self.reserve(task, amount, TTL_SECONDS).await,
        }
    }

    /// Sets an amount aside; for a second only, forgets about it.
    async fn reserve(&mut self, task: usize, amount: u64, ttl_seconds: u64) {
        let arguments = json!({
            "agent_id": AGENT,
            "task_id": task::ALL[task].name,
            "tokens": amount,
            "ttl_seconds": ttl_seconds,
            "request_id": format!("{}-{}", self.name, self.number),
        });
        let mut attempts = Attempts::new();
        loop {
            let (of, window) = (self.of(task), self.tally.window(task));
            match self.attempt("request_allocation", &arguments).await {
                Answer::Done(body) => {
                    self.acknowledged(&attempts);
                    if body["granted"] != amount {
                        self.violates(&format!("{amount} of {of:?}: {body}"));
                    }
                    if ttl_seconds > 1 {
                        self.open.push(Reservation {
                            id: body["reservation_id"].as_str().unwrap().to_owned(),
                            of,
                            amount,
                            window: self.tally.holds(task, window, amount),
                        });
                    }
                    return;
                }
                // it may be that nobody has looked whether it is known
                Answer::Refused(reason) if reason != "UNAVAILABLE" || !attempts.is_unknown => {
                    self.refused(&reason);
                    let expected = [
                        "BUDGET_EXHAUSTED",
                        "BUDGET_FROZEN",
                        "LEASE_EXPIRED",
                        "UNAVAILABLE",
                    ];
                    if !expected.contains(&reason.as_str()) {
                        self.violates(&format!("{amount} of {of:?}: {reason}"));
                    }
                    return tokio::time::sleep(PAUSE).await;
                }
                Answer::Refused(_) => attempts.again(false).await,
                Answer::Unknown => attempts.again(true).await,
            }
        }
    }

    /// Tells what was spent of what was set aside, until it knows that it is told.
    async fn settle(&mut self, reservation: Reservation) {
        let Reservation {
            id,
            of,
            amount,
            window,
        } = reservation;
        let task = task::ALL[of.task];
        let spent = match self.dice.below(4) {
            0 => amount,
            1 if task.is_loose => amount + self.dice.below(task.most),
            _ => self.dice.below(amount + 1),
        };
        self.tally
            .releases(of.task, window, amount.saturating_sub(spent));
        let arguments = json!({
            "agent_id": AGENT,
            "task_id": task.name,
            "tokens": spent,
            "reservation_id": id,
        });
        let mut attempts = Attempts::new();
        loop {
            match self.attempt("report_spending", &arguments).await {
                Answer::Done(body) => {
                    self.acknowledged(&attempts);
                    let overdraft = body["overdraft"].as_u64().unwrap();
                    return self.tally.settles(of, spent, overdraft);
                }
                Answer::Refused(reason) => match reason.as_str() {
                    "UNAVAILABLE" => attempts.again(false).await,
                    "ALREADY_SETTLED" if attempts.is_unknown => {
                        self.acknowledged(&attempts);
                        return self.tally.settles(of, spent, 0);
                    }
                    "RESERVATION_NOT_FOUND" if self.tally.disk(of.edge) > of.disk => {
                        return self.tally.hears(|heard| heard.lost += 1);
                    }
                    _ => return self.violates(&format!("{id} of {of:?}: {reason}")),
                },
                Answer::Unknown => attempts.again(true).await,
            }
        }
    }

    /// Tells what was spent without being set aside.
    async fn spend(&mut self, task: usize, amount: u64) {
        let arguments = json!({
            "agent_id": AGENT,
            "task_id": task::ALL[task].name,
            "tokens": amount,
            "request_id": format!("{}-{}", self.name, self.number),
        });
        let mut attempts = Attempts::new();
        loop {
            let of = self.of(task);
            match self.attempt("report_spending", &arguments).await {
                Answer::Done(body) => {
                    self.acknowledged(&attempts);
                    let overdraft = body["overdraft"].as_u64().unwrap();
                    return self.tally.settles(of, amount, overdraft);
                }
                Answer::Refused(reason) => match reason.as_str() {
                    "UNAVAILABLE" | "BUDGET_EXHAUSTED" | "LEASE_EXPIRED"
                        if !attempts.is_unknown =>
                    {
                        self.refused(&reason);
                        return tokio::time::sleep(PAUSE).await;
                    }
                    "UNAVAILABLE" => attempts.again(false).await,
                    _ => return self.violates(&format!("{amount} of {of:?}: {reason}")),
                },
                Answer::Unknown => attempts.again(true).await,
            }
        }
    }

    async fn attempt(&self, tool: &str, arguments: &Value) -> Answer {
        let answer = match self.post(tool, arguments).await {
            Ok((200, body)) => Answer::Done(body),
            Ok((_, body)) => match body["reason"].as_str() {
                Some("OUTCOME_UNKNOWN") | None => Answer::Unknown,
                Some(reason) => Answer::Refused(reason.to_owned()),
            },
            Err(_) => Answer::Unknown,
        };
        if matches!(answer, Answer::Unknown) {
            self.tally.hears(|heard| heard.unknown += 1);
        }
        answer
    }

    async fn post(&self, tool: &str, arguments: &Value) -> reqwest::Result<(u16, Value)> {
        let url = format!("{}/mcp/tools/{tool}", self.target.url);
        let request = self.http.post(url).json(arguments);
        let response = request.bearer_auth(&self.target.api_key).send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    fn of(&self, task: usize) -> Of {
        let edge = self.target.edge;
        let disk = self.tally.disk(edge);
        Of { edge, disk, task }
    }

    fn acknowledged(&self, attempts: &Attempts) {
        self.tally.hears(|heard| {
            heard.acknowledged += 1;
            heard.resolved += usize::from(attempts.is_unknown);
        });
    }

    fn refused(&self, reason: &str) {
        self.tally.hears(|heard| {
            *heard.refused.entry(reason.to_owned()).or_default() += 1;
            if ["LEASE_EXPIRED", "UNAVAILABLE"].contains(&reason) {
                *heard.lapsed.entry(self.target.edge).or_default() += 1;
            }
        });
    }

    fn violates(&self, what: &str) {
        self.tally.violates(format!("{}: {what}", self.name));
    }
}

/// Those of one call.
struct Attempts {
    until: Instant,
    /// One of them may have been done.
    is_unknown: bool,
}

impl Attempts {
    fn new() -> Self {
        Self {
            until: Instant::now() + DEADLINE,
            is_unknown: false,
        }
    }

    async fn again(&mut self, is_unknown: bool) {
        assert!(Instant::now() < self.until, "still no answer");
        self.is_unknown |= is_unknown;
        tokio::time::sleep(PAUSE).await;
    }
}
