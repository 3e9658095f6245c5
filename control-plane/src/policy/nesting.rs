//! Bounds on nesting, checked on the text before Cedar sees it.
//!
//! Cedar 4.14 follows brackets, `if`s and chains of operators by recursion
//! without a limit of its own: some 100 open brackets, a few thousand `if`s or
//! some 30,000 operators overflow a stack of 2 MiB, which would end the process
//! for an upload that a viewer may send.

/// Brackets open at the same time; people write 5 or so.
const MAX_OPEN_BRACKETS: usize = 24;

/// `if`s in one policy.
const MAX_IFS: usize = 100;

/// Words, strings and signs in one policy.
const MAX_TOKENS: usize = 20_000;

/// Refuses text that is nested too deeply. What stands in strings and comments
/// does not count.
///
/// # Errors
/// With the finding.
pub(super) fn check(source: &str) -> Result<(), String> {
    let mut open = Vec::new();
    let (mut ifs, mut tokens) = (0, 0);
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest, first)
            .ok_or_else(|| format!("line {line}: a string is not closed"))?;
        let (token, after) = rest.split_at(length);
        match first {
            '(' | '[' | '{' => open.push(closing(first)),
            ')' | ']' | '}' if open.last() == Some(&first) => drop(open.pop()),
            ';' => (ifs, tokens) = (0, 0),
            _ if token == "if" => ifs += 1,
            _ => {}
        }
        tokens += usize::from(!first.is_whitespace() && !token.starts_with("//"));
        for (count, most, what) in [
            (open.len(), MAX_OPEN_BRACKETS, "open brackets"),
            (ifs, MAX_IFS, "`if`s"),
            (tokens, MAX_TOKENS, "words and signs"),
        ] {
            if count > most {
                return Err(format!(
                    "line {line}: more than {most} {what} in one policy"
                ));
            }
        }
        line += token.matches('\n').count();
        rest = after;
    }
    Ok(())
}

const fn closing(bracket: char) -> char {
    match bracket {
        '(' => ')',
        '[' => ']',
        _ => '}',
    }
}

/// Bytes of the string, comment, word or single character that comes next;
/// `None` where a string has no end.
fn token_length(rest: &str, first: char) -> Option<usize> {
    match first {
        '"' => string_length(rest),
        '/' if rest.starts_with("//") => Some(rest.find('\n').unwrap_or(rest.len())),
        _ if is_word(first) => Some(rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
        _ => Some(first.len_utf8()),
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// With both quotes.
fn string_length(rest: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::validation::validate, *};

    fn when(condition: &str) -> String {
        format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};")
    }

    fn nested(open: &str, close: &str, depth: usize) -> String {
        when(&format!(
            "{}true{}",
            open.repeat(depth),
            close.repeat(depth)
        ))
    }

    #[test]
    fn brackets_may_be_nested_up_to_the_limit() {
        // one is open already: that of `when`
        assert!(validate(&nested("(", ")", MAX_OPEN_BRACKETS - 1)).is_valid());
        let found = validate(&nested("(", ")", MAX_OPEN_BRACKETS)).errors;
        assert_eq!(found, ["line 1: more than 24 open brackets in one policy"]);
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("{a:", "}"),
            ("(]", ")"),
            ("!(", ")"),
        ] {
            assert!(
                !validate(&nested(open, close, 100_000)).is_valid(),
                "`{open}`"
            );
        }
        assert!(!validate(&nested("if true then true else ", "", 40_000)).is_valid());
        assert!(!validate(&nested("if if", "", 100_000)).is_valid());
    }

    #[test]
    fn the_deepest_text_that_is_taken_fits_the_stack() {
        let ifs = "if true then true else ".repeat(MAX_IFS);
        let deep = format!(
            "{}{ifs}true{}",
            "(".repeat(MAX_OPEN_BRACKETS - 1),
            ")".repeat(MAX_OPEN_BRACKETS - 1)
        );
        assert!(validate(&when(&deep)).is_valid());
        let sets = format!(
            "{}1{} == [1]",
            "[".repeat(MAX_OPEN_BRACKETS - 1),
            "]".repeat(MAX_OPEN_BRACKETS - 1)
        );
        assert!(!validate(&when(&sets)).is_valid(), "of another type");
    }

    #[test]
    fn chains_of_operators_fit_the_stack() {
        for (link, tokens) in [("1 + ", 2), ("1 * ", 2), ("true && ", 3), ("true || ", 3)] {
            let longest = when(&format!("{}1", link.repeat((MAX_TOKENS - 40) / tokens)));
            check(&longest).unwrap();
            let _ = validate(&longest);
            assert!(!validate(&when(&format!("{}1", link.repeat(100_000)))).is_valid());
        }
        let longest = when(&format!("context{}", ".a".repeat(MAX_TOKENS / 2 - 20)));
        check(&longest).unwrap();
        let _ = validate(&longest);
    }

    #[test]
    fn strings_and_comments_do_not_count() {
        let brackets = "(".repeat(100);
        assert!(check(&format!("// {brackets}\n")).is_ok());
        assert!(check(&format!("\"{brackets}\"")).is_ok());
        assert!(check(&format!("\"\\\"{brackets}\"")).is_ok());
    }

    #[test]
    fn nothing_hides_behind_what_only_looks_like_one() {
        let brackets = "(".repeat(100);
        assert!(check(&format!("// comment\n{brackets}")).is_err());
        assert!(check(&format!("\"text\" {brackets}")).is_err());
        assert_eq!(
            check("\n\"open \\\""),
            Err("line 2: a string is not closed".to_owned())
        );
        assert!(check(&format!("\"\\\\\" {brackets}")).is_err());
    }

    #[test]
    fn counts_begin_anew_with_each_policy() {
        let policy = when(&format!(
            "{}true",
            "if true then true else ".repeat(MAX_IFS)
        ));
        assert!(check(&policy.repeat(3)).is_ok());
        assert!(check(&format!("{} if", policy.replace(';', ""))).is_err());
    }

    proptest! {
        #[test]
        fn no_soup_of_tokens_ends_the_process(
            tokens in proptest::collection::vec(
                prop::sample::select(vec!["(", ")", "[", "]", "{", "}", "!", ";", "\"", "\\", "//", "\n", "if ", "true ", ".a", "when ", "permit", ","]),
                0..3000,
            )
        ) {
            let _ = validate(&tokens.concat());
        }
    }
}
