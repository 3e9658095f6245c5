//! What the control plane tells of boards, done in steps that are bounded each, so that
//! local writes find their turn between them.

use std::{collections::VecDeque, iter::Peekable, vec};

use super::{
    board::BoardState,
    change::{Place, Writing},
    error::Result,
    record::{Ended, Record},
    store::rows_of,
};
use authguardian_proto::{
    blackboard::v1::{self as pb, follow_response::About},
    board::{Key, Level},
    common::v1::Position,
    crdt::{Version, Write},
    ids::BoardName,
};

/// About how many rows one transaction touches for what is told.
pub(super) const MAX_WORK: usize = 2_048;

/// Something that is to be done.
pub(super) enum Step {
    /// A board is there, or has other terms.
    Board(Box<pb::ReplicatedBoard>),
    /// Versions of keys of an eventual board.
    Versions(BoardName, Peekable<vec::IntoIter<pb::Version>>),
    /// What is in keys of a session board.
    Entries(BoardName, vec::IntoIter<pb::Entry>),
    /// Keys of a session board that are gone.
    Gone(BoardName, vec::IntoIter<String>),
    /// Tombstones up to a revision are forgotten.
    Collected(BoardName, u64),
    /// All up to here was told.
    Position(BoardName, Position),
    /// All was told of a board that was reset: what was not among it goes, from this row on.
    Sweep(BoardName, Vec<u8>, Position),
    /// A board may no longer be here.
    Dropped(BoardName),
    /// Its rows go.
    Erase(BoardName),
}

/// What is to be done about messages, in order.
pub(super) fn steps(messages: Vec<pb::FollowResponse>) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    for about in messages.into_iter().filter_map(|message| message.about) {
        match about {
            About::Board(board) => steps.push_back(Step::Board(Box::new(board))),
            About::Dropped(name) => steps.extend(named(&name).map(Step::Dropped)),
            About::Delta(delta) => steps.extend(of_delta(delta)),
            // of whoever asks, and not of what is kept
            About::Suspended(_) | About::Alive(pb::Alive {}) => {}
        }
    }
    steps
}

fn of_delta(delta: pb::BoardDelta) -> Vec<Step> {
    let Some(name) = named(&delta.board) else {
        return Vec::new();
    };
    let mut steps = Vec::new();
    if !delta.versions.is_empty() {
        let versions = delta.versions.into_iter().peekable();
        steps.push(Step::Versions(name.clone(), versions));
    }
    if !delta.entries.is_empty() {
        steps.push(Step::Entries(name.clone(), delta.entries.into_iter()));
    }
    if !delta.gone.is_empty() {
        steps.push(Step::Gone(name.clone(), delta.gone.into_iter()));
    }
    if delta.collected > 0 {
        steps.push(Step::Collected(name.clone(), delta.collected));
    }
    steps.extend(
        delta
            .position
            .map(|position| Step::Position(name, position)),
    );
    steps
}

fn named(board: &str) -> Option<BoardName> {
    let name = board.parse().ok();
    if name.is_none() {
        tracing::warn!(board, "the control plane tells of a board without a name");
    }
    name
}

