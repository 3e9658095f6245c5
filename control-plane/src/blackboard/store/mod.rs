//! All SQL of the blackboard, a file for each noun.

mod board;
mod change;
mod entry;
mod replica;
mod version;

use authguardian_proto::{board::Key, ids::BoardName};

pub(super) use board::*;
pub(super) use change::*;
pub(super) use entry::*;
pub(super) use replica::*;
pub(super) use version::*;

use crate::error::{Error, Result};

fn unreadable(column: &str) -> Error {
    Error::internal(format!("unreadable value in `{column}`"))
}

fn board_name(text: &str) -> Result<BoardName> {
    text.parse().map_err(|_| unreadable("board.name"))
}

fn key(text: &str) -> Result<Key> {
    text.parse().map_err(|_| unreadable("board_entry.key"))
}

fn count(number: i64) -> u64 {
    number.unsigned_abs() // constraints of the tables keep it positive
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
