//! SECURITY.md names the tests that show what it says.

use std::{fs, path::Path};

/// Rust sources beneath a directory, build results aside.
fn sources(dir: &Path, into: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_security_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut tests = String::new();
    for part in ["proto", "memory", "control-plane", "edge-agent"] {
        for folder in ["src", "tests"] {
            let dir = root.join(part).join(folder);
            if dir.is_dir() {
                sources(&dir, &mut tests);
            }
        }
    }
    let document = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    // a sentence has more than three words
    let named: Vec<_> = document
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.matches('_').count() > 3 && !code.contains(' '))
        .filter(|code| {
            code.chars()
                .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
        })
        .collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !tests.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
