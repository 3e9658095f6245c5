//! A client that does everything that can be done with a board, writes down
//! what it is told, and now and then gives up in the middle.

use std::{collections::HashMap, time::Duration};

use authguardian_history::{
    Act, Answer, Call, Compare, Condition, Do, LockHeld, Outcome, Pending, Recorder, Refusal, Step,
};
use tokio_util::sync::CancellationToken;

use super::{dice::Dice, progress::Progress, way::Way};

const KEYS: [&str; 6] = ["k/0", "k/1", "k/2", "k/3", "l/0", "l/1"];
const LOCKS: [&str; 2] = ["lock/0", "lock/1"];
const PREFIXES: [&str; 4] = ["", "k/", "l/", "lock/"];

/// Of locks and of what ends by itself.
const TTL: Duration = Duration::from_secs(2);

/// Between two calls, at most: clients that never pause leave no processor for what is to come
/// back, and are told in vain most of the time that it is not.
const BETWEEN_MICROS: u64 = 20_000;

/// Before a call is repeated whose outcome was not told.
const PAUSE: Duration = Duration::from_millis(25);

/// One client at work.
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) way: Way,
    pub(super) recorder: Recorder,
    pub(super) progress: Progress,
    pub(super) dice: Dice,
    pub(super) stop: CancellationToken,
    seen: HashMap<String, u64>,
    fencing: HashMap<String, u64>,
}

/// A call whose outcome is still to be asked for.
pub(super) struct Unresolved {
    pub(super) way: Way,
    pub(super) call: Call,
    pub(super) request_id: String,
    pub(super) pending: Pending,
}

impl Worker {
    pub(super) fn new(
        name: String,
        way: Way,
        recorder: Recorder,
        progress: Progress,
        dice: Dice,
        stop: CancellationToken,
    ) -> Self {
        Self {
            name,
            way,
            recorder,
            progress,
            dice,
            stop,
            seen: HashMap::new(),
            fencing: HashMap::new(),
        }
    }

    /// Calls until it is stopped; returns what it has not been told.
    pub(super) async fn work(mut self) -> Vec<Unresolved> {
        let mut unresolved = Vec::new();
        for number in 0.. {
            if self.stop.is_cancelled() {
                break;
            }
            let call = self.call(number);
            let request_id = format!("{}-{number}", self.name);
            unresolved.extend(self.carry_out(call, request_id).await);
            let pause = Duration::from_micros(self.dice.below(BETWEEN_MICROS));
            tokio::time::sleep(pause).await;
        }
        unresolved
    }

    async fn carry_out(&mut self, call: Call, request_id: String) -> Option<Unresolved> {
        let start = self.recorder.now();
        let pending = self
            .recorder
            .begin(&self.name, self.way.agent(), call.clone());
        let is_read = matches!(call, Call::Get { .. } | Call::List { .. });
        let mut outcome = if !is_read && self.dice.one_in(30) {
            self.give_up(&call, &request_id).await
        } else {
            self.way.ask(&call, &request_id).await
        };
        let is_patient = self.dice.one_in(2);
        while outcome == Outcome::Unknown && !is_read && is_patient && !self.stop.is_cancelled() {
            self.progress.misses();
            tokio::time::sleep(PAUSE).await;
            outcome = self.way.ask(&call, &request_id).await;
        }
        self.recorder.end(&pending, outcome.clone());
        self.learn(&call, &outcome);
        match &outcome {
            Outcome::Unknown => {
                self.progress.misses();
                if is_read {
                    tokio::time::sleep(PAUSE).await;
                    return None;
                }
                return Some(Unresolved {
                    way: self.way.clone(),
                    call,
                    request_id,
                    pending,
                });
            }
            Outcome::Refused(Refusal::Other(reason)) => self.progress.is_refused(reason),
            Outcome::Done(answer) => {
                let end = self.recorder.now();
                self.progress.hears(start, end, !is_read, answer);
            }
            Outcome::Refused(_) => {}
        }
        if !is_read && self.dice.one_in(20) {
            let again = self.way.ask(&call, &request_id).await;
            self.recorder.end(&pending, again);
        }
        None
    }

    /// As a client that is ended in the middle of its call.
    async fn give_up(&mut self, call: &Call, request_id: &str) -> Outcome {
        let patience = Duration::from_micros(self.dice.below(15_000));
        let asked = tokio::time::timeout(patience, self.way.ask(call, request_id)).await;
        asked.unwrap_or(Outcome::Unknown)
    }

