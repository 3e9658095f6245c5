//! A session board in a world of failovers, late replicas and clients that move:
//! one that behaves, or one with a fault.

use std::{collections::BTreeMap, time::Duration};

use super::board::{Board, Fault, Keys, told};
use crate::{Answer, Call, History, Operation, Outcome, Position, Refusal, tests::world::Dice};

const KEYS: [&str; 4] = ["a/1", "a/2", "b", "c"];
const CLIENTS: usize = 4;
const EDGES: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Event {
    Begin(usize),
    /// The call reaches who answers it.
    Happen(usize),
    /// Its answer reaches this client, or the client gives up.
    End(usize, usize),
    /// A quorum has all that the primary has.
    Flush,
    /// A replica hears of some of what a quorum has.
    Replicate(usize),
    Failover,
    /// What has outlived its time ends.
    Sweep,
}

#[derive(Debug, Clone, Default)]
struct Edge {
    /// How much of the log it has.
    has: usize,
    keys: Keys,
}

/// What a call was answered, once it was.
#[derive(Debug, Clone, Default)]
struct Progress {
    edge: usize,
    outcome: Option<Outcome>,
    /// Where the board stood, whether that was told or not.
    position: Option<Position>,
    /// Told only when a quorum has so much of the log of this epoch.
    needs: Option<(u64, usize)>,
}

struct Run {
    dice: Dice,
    agenda: BTreeMap<(u64, u64), Event>,
    operations: Vec<Operation>,
    progress: Vec<Progress>,
    board: Board,
    edges: [Edge; EDGES],
    /// Of each client: which edge, and what it has seen.
    clients: [(usize, Position); CLIENTS],
    now: u64,
    calls: usize,
}

/// So many calls to a board that behaves, or has a fault.
pub(super) fn of(seed: u64, calls: usize, fault: Option<Fault>) -> History {
    let mut run = Run {
        dice: Dice::new(seed),
        agenda: BTreeMap::new(),
        operations: Vec::new(),
        progress: Vec::new(),
        board: Board::new(fault),
        edges: Default::default(),
        clients: Default::default(),
        now: 0,
        calls,
    };
    for client in 0..CLIENTS {
        run.plan(1, Event::Begin(client));
    }
    for edge in 0..EDGES {
        run.plan(20, Event::Replicate(edge));
    }
    run.plan(9, Event::Flush);
    run.plan(200, Event::Failover);
    run.plan(40, Event::Sweep);
    while let Some(((now, _), event)) = run.agenda.pop_first() {
        run.now = now;
        run.step(event);
    }
    let mut operations = run.operations;
    operations.sort_by_key(|operation| operation.start);
    History {
        operations,
        ..History::default()
    }
}

impl Run {
    fn plan(&mut self, within: u64, event: Event) {
        let at = self.now + 1 + self.dice.below(within);
        let order = self.dice.below(u64::MAX);
        self.agenda.insert((at, order), event);
    }

    fn step(&mut self, event: Event) {
        let goes_on = self.operations.len() < self.calls;
        match event {
            Event::Begin(client) if goes_on => self.begin(client),
            Event::Begin(_) => {}
            Event::Happen(number) => self.happen(number),
            Event::End(client, number) => self.end(client, number),
            Event::Flush => {
                self.board.durable = self.board.log.len();
                let is_slow = self.board.has(Fault::TellsTooEarly);
                self.plan(if is_slow { 60 } else { 8 }, Event::Flush);
            }
            Event::Replicate(edge) => {
                self.replicate(edge);
                self.plan(30, Event::Replicate(edge));
            }
            Event::Failover => {
                self.fail_over();
                let is_often = self.board.has(Fault::TellsTooEarly);
                self.plan(if is_often { 100 } else { 300 }, Event::Failover);
            }
            Event::Sweep => {
                self.board.sweep(self.now);
                self.plan(40, Event::Sweep);
            }
        }
        if !goes_on {
            self.agenda.retain(|_, event| {
                matches!(event, Event::Happen(_) | Event::End(..) | Event::Flush)
            });
            let is_over = |event: &Event| matches!(event, Event::Flush);
            if self.agenda.values().all(is_over) {
                self.agenda.clear();
            }
        }
    }

    fn begin(&mut self, client: usize) {
        let number = self.operations.len();
        if self.dice.one_in(3) {
            self.clients[client].0 = usize::try_from(self.dice.below(EDGES as u64)).unwrap();
        }
        let call = self.call(number);
        let is_read = matches!(call, Call::Get { .. } | Call::List { .. });
        self.operations.push(Operation {
            number,
            client: format!("session-{client}"),
            agent: "a".to_owned(),
            call,
            start: Duration::from_micros(self.now),
            end: None,
            outcome: Outcome::Unknown,
            repeats: Vec::new(),
        });
        self.progress.push(Progress {
            edge: self.clients[client].0,
            ..Progress::default()
        });
        match self.dice.below(14) {
            // lost on the way there
            0 => self.plan(20, Event::End(client, number)),
            // its client gives up, it is done later
            1 if !is_read => {
                self.plan(10, Event::End(client, number));
                self.plan(60, Event::Happen(number));
            }
            _ => {
                self.plan(6, Event::Happen(number));
                let at = self.now + 7 + self.dice.below(12);
                let order = self.dice.below(u64::MAX);
                self.agenda.insert((at, order), Event::End(client, number));
            }
        }
    }

