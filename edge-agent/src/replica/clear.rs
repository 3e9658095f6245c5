//! Boards lose what is in them, a part at a time.

use authguardian_proto::{common::v1::Position, ids::BoardName};
use redb::ReadableTable;

use super::{
    change::{MAX_GONE, Place, Writing},
    error::Result,
    record::Record,
    store::{read_key, rows_after, rows_of},
    take::{MAX_WORK, Step},
};

/// Bytes of rows that are looked at in one go.
const MAX_SWEPT: usize = 4 * 1024 * 1024;

impl Writing<'_> {
    /// Of a part of the rows of a board that was pulled as a whole, what was not among that
    /// goes, but for what is to be handed over. Then the board has its position.
    pub(super) fn sweep(
        &mut self,
        name: BoardName,
        from: &[u8],
        position: Position,
    ) -> Result<Option<Step>> {
        let Some(mut board) = self.told_of(&name, None) else {
            return Ok(None);
        };
        let (mut old, mut bytes, mut next) = (Vec::new(), 0, None);
        for row in self.keys.range(from..rows_after(&name).as_slice())? {
            let (at, row) = row?;
            if old.len() >= MAX_WORK || bytes >= MAX_SWEPT || self.work >= MAX_WORK {
                next = Some(at.value().to_vec());
                break;
            }
            let key = read_key(&at.value()[name.as_str().len() + 1..])?;
            let record = Record::decode(&key, row.value())?;
            bytes += row.value().len();
            self.work += 1;
            if record.generation < board.generation && !record.is_gone() {
                old.push((Place::new(&name, key), record));
            }
        }
        for (place, record) in old {
            let mut new = record.clone();
            self.keep_outgoing(&mut new);
            new.generation = board.generation;
            if !new.is_gone() {
                self.settle(&place, &record, new)?;
            } else if !record.has_value() {
                self.forget(&place, &record)?;
            } else if self.gone(&name) < MAX_GONE {
                self.end(&place, &record, board.generation)?;
            } else {
                // there is too much of it to tell it to watches that go on after a break
                self.vanish(&place, &record)?;
            }
        }
        if let Some(next) = next {
            return Ok(Some(Step::Sweep(name, next, position)));
        }
        self.must_last();
        // what was done to its counts in between
        board = self.told_of(&name, None).unwrap_or(board);
        board.is_resetting = false;
        board.is_partial = false;
        board.position = Some(position);
        self.change_board(board);
        Ok(None)
    }

    /// How many keys are kept that are gone.
    fn gone(&self, name: &BoardName) -> u64 {
        self.board(name).map_or(0, |board| board.counts.gone)
    }

    /// A board may no longer be here.
    pub(super) fn drop_board(&mut self, name: BoardName) -> Option<Step> {
        let mut board = (*self.board(&name)?).clone();
        self.must_last();
        board.is_dropped = true;
        self.change_board(board);
        self.dropped.push(name.clone());
        Some(Step::Erase(name))
    }

    /// Removes a part of the rows of a board. Its outgoing writes stay: they have to be handed
    /// over, and refused, for those after them to be taken.
    pub(super) fn erase(&mut self, name: BoardName) -> Result<Option<Step>> {
        let (from, to) = (rows_of(&name), rows_after(&name));
        let (from, to) = (from.as_slice(), to.as_slice());
        let most = MAX_WORK.saturating_sub(self.work).max(1);
        let (mut removed, mut payload) = (0, 0);
        for row in self.keys.extract_from_if(from..to, |_, _| true)?.take(most) {
            let (at, row) = row?;
            payload += Self::payload(at.value().len(), row.value().len());
            removed += 1;
        }
        for row in self
            .revisions
            .extract_from_if(from..to, |_, _| true)?
            .take(most)
        {
            row?;
            removed += 1;
        }
        for rows in [&mut self.conflicts, &mut self.ended] {
            for row in rows.extract_from_if(from..to, |_, ()| true)?.take(most) {
                row?;
                removed += 1;
            }
        }
        self.state.payload = self.state.payload.saturating_sub(payload);
        if removed > 0 {
            self.must_last();
            self.touch(0);
            self.work += removed;
            return Ok(Some(Step::Erase(name)));
        }
        self.forget_board(&name);
        Ok(None)
    }
}
