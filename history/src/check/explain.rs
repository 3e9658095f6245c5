//! Looks for an order of all calls that explains what everybody was told.
//!
//! Wing and Gong's search (1993) with Lowe's memory of what has been tried
//! (2017), along the board's revisions: a revision that a client was told is
//! that call's, and only those that nobody was told have to be chosen for,
//! among the calls of unknown outcome and what may have ended by itself. Calls
//! without a place (see [`Order`]) take the first moment that fits, which
//! leaves the most to those behind them.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use super::{
    Report, Rule, STATES, Violation,
    agreement::changes_if_told,
    candidates::{Candidate, Maker},
    facts::Facts,
    observers::Observers,
    order::Order,
};
use crate::{
    model::{Board, fingerprint},
    operation::{History, Operation, Outcome},
    watching::WatchLog,
};

/// Whether a board can have told its clients this, if it did one thing after
/// the other.
///
/// # Errors
/// What cannot be explained, or [`Rule::Undecided`] after [`STATES`].
pub fn linearizable(history: &History) -> Result<Report, Violation> {
    linearizable_within(history, STATES)
}

/// As [`linearizable`], with another bound on the states that are tried.
///
/// # Errors
/// As [`linearizable`].
pub fn linearizable_within(history: &History, states: u64) -> Result<Report, Violation> {
    one_outcome_each(history)?;
    explain(history, &[], states)
}

/// As [`linearizable_within`], and watchers were told what happened.
pub(super) fn explain(
    history: &History,
    logs: &[WatchLog],
    states: u64,
) -> Result<Report, Violation> {
    let mut search = Search {
        order: Order::of(history)?,
        facts: Facts::of(history, logs),
        observers: Observers::of(logs),
        clock_error: history.clock_error,
        board: Board::beginning(history.began.revision, &history.entries),
        used: BTreeSet::new(),
        used_print: 0,
        waiting: Vec::new(),
        begun: 0,
        failed: HashSet::new(),
        deepest: None,
        states: 0,
        last: 0,
        is_partial: Cell::new(false),
    };
    search.last = search
        .order
        .last
        .max(search.facts.last())
        .max(search.observers.last());
    let path = search.run(states)?;
    Ok(search.report(history, &path))
}

pub(super) fn one_outcome_each(history: &History) -> Result<(), Violation> {
    for operation in &history.operations {
        let other = operation
            .repeats
            .iter()
            .find(|repeat| !is_same(&operation.outcome, repeat));
        if let Some(other) = other {
            let text = format!("a repeat of the same request id was told {other:?}");
            return Err(Violation::new(Rule::TwoOutcomes, text).with([operation]));
        }
    }
    Ok(())
}

/// A refusal leaves nothing behind, so that it may be another the next time.
fn is_same(first: &Outcome, repeat: &Outcome) -> bool {
    match (first, repeat) {
        (Outcome::Done(first), Outcome::Done(repeat)) => first == repeat,
        (Outcome::Done(_), Outcome::Refused(_)) => false,
        _ => true,
    }
}

/// A revision for which candidates are tried, the last of them first.
struct Turn<'h> {
    candidates: Vec<Candidate<'h>>,
    /// The one that is being tried.
    current: Option<Taken<'h>>,
    /// The state before, where there was a choice.
    memory: Option<u128>,
}

/// A revision that was taken, and what it takes to give it back.
struct Taken<'h> {
    candidate: Candidate<'h>,
    /// As they were before: indices of floats that wait, and how many had begun.
    waiting: Vec<usize>,
    begun: usize,
}

pub(super) struct Search<'h> {
    pub(super) order: Order<'h>,
    pub(super) facts: Facts<'h>,
    pub(super) observers: Observers<'h>,
    pub(super) clock_error: Duration,
    pub(super) board: Board,
    /// Unknown calls that have happened, by number.
    pub(super) used: BTreeSet<usize>,
    used_print: u128,
    /// Floats that can stand here, and do not yet.
    waiting: Vec<usize>,
    /// How many floats have had their first moment.
    begun: usize,
    /// States from which there is no way on.
    failed: HashSet<u128>,
    /// The furthest point at which nothing went on, for the report.
    deepest: Option<(u64, Violation)>,
    states: u64,
    /// The last revision that anybody was told of.
    last: u64,
    /// Whether something was left out that might have explained it.
    pub(super) is_partial: Cell<bool>,
}

