//! `blackboard://{board}/{key}`: a key, or a whole board, as a resource.

use std::fmt;

use authguardian_proto::{board::Key, ids::BoardName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const SCHEME: &str = "blackboard://";

/// Everything but what RFC 3986 leaves unreserved, as simple expansion of RFC 6570 has it.
pub(in crate::core) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What the URI of a resource of boards names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BoardUri {
    /// The board's name.
    pub board: BoardName,
    /// The key; `None`: all keys of the board.
    pub key: Option<Key>,
}

impl BoardUri {
    /// RFC 6570.
    pub const TEMPLATE: &'static str = "blackboard://{board}/{key}";

    /// Reads a URI. Whatever follows the board is the key, percent-encoded: `/`,
    /// `?` and `#` may stand in it as they are.
    pub fn parse(uri: &str) -> Option<Self> {
        let (board, key) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        let key = match decoded(key)?.as_str() {
            "" => None,
            key => Some(key.parse().ok()?),
        };
        Some(Self {
            board: board.parse().ok()?,
            key,
        })
    }
}

impl fmt::Display for BoardUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref().map(Key::as_str).unwrap_or_default();
        let key = utf8_percent_encode(key, ENCODED);
        write!(f, "{SCHEME}{}/{key}", self.board)
    }
}

/// `None` where a `%` begins nothing, or what is encoded is no text.
pub(in crate::core) fn decoded(text: &str) -> Option<String> {
    let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
    let mut after = text.split('%').map(str::bytes);
    after.next();
    let all_encode = after.all(|mut bytes| is_hex(bytes.next()) && is_hex(bytes.next()));
    let text = percent_decode_str(text).decode_utf8();
    text.ok().filter(|_| all_encode).map(Into::into)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(uri: &str) -> Option<String> {
        let key = BoardUri::parse(uri)?.key?;
        Some(key.to_string())
    }

    #[test]
    fn keys_are_read_encoded_or_as_they_are() {
        for (uri, read) in [
            ("blackboard://strong/a", "a"),
            ("blackboard://strong/a%20b", "a b"),
            ("blackboard://strong/a b", "a b"),
            ("blackboard://strong/a%2Fb", "a/b"),
            ("blackboard://strong/a/b", "a/b"),
            ("blackboard://strong//", "/"),
            ("blackboard://strong/a?b#c", "a?b#c"),
            ("blackboard://strong/100%25", "100%"),
            ("blackboard://strong/%F0%9F%9A%80", "🚀"),
        ] {
            assert_eq!(key(uri).as_deref(), Some(read), "{uri}");
        }
        let all = BoardUri::parse("blackboard://team-7/").unwrap();
        assert_eq!((all.board.as_str(), &all.key), ("team-7", &None));
    }

    #[test]
    fn what_names_nothing_is_no_uri() {
        let long = format!("blackboard://strong/{}", "a".repeat(513));
        for uri in [
            "blackboard://strong",
            "blackboard:///a",
            "blackboard://Strong/a",
            "blackboard://a%20b/a",
            "blackboard://strong/100%",
            "blackboard://strong/%zz",
            "blackboard://strong/%ff",
            "blackboard://strong/%00",
            "grants://active",
            &long,
        ] {
            assert_eq!(BoardUri::parse(uri), None, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn any_key_reads_back(board in "[a-z][a-z0-9_-]{0,63}", key in "[^\\x00]{1,120}") {
            prop_assume!(key.len() <= 512);
            let uri = BoardUri { board: board.parse().unwrap(), key: key.parse().ok() };
            let text = uri.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{}", text);
            prop_assert_eq!(BoardUri::parse(&text), Some(uri));
        }

        #[test]
        fn any_text_is_a_uri_or_not(rest in ".{0,60}") {
            let _ = BoardUri::parse(&format!("blackboard://strong/{rest}"));
        }
    }
}
