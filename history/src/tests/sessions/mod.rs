//! What sessions may rely on.

mod absent;
mod board;
mod planted;
mod random;
mod world;

use crate::{
    History,
    check::{self, Rule},
};

fn is_caught(history: &History) -> Rule {
    let violation = check::sessions(history).unwrap_err();
    assert!(!violation.concerned.is_empty(), "{violation}");
    violation.rule
}

fn is_right(history: &History) {
    if let Err(violation) = check::sessions(history) {
        panic!("{violation}");
    }
}
