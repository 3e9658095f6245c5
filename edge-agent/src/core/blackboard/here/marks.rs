//! What callers have seen of session boards: they are shown nothing older.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use authguardian_proto::{
    common::v1::Position,
    ids::{ApiKeyId, BoardName},
};

/// With more than these all are forgotten: then each next read is forwarded, and
/// marks its board anew.
const MOST: usize = 100_000;

/// The newest position of each board that each principal was told.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<HashMap<(ApiKeyId, BoardName), Position>>);

impl Marks {
    /// What a principal has seen of a board; `None`: nobody knows here.
    pub(super) fn of(&self, who: ApiKeyId, board: &BoardName) -> Option<Position> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(&(who, board.clone())).copied()
    }

    /// A principal is told of a board as it is at a position.
    pub(super) fn raise(&self, who: ApiKeyId, board: &BoardName, seen: Position) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.len() >= MOST {
            marks.clear();
        }
        let mark = marks.entry((who, board.clone())).or_insert(seen);
        *mark = later(*mark, seen);
    }

    /// As [`Marks::raise`], only of what has a mark: what a stream tells is a part of what
    /// a principal may have seen before this edge began.
    pub(super) fn raise_known(&self, who: ApiKeyId, board: &BoardName, seen: Position) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = marks.get_mut(&(who, board.clone())) {
            *mark = later(*mark, seen);
        }
    }

    /// Forgets what a principal has seen, of a board that no longer knows of it.
    pub(super) fn forget(&self, who: ApiKeyId, board: &BoardName) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.remove(&(who, board.clone()));
    }
}

/// The later of two positions; those of a later epoch are later.
pub(super) fn later(a: Position, b: Position) -> Position {
    if (a.epoch, a.revision) < (b.epoch, b.revision) {
        b
    } else {
        a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_only_rises_and_is_of_one_principal_and_board() {
        let marks = Marks::default();
        let who: ApiKeyId = "apk_0000000000000000000008".parse().unwrap();
        let (board, other): (BoardName, BoardName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let at = |epoch, revision| Position { epoch, revision };
        assert_eq!(marks.of(who, &board), None);
        for seen in [at(1, 5), at(1, 3), at(2, 1), at(1, 9)] {
            marks.raise(who, &board, seen);
        }
        assert_eq!(marks.of(who, &board), Some(at(2, 1)));
        assert_eq!(marks.of(who, &other), None);
        marks.raise_known(who, &board, at(2, 7));
        marks.raise_known(who, &other, at(2, 7));
        assert_eq!(marks.of(who, &board), Some(at(2, 7)));
        assert_eq!(marks.of(who, &other), None, "nothing is known of before");
        marks.forget(who, &board);
        assert_eq!(marks.of(who, &board), None);
    }
}