    fn call(&mut self, number: usize) -> Call {
        let key = (*self.dice.pick(&KEYS)).to_owned();
        let current = self
            .board
            .last()
            .all
            .get(&key)
            .map_or(0, |held| held.revision);
        let if_revision = match self.dice.below(6) {
            0 => Some(current),
            1 => Some(self.dice.below(current + 2)),
            _ => None,
        };
        match self.dice.below(10) {
            0..=3 => Call::Get { key },
            4..=5 => Call::List {
                prefix: (*self.dice.pick(&["", "a/"])).to_owned(),
                after: self.dice.one_in(4).then(|| "a/1".to_owned()),
            },
            6 => Call::Delete {
                key,
                if_revision,
                if_lock: None,
            },
            _ => Call::Put {
                key,
                value: number.to_string(),
                if_revision,
                if_lock: None,
                ttl: self
                    .dice
                    .one_in(8)
                    .then(|| Duration::from_micros(20 + self.dice.below(60))),
            },
        }
    }

    fn happen(&mut self, number: usize) {
        match self.operations[number].call.clone() {
            Call::Get { key } => self.read(number, |keys, position| match keys.get(&key) {
                Some(held) => Outcome::Done(Answer::Found {
                    entry: told(&key, held),
                    position,
                }),
                None if number.is_multiple_of(2) => Outcome::Refused(Refusal::NotFound),
                None => Outcome::Done(Answer::Absent { position }),
            }),
            Call::List { prefix, after } => self.read(number, |keys, position| {
                let all = keys.iter().filter(|(key, _)| {
                    key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after)
                });
                let limit = 1 + number % 3;
                Outcome::Done(Answer::Listed {
                    more: all.clone().count() > limit,
                    entries: all.take(limit).map(|(key, held)| told(key, held)).collect(),
                    position,
                })
            }),
            call => self.write(number, &call),
        }
    }

    /// At the edge, if its replica has come far enough for the client, else
    /// forwarded.
    fn read(&mut self, number: usize, answer: impl FnOnce(&Keys, Position) -> Outcome) {
        let client = &self.operations[number].client;
        let client: usize = client.trim_start_matches("session-").parse().unwrap();
        let (edge, mark) = (
            &self.edges[self.progress[number].edge],
            self.clients[client].1,
        );
        let newest = &self.board.log[self.board.durable - 1];
        let at = edge.has.saturating_sub(1).min(self.board.log.len() - 1);
        let is_there = mark <= self.board.log[at].position;
        let (keys, position) = if self.board.has(Fault::ClaimsToBeNew) {
            (&edge.keys, newest.position)
        } else if is_there || self.board.has(Fault::ForgetsMarks) {
            (&edge.keys, self.board.log[at].position)
        } else {
            (&newest.all, newest.position)
        };
        let outcome = answer(keys, position);
        self.progress[number].position = Some(position);
        self.progress[number].outcome = Some(outcome);
    }

    fn write(&mut self, number: usize, call: &Call) {
        let is_late = self.board.has(Fault::TwoPrimaries) && self.dice.one_in(3);
        let late = is_late.then(|| self.board.write_late(call, self.now));
        let (outcome, needs) = if let Some(outcome) = late.flatten() {
            (outcome, None)
        } else {
            let outcome = self.board.write(call, self.now);
            (outcome, Some((self.board.epoch, self.board.log.len())))
        };
        self.progress[number].outcome = Some(outcome);
        self.progress[number].needs = needs;
    }

    fn end(&mut self, client: usize, number: usize) {
        self.plan(5, Event::Begin(client));
        let progress = &self.progress[number];
        let is_kept = progress.needs.is_none_or(|(epoch, length)| {
            epoch == self.board.epoch && length <= self.board.durable
        });
        let is_lost = self.dice.one_in(20);
        let Some(outcome) = progress.outcome.clone().filter(|_| is_kept && !is_lost) else {
            let is_write = self.operations[number].is_mutating();
            if self.board.has(Fault::DoesTwice) && is_write && progress.outcome.is_some() {
                let call = self.operations[number].call.clone();
                self.board.write(&call, self.now);
            }
            return;
        };
        let told = match &outcome {
            Outcome::Done(answer) => Some(answer.position()),
            _ => progress.position,
        };
        let mark = &mut self.clients[client].1;
        *mark = (*mark).max(told.unwrap_or_default());
        let operation = &mut self.operations[number];
        operation.outcome = outcome;
        operation.end = Some(Duration::from_micros(self.now));
    }

    fn replicate(&mut self, edge: usize) {
        let to = if self.board.has(Fault::TellsTooEarly) {
            self.board.log.len()
        } else {
            self.board.durable
        };
        let from = self.edges[edge].has;
        if from >= to {
            return;
        }
        let count = 1 + self.dice.below((to - from) as u64);
        let to = from + usize::try_from(count).unwrap();
        for change in &self.board.log[from..to] {
            let is_missed = self.board.fault == Some(Fault::MissesChanges) && self.dice.one_in(6);
            let edge = &mut self.edges[edge];
            match &change.held {
                _ if is_missed || change.key.is_empty() => None,
                Some(held) => edge.keys.insert(change.key.clone(), held.clone()),
                None => edge.keys.remove(&change.key),
            };
        }
        self.edges[edge].has = to;
    }

    fn fail_over(&mut self) {
        let lost = if self.board.has(Fault::LosesAcknowledged) {
            usize::try_from(self.dice.below(6)).unwrap()
        } else {
            0
        };
        self.board.fail_over(lost);
        for edge in &mut self.edges {
            if edge.has > self.board.log.len() {
                edge.has = self.board.log.len();
                edge.keys = self.board.log[edge.has - 1].all.clone();
            }
        }
    }
}