impl Writing<'_> {
    /// Does steps until enough was done for one transaction.
    pub(super) fn advance(&mut self, steps: &mut VecDeque<Step>) -> Result<()> {
        while self.work < MAX_WORK
            && let Some(step) = steps.pop_front()
        {
            if let Some(rest) = self.step(step)? {
                steps.push_front(rest);
            }
        }
        Ok(())
    }

    /// Does a step, or a part of it. Returns what is left to do.
    fn step(&mut self, step: Step) -> Result<Option<Step>> {
        match step {
            Step::Board(board) => self.take_board(*board),
            Step::Versions(name, versions) => return self.take_versions(name, versions),
            Step::Entries(name, entries) => return self.take_entries(name, entries),
            Step::Gone(name, gone) => return self.take_gone(name, gone),
            Step::Collected(name, up_to) => return self.collect(name, up_to),
            Step::Position(name, position) => return Ok(self.take_position(&name, position)),
            Step::Sweep(name, from, position) => return self.sweep(name, &from, position),
            Step::Dropped(name) => return Ok(self.drop_board(name)),
            Step::Erase(name) => return self.erase(name),
        }
        Ok(None)
    }

    fn take_board(&mut self, told: pb::ReplicatedBoard) {
        let terms = told.board.unwrap_or_default();
        let level = Level::from_proto(terms.level).filter(|level| *level != Level::Strong);
        let (Some(name), Some(level)) = (named(&terms.name), level) else {
            tracing::warn!(
                board = terms.name,
                "the control plane tells of a board that no replica can have"
            );
            return;
        };
        self.must_last();
        let known = self.board(&name);
        let mut board = known.map_or_else(
            || BoardState::new(name, terms.clone(), level),
            |known| (*known).clone(),
        );
        board.terms = terms.into();
        board.level = level;
        if told.reset {
            board.generation += 1;
            board.is_resetting = true;
            // an eventual one is read meanwhile as it was
            if level == Level::Session {
                board.position = None;
            }
        }
        self.change_board(board);
    }

    /// The board that something is told of.
    pub(super) fn told_of(&self, name: &BoardName, level: Option<Level>) -> Option<BoardState> {
        let board = self.board(name);
        let board = board.filter(|board| level.is_none_or(|level| board.level == level));
        if board.is_none() {
            tracing::warn!(board = %name, "the control plane tells what does not fit the board");
        }
        board.map(|board| (*board).clone())
    }

    fn take_versions(
        &mut self,
        name: BoardName,
        mut versions: Peekable<vec::IntoIter<pb::Version>>,
    ) -> Result<Option<Step>> {
        let Some(board) = self.told_of(&name, Some(Level::Eventual)) else {
            return Ok(None);
        };
        while self.work < MAX_WORK {
            let Some(first) = versions.next() else {
                return Ok(None);
            };
            let Ok(key) = first.key.parse::<Key>() else {
                tracing::warn!(board = %name, "the control plane tells of a version without a key");
                continue;
            };
            let mut of_key = vec![first];
            while let Some(more) = versions.next_if(|version| version.key == key.as_str()) {
                of_key.push(more);
            }
            self.merge(&board, key, of_key)?;
        }
        Ok(Some(Step::Versions(name, versions)))
    }

    fn merge(&mut self, board: &BoardState, key: Key, versions: Vec<pb::Version>) -> Result<()> {
        // also where nothing comes of it: it was looked at
        self.work += 1;
        let place = Place::new(&board.name, key);
        let old = self.record(&place)?;
        let mut new = old.clone();
        if old.generation < board.generation {
            self.keep_outgoing(&mut new);
            new.generation = board.generation;
        }
        for version in versions {
            let revision = version.revision;
            match Version::<Write>::from_proto(version) {
                Ok((_, version)) => {
                    self.hear(version.time);
                    new.hear(version, revision);
                }
                Err(error) => {
                    let (board, key) = (&place.board, &place.key);
                    tracing::warn!(%board, %key, %error, "a version is left out");
                }
            }
        }
        self.settle(&place, &old, new)
    }

    pub(super) fn keep_outgoing(&self, record: &mut Record) {
        record.keep(|dot| self.state.lives.is_outgoing(dot));
        record.entry = None;
    }

    /// Puts a record in another's place, as little as there is to it.
    pub(super) fn settle(&mut self, place: &Place, old: &Record, new: Record) -> Result<()> {
        if !new.says_the_same(old) {
            self.put(place, old, new)?;
        } else if new != *old && old.revision > 0 {
            self.replace(place, old, &new)?;
        }
        Ok(())
    }

    fn take_entries(
        &mut self,
        name: BoardName,
        mut entries: vec::IntoIter<pb::Entry>,
    ) -> Result<Option<Step>> {
        let Some(board) = self.told_of(&name, Some(Level::Session)) else {
            return Ok(None);
        };
        self.begin_part(&board);
        while self.work < MAX_WORK {
            let Some(entry) = entries.next() else {
                return Ok(None);
            };
            self.work += 1;
            let Ok(key) = entry.key.parse::<Key>() else {
                tracing::warn!(board = %name, "the control plane tells of an entry without a key");
                continue;
            };
            let place = Place::new(&name, key);
            let old = self.record(&place)?;
            let new = Record {
                entry: Some(entry),
                revision: old.revision,
                generation: board.generation,
                ..Record::default()
            };
            self.settle(&place, &old, new)?;
        }
        Ok(Some(Step::Entries(name, entries)))
    }

    fn take_gone(
        &mut self,
        name: BoardName,
        mut gone: vec::IntoIter<String>,
    ) -> Result<Option<Step>> {
        let Some(board) = self.told_of(&name, Some(Level::Session)) else {
            return Ok(None);
        };
        self.begin_part(&board);
        while self.work < MAX_WORK {
            let Some(key) = gone.next() else {
                return Ok(None);
            };
            self.work += 1;
            let Ok(key) = key.parse::<Key>() else {
                continue;
            };
            let place = Place::new(&name, key);
            let old = self.record(&place)?;
            if old.has_value() {
                self.end(&place, &old, board.generation)?;
            }
        }
        Ok(Some(Step::Gone(name, gone)))
    }

    /// Nothing is in a key any more; watches are to be told.
    pub(super) fn end(&mut self, place: &Place, old: &Record, generation: u64) -> Result<()> {
        let gone = Record {
            generation,
            ..Record::default()
        };
        self.put(place, old, gone).map(drop)
    }

    fn collect(&mut self, name: BoardName, up_to: u64) -> Result<Option<Step>> {
        let Some(board) = self.told_of(&name, Some(Level::Eventual)) else {
            return Ok(None);
        };
        let most = MAX_WORK.saturating_sub(self.work).max(1);
        let keys = self.ended(&board.name, Ended::Tombstone(up_to), most)?;
        let is_all = keys.len() < most;
        let mut collected = 0;
        for key in keys {
            let place = Place::new(&name, key);
            let record = self.record(&place)?;
            let mut versions = record.siblings.versions().iter();
            if versions.any(|one| self.state.lives.is_outgoing(one.dot)) {
                continue;
            }
            self.forget(&place, &record)?;
            collected += 1;
        }
        // those that are left are outgoing: the next time
        Ok((!is_all && collected > 0).then_some(Step::Collected(name, up_to)))
    }

    fn take_position(&mut self, name: &BoardName, position: Position) -> Option<Step> {
        let mut board = self.told_of(name, None)?;
        if board.is_resetting {
            return Some(Step::Sweep(name.clone(), rows_of(name), position));
        }
        if board.position != Some(position) || board.is_partial {
            board.position = Some(position);
            board.is_partial = false;
            self.change_board(board);
        }
        None
    }

    /// From now on, until all of it is here, a session board is at no position.
    fn begin_part(&mut self, board: &BoardState) {
        if !board.is_partial {
            self.change_board(BoardState {
                is_partial: true,
                ..board.clone()
            });
        }
    }
}
