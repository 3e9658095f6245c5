//! What the commands about agents have in common.

use std::collections::BTreeMap;

/// Reads `key=value`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected `key=value`".to_owned()),
    }
}

/// Labels as the tools take them; none: nothing is said of them.
pub(super) fn labels(pairs: Vec<(String, String)>) -> Option<BTreeMap<String, String>> {
    (!pairs.is_empty()).then(|| pairs.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_a_key_and_any_value() {
        assert_eq!(label("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert_eq!(label("a=").unwrap(), ("a".into(), String::new()));
        for bad in ["", "a", "=b"] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert_eq!(labels(Vec::new()), None);
    }
}
