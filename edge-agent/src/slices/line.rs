//! The lines of every reservation, put together by hand: as serde writes them, in a third of
//! the time.

use uuid::Uuid;

/// A line that is appended to others.
pub(super) struct Line<'a>(&'a mut Vec<u8>);

/// Digits of the largest number.
const DIGITS: usize = 20;

/// Length of any such line, but for the text in it.
const LENGTH: usize = 192;

impl<'a> Line<'a> {
    pub(super) fn begin(lines: &'a mut Vec<u8>) -> Self {
        lines.reserve(LENGTH);
        Self(lines)
    }

    /// What stands for itself.
    pub(super) fn text(self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(super) fn number(self, mut number: u64) -> Self {
        let mut digits = [0; DIGITS];
        let mut at = DIGITS;
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10).to_le_bytes()[0];
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[at..]);
        self
    }

    /// Within quotes.
    pub(super) fn id(self, id: Uuid) -> Self {
        let mut text = Uuid::encode_buffer();
        let text = id.hyphenated().encode_lower(&mut text);
        self.text(text)
    }
}

/// Whether JSON has a text as it is, within quotes.
pub(super) fn is_plain(text: &str) -> bool {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    text.bytes().all(is_plain)
}
