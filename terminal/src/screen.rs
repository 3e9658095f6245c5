//! Where pictures are drawn.

use std::io::{self, Write};

use rustix::termios::tcgetwinsize;

use crate::Sight;

/// Lines of a terminal that does not tell its size.
const USUAL_LINES: usize = 24;

/// What was shown last, and how the next is.
pub(crate) struct Screen {
    redraws: bool,
    last: Option<Sight>,
    trouble: Option<String>,
}

impl Screen {
    pub(crate) fn new(redraws: bool) -> Self {
        Self {
            redraws,
            last: None,
            trouble: None,
        }
    }

    /// Shows a sight; where pictures follow each other, only a new one.
    pub(crate) fn show(
        &mut self,
        sight: Sight,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> io::Result<()> {
        self.trouble = None;
        let begins = self.last.is_none();
        let changed = self.last.as_ref().is_none_or(|last| is_other(last, &sight));
        let sight = self.last.insert(sight);
        if self.redraws {
            let picture = picture(sight, None, begins, lines());
            return write(out, &picture);
        }
        if !changed {
            return Ok(());
        }
        write(out, &sight.text)?;
        match &sight.hint {
            Some(hint) => writeln!(err, "{hint}"),
            None => Ok(()),
        }
    }

    /// Tells once that looking fails at present.
    pub(crate) fn trouble(
        &mut self,
        trouble: String,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> io::Result<()> {
        if self.trouble.as_ref() == Some(&trouble) {
            return Ok(());
        }
        let trouble = self.trouble.insert(trouble);
        match &self.last {
            Some(last) if self.redraws => write(out, &picture(last, Some(trouble), false, lines())),
            _ => writeln!(err, "{trouble}"),
        }
    }
}

fn is_other(last: &Sight, next: &Sight) -> bool {
    match (&last.compared, &next.compared) {
        (Some(last), Some(next)) => last != next,
        _ => last != next,
    }
}

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn lines() -> usize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 => usize::from(size.ws_row),
        _ => USUAL_LINES,
    }
}

/// A picture that covers the one before without flicker: no more lines than
/// there are, none wrapped, and nothing left over beside or below.
fn picture(sight: &Sight, trouble: Option<&str>, begins: bool, lines: usize) -> String {
    let below: Vec<&str> = sight.hint.as_deref().into_iter().chain(trouble).collect();
    let room = lines.saturating_sub(below.len() + 1).max(1);
    let all: Vec<&str> = sight.text.lines().collect();
    let hidden = all.len().saturating_sub(room);
    let more = match hidden {
        0 => None,
        // the line that tells takes the place of one more
        hidden => Some(format!("… {} more lines", hidden + 1)),
    };
    let kept = if more.is_some() { room - 1 } else { all.len() };
    let mut picture = String::from(if begins { "\x1b[2J" } else { "" });
    picture.push_str("\x1b[H\x1b[?7l");
    for line in all[..kept]
        .iter()
        .copied()
        .chain(more.as_deref())
        .chain(below)
    {
        picture.push_str(line);
        picture.push_str("\x1b[K\n");
    }
    picture.push_str("\x1b[J\x1b[?7h");
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(text: &str) -> Sight {
        Sight {
            text: text.to_owned(),
            ..Sight::default()
        }
    }

    #[test]
    fn into_a_pipe_goes_only_what_changed() {
        let mut screen = Screen::new(false);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for text in ["a\n", "a\n", "b\n", "a\n"] {
            screen.show(sight(text), &mut out, &mut err).unwrap();
        }
        assert_eq!((&out[..], &err[..]), (&b"a\nb\na\n"[..], &b""[..]));
    }

    #[test]
    fn what_always_changes_can_be_left_out_of_the_comparison() {
        let mut screen = Screen::new(false);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for (text, compared) in [("1\n", "x"), ("2\n", "x"), ("3\n", "y")] {
            let sight = Sight {
                compared: Some(compared.to_owned()),
                ..sight(text)
            };
            screen.show(sight, &mut out, &mut err).unwrap();
        }
        assert_eq!(out, b"1\n3\n");
    }

    #[test]
    fn trouble_is_told_once_and_on_stderr() {
        let mut screen = Screen::new(false);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        screen.show(sight("a\n"), &mut out, &mut err).unwrap();
        for _ in 0..2 {
            screen
                .trouble("away".to_owned(), &mut out, &mut err)
                .unwrap();
        }
        screen.show(sight("a\n"), &mut out, &mut err).unwrap();
        screen
            .trouble("away".to_owned(), &mut out, &mut err)
            .unwrap();
        assert_eq!((&out[..], &err[..]), (&b"a\n"[..], &b"away\naway\n"[..]));
    }

    #[test]
    fn a_picture_covers_the_one_before() {
        let shown = Sight {
            hint: Some("hint".to_owned()),
            ..sight("a\nb\n")
        };
        assert_eq!(
            picture(&shown, Some("trouble"), true, 24),
            "\x1b[2J\x1b[H\x1b[?7la\x1b[K\nb\x1b[K\nhint\x1b[K\ntrouble\x1b[K\n\x1b[J\x1b[?7h"
        );
    }

    #[test]
    fn a_picture_never_has_more_lines_than_the_terminal() {
        let tall = sight("1\n2\n3\n4\n5\n");
        for lines in 0..8 {
            let drawn = picture(&tall, None, false, lines).lines().count();
            assert!(drawn <= lines.max(2), "{drawn} lines on {lines}");
        }
        assert!(picture(&tall, None, false, 4).contains("2\x1b[K\n… 3 more lines\x1b[K\n"));
        assert!(!picture(&tall, None, false, 6).contains("more"));
    }
}
