//! How far something long has come: on a terminal, in one line on stderr.

use std::io::{self, IsTerminal, Write};

pub(super) struct Progress {
    on_terminal: bool,
    shown: bool,
}

impl Progress {
    pub(super) fn begin() -> Self {
        Self {
            on_terminal: io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Shows it in the place of what was shown before.
    pub(super) fn show(&mut self, text: &str) {
        if self.on_terminal {
            self.shown = true;
            write_stderr(&format!("\r\x1b[K{text}"));
        }
    }

    /// Makes room for other lines.
    pub(super) fn clear(&mut self) {
        if self.shown {
            self.shown = false;
            write_stderr("\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What cannot be shown is no reason to stop.
fn write_stderr(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}
