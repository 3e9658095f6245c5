//! Whole lines of text, one at a time, of bounded length.

use std::io::{BufRead, Read};

use crate::cli::audit::{line::LONGEST, misfit::Misfit};

pub(super) struct Lines<R> {
    input: R,
    number: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn of(input: R) -> Self {
        Self {
            input,
            number: 0,
            text: Vec::new(),
        }
    }

    /// Of the line that was read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line, without its end; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<String>, Misfit> {
        self.number += 1;
        let refused = |detail: String| Misfit::at(self.number, detail);
        self.text.clear();
        let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        let read = (&mut self.input)
            .take(limit)
            .read_until(b'\n', &mut self.text)
            .map_err(|error| refused(format!("cannot be read: {error}")))?;
        if read == 0 {
            return Ok(None);
        }
        if self.text.pop() != Some(b'\n') {
            return Err(refused("torn: it does not end, or is too long".to_owned()));
        }
        match std::str::from_utf8(&self.text) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(refused("not UTF-8".to_owned())),
        }
    }
}