impl<'h> Search<'h> {
    /// What made each revision.
    fn run(&mut self, bound: u64) -> Result<Vec<Maker<'h>>, Violation> {
        self.settle()?;
        let mut turns: Vec<Turn<'h>> = Vec::new();
        loop {
            if self.board.revision() >= self.last && self.all_floats_stand() {
                return Ok(turns.iter().filter_map(Turn::maker).collect());
            }
            let turn = self.turn();
            turns.push(turn);
            while !self.advance(&mut turns) {
                let is_over = turns.is_empty();
                if self.states > bound || is_over && self.is_partial.get() {
                    return Err(self.undecided());
                }
                if is_over {
                    return Err(self.violation());
                }
            }
        }
    }

    /// Tries the next candidate of the last turn; where there is none left,
    /// goes back by one turn.
    fn advance(&mut self, turns: &mut Vec<Turn<'h>>) -> bool {
        let Some(turn) = turns.last_mut() else {
            return false;
        };
        if let Some(taken) = turn.current.take() {
            self.give_back(taken);
        }
        let Some(candidate) = turn.candidates.pop() else {
            self.failed.extend(turn.memory);
            turns.pop();
            return false;
        };
        self.states += 1;
        match self.take(candidate) {
            Ok(taken) => {
                turn.current = Some(taken);
                true
            }
            Err(violation) => {
                self.note(violation);
                false
            }
        }
    }

    /// What may make the next revision.
    fn turn(&mut self) -> Turn<'h> {
        let revision = self.board.revision() + 1;
        if let Some(operation) = self.order.writers.get(&revision).copied() {
            let changes = changes_if_told(&self.board, operation);
            if changes.is_none() {
                self.note(self.wrong(operation));
            }
            let candidate = changes.map(|changes| Candidate {
                maker: Maker::Call(operation),
                changes,
                not_before: operation.start,
            });
            return Turn {
                candidates: candidate.into_iter().collect(),
                current: None,
                memory: None,
            };
        }
        let memory = self.state();
        let candidates = if self.failed.contains(&memory) {
            Vec::new()
        } else {
            self.candidates(revision)
        };
        if candidates.is_empty() {
            self.note(self.nothing_next(revision));
        }
        Turn {
            candidates,
            current: None,
            memory: Some(memory),
        }
    }

    fn take(&mut self, candidate: Candidate<'h>) -> Result<Taken<'h>, Violation> {
        let revision = self.board.revision() + 1;
        self.floats_have_stood(revision, candidate.not_before)?;
        self.observers.agree(revision, &candidate.changes)?;
        let taken = Taken {
            waiting: self.waiting.clone(),
            begun: self.begun,
            candidate,
        };
        self.board.apply(&taken.candidate.changes);
        self.mark(&taken.candidate.maker);
        match self.settle() {
            Ok(()) => Ok(taken),
            Err(violation) => {
                self.give_back(taken);
                Err(violation)
            }
        }
    }

    fn give_back(&mut self, taken: Taken<'h>) {
        self.board.undo(&taken.candidate.changes);
        if let Maker::Call(operation) = taken.candidate.maker
            && self.used.remove(&operation.number)
        {
            self.used_print = self
                .used_print
                .wrapping_sub(fingerprint("used", &operation.number));
        }
        self.waiting = taken.waiting;
        self.begun = taken.begun;
    }

    fn mark(&mut self, maker: &Maker<'h>) {
        if let Maker::Call(operation) = maker
            && operation.outcome == Outcome::Unknown
            && self.used.insert(operation.number)
        {
            self.used_print = self
                .used_print
                .wrapping_add(fingerprint("used", &operation.number));
        }
    }

    /// Those who read at this revision were told what is there, and floats
    /// stand here if they can.
    fn settle(&mut self) -> Result<(), Violation> {
        let revision = self.board.revision();
        let readers = self.order.readers.get(&revision);
        for reader in readers.into_iter().flatten() {
            if changes_if_told(&self.board, reader).is_none_or(|changes| !changes.is_empty()) {
                return Err(self.wrong(reader));
            }
        }
        let floats = &self.order.floats;
        while let Some(float) = floats.get(self.begun)
            && float.from <= revision
        {
            self.waiting.push(self.begun);
            self.begun += 1;
        }
        let mut still = Vec::with_capacity(self.waiting.len());
        for index in std::mem::take(&mut self.waiting) {
            if let Some(float) = floats.get(index)
                && !self.can_stand(float.operation, &still)
            {
                still.push(index);
            }
        }
        self.waiting = still;
        Ok(())
    }

    /// Whether a float was told what is here, and overtakes none that still waits.
    fn can_stand(&self, operation: &Operation, waiting: &[usize]) -> bool {
        let mut before = waiting
            .iter()
            .filter_map(|index| self.order.floats.get(*index));
        let overtakes =
            before.any(|float| float.operation.end.is_some_and(|end| end < operation.start));
        !overtakes && changes_if_told(&self.board, operation).is_some_and(|none| none.is_empty())
    }

    /// Before a revision is made that is behind the last moment of a float, or
    /// that began only when it had ended, the float has to stand.
    fn floats_have_stood(&self, revision: u64, not_before: Duration) -> Result<(), Violation> {
        let late = self
            .waiting
            .iter()
            .filter_map(|index| self.order.floats.get(*index))
            .find(|float| {
                let is_over = float.to.is_some_and(|to| to < revision);
                is_over || float.operation.end.is_some_and(|end| end < not_before)
            });
        match late {
            None => Ok(()),
            Some(float) => Err(self.no_moment(float.operation, float.from)),
        }
    }

    fn all_floats_stand(&self) -> bool {
        self.waiting.is_empty() && self.begun == self.order.floats.len()
    }

    /// What decides how it can go on from here.
    fn state(&self) -> u128 {
        let waiting = fingerprint(
            "waiting",
            &(self.board.revision(), self.begun, &self.waiting),
        );
        self.board
            .fingerprint()
            .wrapping_add(self.used_print)
            .wrapping_add(waiting)
    }

    fn note(&mut self, violation: Violation) {
        let revision = self.board.revision();
        if self
            .deepest
            .as_ref()
            .is_none_or(|(deepest, _)| *deepest <= revision)
        {
            self.deepest = Some((revision, violation));
        }
    }

    fn violation(&mut self) -> Violation {
        let fallback = Violation::new(Rule::WrongAnswer, "nothing explains it");
        self.deepest
            .take()
            .map_or(fallback, |(_, violation)| violation)
    }

    fn undecided(&self) -> Violation {
        let text = format!(
            "neither explained nor refuted after {} states, at revision {}",
            self.states,
            self.board.revision()
        );
        Violation::new(Rule::Undecided, text)
    }

    fn nothing_next(&self, revision: u64) -> Violation {
        let waiting = self.waiting.first().copied();
        let float = self.order.floats.get(waiting.unwrap_or(self.begun));
        if let Some(float) = float
            && revision > self.last
        {
            return self.no_moment(float.operation, float.from);
        }
        let text = format!(
            "revision {revision} is that of no acknowledged call, and no call of unknown outcome and no end of an entry can have made it; its neighbours, and the calls of unknown outcome:"
        );
        let neighbours = [revision - 1, revision + 1].into_iter();
        let neighbours =
            neighbours.filter_map(|revision| self.order.writers.get(&revision).copied());
        let unknown = self.order.unknown.iter().copied();
        let unused = unknown.filter(|operation| !self.used.contains(&operation.number));
        Violation::new(Rule::RevisionOfNobody, text).with(neighbours.chain(unused).take(12))
    }

    fn wrong(&self, operation: &Operation) -> Violation {
        let there = self.board.effect(operation, None).outcome;
        let there = match there {
            Outcome::Done(answer) => answer.to_string(),
            Outcome::Refused(refusal) => refusal.to_string(),
            Outcome::Unknown => String::new(),
        };
        let text = format!("at revision {} it is: {there}", self.board.revision());
        Violation::new(Rule::WrongAnswer, text).with([operation])
    }

    fn no_moment(&self, operation: &Operation, from: u64) -> Violation {
        let text = format!(
            "it was not so at any moment of the call, from revision {from} to {}",
            self.board.revision()
        );
        Violation::new(Rule::NoMoment, text).with([operation])
    }

    fn report(&self, history: &History, path: &[Maker<'h>]) -> Report {
        let count = |is: fn(&Operation) -> bool| {
            let operations = history.operations.iter();
            operations.filter(|operation| is(operation)).count()
        };
        Report {
            operations: history.operations.len(),
            acknowledged: count(|operation| matches!(operation.outcome, Outcome::Done(_))),
            refused: count(|operation| matches!(operation.outcome, Outcome::Refused(_))),
            unknown: self.order.unknown.len(),
            unknown_happened: self.used.len(),
            expiries: path
                .iter()
                .filter(|maker| matches!(maker, Maker::Time))
                .count(),
            revisions: self.board.revision() - history.began.revision,
            messages: 0,
            states: self.states,
        }
    }
}

impl<'h> Turn<'h> {
    fn maker(&self) -> Option<Maker<'h>> {
        Some(self.current.as_ref()?.candidate.maker.clone())
    }
}