    fn learn(&mut self, call: &Call, outcome: &Outcome) {
        match (call, outcome) {
            (Call::Get { .. }, Outcome::Done(Answer::Found { entry, .. })) => {
                self.seen.insert(entry.key.clone(), entry.revision);
            }
            (Call::Get { key }, Outcome::Refused(Refusal::NotFound)) => {
                self.seen.insert(key.clone(), 0);
            }
            (Call::Put { key, .. }, Outcome::Done(Answer::Written { position, .. })) => {
                self.seen.insert(key.clone(), position.revision);
            }
            (
                Call::Lock { key, .. },
                Outcome::Done(Answer::Locked {
                    held: true,
                    fencing_revision,
                    ..
                }),
            ) => {
                self.fencing.insert(key.clone(), *fencing_revision);
            }
            _ => {}
        }
    }

    fn call(&mut self, number: u64) -> Call {
        let key = self.dice.pick(&KEYS).to_owned();
        match self.dice.below(20) {
            0..=4 => Call::Get {
                key: if self.dice.one_in(6) {
                    self.dice.pick(&LOCKS).to_owned()
                } else {
                    key
                },
            },
            5..=8 => Call::Put {
                if_revision: self.revision(&key),
                if_lock: None,
                ttl: self.dice.one_in(12).then_some(TTL),
                value: self.value(number),
                key,
            },
            9 => Call::Put {
                if_revision: None,
                if_lock: self.lock_held(),
                ttl: None,
                value: self.value(number),
                key,
            },
            10 => Call::Delete {
                if_revision: self.revision(&key),
                if_lock: None,
                key,
            },
            11..=12 => Call::List {
                prefix: self.dice.pick(&PREFIXES).to_owned(),
                after: None,
            },
            13..=14 => self.transaction(number),
            _ => self.lock(),
        }
    }

    fn lock(&mut self) -> Call {
        let key = self.dice.pick(&LOCKS).to_owned();
        let act = match self.fencing.get(&key) {
            None => Act::Acquire,
            Some(_) => self
                .dice
                .pick(&[Act::Renew, Act::Release, Act::Release, Act::Acquire]),
        };
        let fencing = self.fencing.get(&key).copied();
        if act == Act::Release && self.dice.one_in(2) {
            // the other half stays as a late holder
            self.fencing.remove(&key);
        }
        Call::Lock {
            act,
            key,
            ttl: TTL,
            fencing_revision: fencing.filter(|_| act != Act::Acquire),
        }
    }

    fn transaction(&mut self, number: u64) -> Call {
        let first = self.dice.pick(&KEYS[..3]).to_owned();
        let condition = match self.dice.below(4) {
            0 => Condition::Exists(self.dice.one_in(2)),
            1 => match self.lock_held() {
                Some(lock) => Condition::Held(lock.fencing_revision),
                None => Condition::Revision(0),
            },
            _ => Condition::Revision(self.seen.get(&first).copied().unwrap_or(0)),
        };
        let compared = match condition {
            Condition::Held(_) => self.held_key().unwrap_or_else(|| first.clone()),
            _ => first.clone(),
        };
        let step = |key: &str, what| Step {
            key: key.to_owned(),
            what,
        };
        let value = self.value(number);
        Call::Transact {
            compare: vec![Compare {
                key: compared,
                condition,
            }],
            then: vec![
                step(&first, Do::Put(value.clone())),
                step(KEYS[4], Do::Put(value.clone())),
                step(KEYS[3], Do::Get),
            ],
            otherwise: vec![
                step(KEYS[5], Do::Put(value)),
                step(KEYS[4], Do::Delete),
                step(&first, Do::Get),
            ],
        }
    }

    fn value(&mut self, number: u64) -> String {
        format!("\"{}-{number}\"", self.name)
    }

    /// What it has seen last, or nothing.
    fn revision(&mut self, key: &str) -> Option<u64> {
        let seen = self.seen.get(key).copied();
        if self.dice.one_in(2) { seen } else { None }
    }

    fn held_key(&self) -> Option<String> {
        LOCKS
            .iter()
            .find(|lock| self.fencing.contains_key(**lock))
            .map(|lock| (*lock).to_owned())
    }

    fn lock_held(&mut self) -> Option<LockHeld> {
        let key = self.held_key()?;
        Some(LockHeld {
            fencing_revision: self.fencing[&key],
            key,
        })
    }
}

impl Unresolved {
    /// Asks under the same request id until the outcome is told.
    pub(super) async fn resolve(self, recorder: &Recorder, progress: &Progress) {
        let told = async {
            loop {
                let outcome = self.way.ask(&self.call, &self.request_id).await;
                if outcome != Outcome::Unknown {
                    return outcome;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let told = tokio::time::timeout(crate::wait::DEADLINE, told).await;
        let outcome = told.unwrap();
        if let Outcome::Refused(Refusal::Other(reason)) = &outcome {
            progress.is_refused(reason);
        }
        recorder.end(&self.pending, outcome);
    }
}
