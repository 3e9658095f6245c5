//! Reading a scope: whether it is broad, and whether it writes.
//!
//! A scope is cut into words at every character that is neither a letter, a
//! digit nor `*`, and where a small letter meets a capital (`deleteAll`); its
//! words are compared whole, in any case.

use serde::{Deserialize, Serialize};

const BROAD_WORDS: &[&str] = &["all"];
const WRITE_WORDS: &[&str] = &[
    "write", "create", "update", "delete", "modify", "execute", "deploy", "admin",
];

/// What a scope reaches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// It names `*` or `all`, or nothing.
    pub broad: bool,
    /// It names a verb that changes something.
    pub writes: bool,
}

impl Reach {
    /// Reads a scope; `None` is one that was not given, which is broad.
    pub fn read(scope: Option<&str>) -> Self {
        let words = words(scope.unwrap_or_default());
        Self {
            broad: words.is_empty()
                || words
                    .iter()
                    .any(|word| is_star(word) || BROAD_WORDS.contains(&word.as_str())),
            writes: words
                .iter()
                .any(|word| WRITE_WORDS.contains(&word.as_str())),
        }
    }
}

fn is_star(word: &str) -> bool {
    word.chars().all(|c| c == '*')
}

fn words(scope: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(scope.len());
    let mut after_small = false;
    for c in scope.chars() {
        if after_small && c.is_uppercase() {
            spaced.push(' ');
        }
        after_small = c.is_lowercase();
        spaced.push(if c.is_alphanumeric() || c == '*' {
            c
        } else {
            ' '
        });
    }
    spaced
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broad_scopes_are_the_star_all_and_nothing() {
        assert!(Reach::read(None).broad);
        for scope in [
            "",
            "  ",
            ":",
            "*",
            "**",
            "all",
            "ALL",
            "invoices:*",
            "read:all",
            "*/read",
            "invoices.*",
        ] {
            assert!(Reach::read(Some(scope)).broad, "`{scope}`");
        }
    }

    #[test]
    fn named_scopes_are_not_broad() {
        for scope in [
            "read",
            "read:invoices",
            "small",
            "alligator",
            "wallet:read",
            "invoices*",
            "q4-2026",
        ] {
            assert!(!Reach::read(Some(scope)).broad, "`{scope}`");
        }
    }

    #[test]
    fn a_write_verb_is_found_as_a_whole_word() {
        for verb in WRITE_WORDS {
            for scope in [
                (*verb).to_owned(),
                verb.to_uppercase(),
                format!("{verb}:invoices"),
                format!("invoices:{verb}"),
                format!("read,{verb}"),
                format!("read_{verb}"),
                format!("read-{verb}"),
                format!("api/{verb}/x"),
                format!("read {verb}"),
                format!("{verb}Invoices"),
            ] {
                assert!(Reach::read(Some(&scope)).writes, "`{scope}`");
            }
        }
    }

    #[test]
    fn other_words_do_not_write() {
        for scope in [
            "read:invoices",
            "writer",
            "rewrites",
            "updates",
            "administration",
            "list",
            "",
        ] {
            assert!(!Reach::read(Some(scope)).writes, "`{scope}`");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(scope in ".{0,100}") {
            let _ = Reach::read(Some(&scope));
        }

        #[test]
        fn naming_more_never_hides_a_write(before in "[a-z:,/ _-]{0,20}", after in "[a-z:,/ _-]{0,20}") {
            let scope = format!("{before}:delete:{after}");
            prop_assert!(Reach::read(Some(&scope)).writes);
        }
    }
}
