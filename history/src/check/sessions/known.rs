//! What a session knows of a board, and whether what it is told next fits.

use std::collections::BTreeMap;

use super::{read::Read, writes::Writes};
use crate::{
    check::{
        Rule, Violation,
        written::{Write, writes},
    },
    operation::{Entry, Operation, Position},
};

/// From the calls of one session that have ended.
pub(super) struct Known<'h, 'w> {
    all: &'w Writes<'h>,
    /// The last position that it read, and that it wrote.
    read: Option<Told<'h>>,
    wrote: Option<Told<'h>>,
    keys: BTreeMap<&'h str, KnownKey<'h>>,
    /// By number of the call: the position at which it was told at least that
    /// something is not there.
    gone_at: BTreeMap<usize, Position>,
}

/// Of one key, the last of each.
#[derive(Debug, Clone, Copy, Default)]
struct KnownKey<'h> {
    wrote: Option<(Told<'h>, Write<'h>)>,
    saw: Option<Told<'h>>,
    /// It was not there.
    gone: Option<Told<'h>>,
}

/// A position, and the call that was told it.
#[derive(Debug, Clone, Copy)]
struct Told<'h> {
    position: Position,
    by: &'h Operation,
}

impl<'h, 'w> Known<'h, 'w> {
    /// Nothing yet.
    pub(super) fn of(all: &'w Writes<'h>) -> Self {
        Self {
            all,
            read: None,
            wrote: None,
            keys: BTreeMap::new(),
            gone_at: BTreeMap::new(),
        }
    }

    /// Takes a call that has ended for known.
    pub(super) fn learn(&mut self, call: &'h Operation) {
        let told = |position| Told { position, by: call };
        if let (Some(answer), Some(_)) = (call.answer(), call.made_revision()) {
            let position = answer.position();
            raise(&mut self.wrote, told(position));
            for (key, write) in writes(call) {
                let known = self.keys.entry(key).or_default();
                if known.wrote.is_none_or(|(last, _)| last.position < position) {
                    known.wrote = Some((told(position), write));
                }
            }
        }
        let Some(read) = Read::of(call) else { return };
        if let Some(position) = read.position {
            raise(&mut self.read, told(position));
            for entry in read.entries {
                let known = self.keys.entry(&entry.key).or_default();
                raise(&mut known.saw, told(self.all.place(entry, position)));
            }
        }
        if let Some(position) = self.gone_at.remove(&call.number) {
            for key in self.all.keys_in(&read.range).filter(|key| read.lacks(key)) {
                raise(&mut self.keys.entry(key).or_default().gone, told(position));
            }
        }
    }

    /// Whether a call was told what fits to all that is known.
    ///
    /// # Errors
    /// What does not.
    pub(super) fn check(&mut self, call: &'h Operation) -> Result<(), Violation> {
        if let (Some(answer), Some(_)) = (call.answer(), call.made_revision()) {
            self.check_write(call, answer.position())?;
        }
        let Some(read) = Read::of(call) else {
            return Ok(());
        };
        if let Some(position) = read.position {
            for entry in read.entries {
                self.check_entry(call, entry, position)?;
            }
        }
        for key in self.all.keys_in(&read.range).filter(|key| read.lacks(key)) {
            self.check_absence(call, key, read.position)?;
        }
        if let Some(position) = read.position {
            self.check_position(call, position)?;
        }
        let gone_at = read.position.unwrap_or(self.mark());
        self.gone_at.insert(call.number, gone_at);
        Ok(())
    }

    fn check_write(&self, call: &Operation, position: Position) -> Result<(), Violation> {
        let behind = |known: &Option<Told<'h>>| known.filter(|known| position <= known.position);
        if let Some(before) = behind(&self.wrote) {
            let text = format!(
                "written as {position}, not behind the write of the session before, as {}",
                before.position
            );
            return Err(Violation::new(Rule::MonotonicWrites, text).with([before.by, call]));
        }
        if let Some(before) = behind(&self.read) {
            let text = format!(
                "written as {position}, not behind what the session had read, at {}",
                before.position
            );
            return Err(Violation::new(Rule::WritesFollowReads, text).with([before.by, call]));
        }
        Ok(())
    }

