//! Histories by hand: times in milliseconds, everybody is the same agent
//! unless said otherwise.

use std::time::Duration;

use crate::{Act, Answer, Call, Entry, History, LockHeld, Operation, Outcome, Position, Refusal};

pub(super) const AGENT: &str = "a";

#[derive(Default)]
pub(super) struct Story {
    history: History,
    agent: Option<&'static str>,
    client: Option<&'static str>,
}

impl Story {
    /// The next calls are of this agent.
    pub(super) fn of(mut self, agent: &'static str) -> Self {
        self.agent = Some(agent);
        self
    }

    /// The next calls are of this session; else each is of its own.
    pub(super) fn session(mut self, client: &'static str) -> Self {
        self.client = Some(client);
        self
    }

    pub(super) fn call(mut self, start: u64, end: u64, call: Call, outcome: Outcome) -> Self {
        self.history.operations.push(Operation {
            number: self.history.operations.len(),
            client: self
                .client
                .map_or_else(|| format!("client at {start}"), str::to_owned),
            agent: self.agent.unwrap_or(AGENT).to_owned(),
            call,
            start: millis(start),
            end: (outcome != Outcome::Unknown).then(|| millis(end)),
            outcome,
            repeats: Vec::new(),
        });
        self
    }

    /// The last call was told this as well.
    pub(super) fn and_then_told(mut self, outcome: Outcome) -> Self {
        let last = self.history.operations.last_mut();
        last.unwrap().repeats.push(outcome);
        self
    }

    pub(super) fn put(
        self,
        (start, end): (u64, u64),
        key: &str,
        value: &str,
        (before, revision): (u64, u64),
    ) -> Self {
        self.call(start, end, put(key, value), written(revision, before))
    }

    pub(super) fn get(
        self,
        (start, end): (u64, u64),
        key: &str,
        value: &str,
        (revision, board): (u64, u64),
    ) -> Self {
        let entry = entry(key, value, (revision, revision));
        self.get_entry((start, end), entry, board)
    }

    pub(super) fn get_entry(self, (start, end): (u64, u64), entry: Entry, board: u64) -> Self {
        let call = Call::Get {
            key: entry.key.clone(),
        };
        let position = at(board);
        let answer = Answer::Found { entry, position };
        self.call(start, end, call, Outcome::Done(answer))
    }

    pub(super) fn get_nothing(self, start: u64, end: u64, key: &str) -> Self {
        let call = Call::Get {
            key: key.to_owned(),
        };
        self.call(start, end, call, Outcome::Refused(Refusal::NotFound))
    }

    pub(super) fn list(self, (start, end): (u64, u64), entries: Vec<Entry>, board: u64) -> Self {
        let call = Call::List {
            prefix: String::new(),
            after: None,
        };
        let answer = Answer::Listed {
            entries,
            more: false,
            position: at(board),
        };
        self.call(start, end, call, Outcome::Done(answer))
    }

    pub(super) fn lock(
        self,
        (start, end): (u64, u64),
        act: Act,
        (fencing, revision): (u64, u64),
    ) -> Self {
        let agent = self.agent.unwrap_or(AGENT);
        let holder = if act == Act::Release { "" } else { agent };
        let answer = Answer::Locked {
            held: act != Act::Release,
            fencing_revision: fencing,
            holder: holder.to_owned(),
            position: at(revision),
        };
        let call = lock(act, (act != Act::Acquire).then_some(fencing));
        self.call(start, end, call, Outcome::Done(answer))
    }

    /// A write that is done only while a lock is held.
    pub(super) fn put_fenced(
        self,
        (start, end): (u64, u64),
        fencing: u64,
        outcome: Outcome,
    ) -> Self {
        let call = Call::Put {
            key: "k".to_owned(),
            value: "1".to_owned(),
            if_revision: None,
            if_lock: Some(LockHeld {
                key: "lock".to_owned(),
                fencing_revision: fencing,
            }),
            ttl: None,
        };
        self.call(start, end, call, outcome)
    }

    pub(super) fn history(self) -> History {
        self.history
    }
}

pub(super) fn put(key: &str, value: &str) -> Call {
    put_if(key, value, None)
}

pub(super) fn put_if(key: &str, value: &str, if_revision: Option<u64>) -> Call {
    Call::Put {
        key: key.to_owned(),
        value: value.to_owned(),
        if_revision,
        if_lock: None,
        ttl: None,
    }
}

pub(super) fn lock(act: Act, fencing_revision: Option<u64>) -> Call {
    Call::Lock {
        act,
        key: "lock".to_owned(),
        ttl: Duration::from_millis(100),
        fencing_revision,
    }
}

pub(super) fn written(revision: u64, before: u64) -> Outcome {
    Outcome::Done(Answer::Written {
        position: at(revision),
        previous_revision: before,
    })
}

/// With its revision and the one that created it.
pub(super) fn entry(key: &str, value: &str, (revision, created): (u64, u64)) -> Entry {
    Entry {
        key: key.to_owned(),
        value: Some(value.to_owned()),
        revision,
        created_revision: created,
        writer: AGENT.to_owned(),
        is_lock: false,
    }
}

pub(super) fn at(revision: u64) -> Position {
    Position { epoch: 1, revision }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
