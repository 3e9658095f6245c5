//! For fuzz targets: good input with something done to it. What is random from
//! the start is refused at the first byte; what is nearly good gets further.

use bolero::TypeGenerator;

/// What is done to an input.
#[derive(Debug, Clone, TypeGenerator)]
pub struct Damage {
    #[generator(bolero::generator::produce::<Vec<Edit>>().with().len(0..=4_usize))]
    edits: Vec<Edit>,
}

/// One change; positions and lengths are taken modulo what there is.
#[derive(Debug, Clone, TypeGenerator)]
enum Edit {
    /// Sets a byte.
    Set(u16, u8),
    /// Flips a bit.
    Flip(u16, u8),
    /// Puts a piece in that parsers stumble over.
    Insert(u16, u8),
    /// Puts anything in.
    InsertBytes(u16, [u8; 4]),
    /// Puts such a piece in the place of a part.
    Replace(u16, u8, u8),
    /// Takes a part out.
    Remove(u16, u8),
    /// Repeats a part.
    Repeat(u16, u8, u8),
    /// Ends it early.
    Cut(u16),
}

/// What parsers stumble over.
const PIECES: &[&str] = &[
    "\0",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    ".",
    "..",
    "/",
    "//",
    "_",
    "-",
    "+",
    "=",
    "==",
    "%",
    "%00",
    "%2e%2e%2f",
    " ",
    "\t",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "0",
    "-0",
    "-1",
    "1e309",
    "0.1",
    "4294967296",
    "18446744073709551616",
    "NaN",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{202e}",
    "\u{0130}",
    "é",
    "e\u{0301}",
    "😀",
    "\u{7f}",
    "'",
    "';--",
    "${x}",
    "{{",
    "<!--",
    "*",
    "?",
    "#",
    "@",
    "::1",
    "127.0.0.1",
    "localhost",
    "none",
    "HS256",
    "AAAA",
    "aaaa",
    "zzzzzzzzzzzzzzzzzzzzzz",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
];

impl Damage {
    /// The input after it.
    pub fn to_bytes(&self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for edit in &self.edits {
            edit.apply(&mut bytes);
        }
        bytes
    }

    /// A text after it; what is no longer UTF-8 is replaced.
    pub fn to_text(&self, good: &str) -> String {
        String::from_utf8_lossy(&self.to_bytes(good.as_bytes())).into_owned()
    }
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match *self {
            Self::Set(at, byte) => {
                if let Some(place) = place(bytes, at) {
                    *place = byte;
                }
            }
            Self::Flip(at, bit) => {
                if let Some(place) = place(bytes, at) {
                    *place ^= 1 << (bit % 8);
                }
            }
            Self::Insert(at, which) => splice(bytes, at, 0, piece(which)),
            Self::InsertBytes(at, inserted) => splice(bytes, at, 0, &inserted),
            Self::Replace(at, length, which) => splice(bytes, at, length, piece(which)),
            Self::Remove(at, length) => splice(bytes, at, length, b""),
            Self::Repeat(at, length, times) => {
                let start = usize::from(at) % (bytes.len() + 1);
                let end = (start + usize::from(length)).min(bytes.len());
                let repeated = bytes[start..end].repeat(usize::from(times % 32));
                splice(bytes, at, 0, &repeated);
            }
            Self::Cut(at) => bytes.truncate(usize::from(at) % (bytes.len() + 1)),
        }
    }
}

fn place(bytes: &mut [u8], at: u16) -> Option<&mut u8> {
    let at = usize::from(at).checked_rem(bytes.len())?;
    bytes.get_mut(at)
}

fn splice(bytes: &mut Vec<u8>, at: u16, removed: u8, inserted: &[u8]) {
    let start = usize::from(at) % (bytes.len() + 1);
    let end = (start + usize::from(removed)).min(bytes.len());
    bytes.splice(start..end, inserted.iter().copied());
}

fn piece(which: u8) -> &'static [u8] {
    PIECES[usize::from(which) % PIECES.len()].as_bytes()
}