    fn check_entry(
        &self,
        call: &Operation,
        entry: &Entry,
        board: Position,
    ) -> Result<(), Violation> {
        self.all.explain(entry, board, call)?;
        let position = self.all.place(entry, board);
        let known = self.key(&entry.key);
        let older = |told: &Told<'h>| position < told.position;
        if let Some((own, _)) = known.wrote.filter(|(own, _)| older(own)) {
            let text = format!(
                "{:?} is shown as of {position}, before the session's own write of it as {}",
                entry.key, own.position
            );
            return Err(Violation::new(Rule::ReadYourWrites, text).with([own.by, call]));
        }
        if let Some(seen) = known.saw.filter(older) {
            let text = format!(
                "{:?} is shown as of {position}, and the session had seen it as of {}",
                entry.key, seen.position
            );
            return Err(Violation::new(Rule::MonotonicReads, text).with([seen.by, call]));
        }
        // what has outlived its time may be gone for one and not yet for another
        let is_back = |gone: &Told<'h>| position <= gone.position && !self.all.may_end(&entry.key);
        if let Some(gone) = known.gone.filter(is_back) {
            let text = format!(
                "{:?} is shown as of {position}, and was not there at {} or later",
                entry.key, gone.position
            );
            return Err(Violation::new(Rule::MonotonicReads, text).with([gone.by, call]));
        }
        if entry.revision > board.revision {
            let text = format!(
                "{:?} is from behind the board's position {board}",
                entry.key
            );
            return Err(Violation::new(Rule::WrongAnswer, text).with([call]));
        }
        match self.all.newest(&entry.key, board) {
            Some((newest, write)) if position < newest => {
                let text = format!(
                    "{:?} is shown as of {position} at {board}, though it was written as {newest}",
                    entry.key
                );
                Err(Violation::new(Rule::WrongAnswer, text)
                    .with(write.by.into_iter().chain([call])))
            }
            _ => Ok(()),
        }
    }

    fn check_absence(
        &self,
        call: &Operation,
        key: &str,
        board: Option<Position>,
    ) -> Result<(), Violation> {
        let known = self.key(key);
        let is_over = |since| self.all.can_have_ended(key, since, board, call);
        if let Some((own, write)) = known.wrote
            && write != Write::Gone
            && !is_over(own.position)
        {
            let text = format!("{key:?} is not there, and nothing has ended it since");
            return Err(Violation::new(Rule::ReadYourWrites, text).with([own.by, call]));
        }
        if let Some(seen) = known.saw
            && !is_over(seen.position)
        {
            let text = format!(
                "{key:?} is not there, and nothing has ended what the session had seen as of {}",
                seen.position
            );
            return Err(Violation::new(Rule::MonotonicReads, text).with([seen.by, call]));
        }
        let (rule, at) = match board {
            Some(board) => (Rule::WrongAnswer, board),
            None => (Rule::MonotonicReads, self.mark()),
        };
        match self.all.newest(key, at) {
            Some((newest, write)) if write.write != Write::Gone && !is_over(newest) => {
                let text = format!(
                    "{key:?} is not there at {at}, though it was written as {newest} and nothing has ended it since"
                );
                Err(Violation::new(rule, text).with(write.by.into_iter().chain([call])))
            }
            _ => Ok(()),
        }
    }

    fn check_position(&self, call: &Operation, position: Position) -> Result<(), Violation> {
        let ahead = |known: &Option<Told<'h>>| known.filter(|known| position < known.position);
        let found = [
            (Rule::ReadYourWrites, ahead(&self.wrote), "written"),
            (Rule::MonotonicReads, ahead(&self.read), "read"),
        ];
        for (rule, known, how) in found {
            if let Some(known) = known {
                let text = format!(
                    "the board is at {position}, and the session had {how} at {}",
                    known.position
                );
                return Err(Violation::new(rule, text).with([known.by, call]));
            }
        }
        Ok(())
    }

    /// The board is there at least, for this session.
    fn mark(&self) -> Position {
        let known = [self.read, self.wrote].into_iter().flatten();
        let positions = known.map(|known| known.position);
        positions.max().unwrap_or_default()
    }

    fn key(&self, key: &str) -> KnownKey<'h> {
        self.keys.get(key).copied().unwrap_or_default()
    }
}

fn raise<'h>(known: &mut Option<Told<'h>>, told: Told<'h>) {
    if known.is_none_or(|last| last.position < told.position) {
        *known = Some(told);
    }
}
