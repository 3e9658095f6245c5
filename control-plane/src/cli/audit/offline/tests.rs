use super::*;
use crate::cli::audit::fixture::{ORIGIN, TestLog, signer};

fn text(lines: &[String]) -> String {
    lines
        .iter()
        .flat_map(|line| [line.as_str(), "\n"])
        .collect()
}

/// What checking these lines comes to, with the keys in them.
fn checked(lines: &[String], outside: Option<&str>) -> Checked {
    check(text(lines).as_bytes(), outside, &[], |_| ())
}

/// What does not fit in them.
fn misfit(lines: &[String], outside: Option<&str>) -> Misfit {
    let checked = checked(lines, outside);
    assert!(!checked.fits);
    checked.misfit.unwrap()
}

#[test]
fn a_good_export_fits_with_its_own_checkpoint_and_with_any_from_outside() {
    // sizes around those of tiles and batches
    for size in [1, 2, 255, 256, 257, 4095, 4096, 4097] {
        let log = TestLog::of(size);
        let lines = log.lines();
        for outside in [None, Some(1), Some(size / 2), Some(size - 1), Some(size)] {
            let note = outside
                .filter(|size| *size > 0)
                .map(|size| log.checkpoint(size));
            let checked = checked(&lines, note.as_deref());
            assert_eq!(checked.misfit, None, "{size} {outside:?}");
            assert!(checked.fits);
            assert_eq!(
                (checked.entries, checked.checkpoint_size),
                (size, Some(size))
            );
            assert_eq!(
                checked.outside_checkpoint_size,
                outside.filter(|size| *size > 0)
            );
            assert_eq!(checked.keys_from, Some(KeysFrom::File));
        }
    }
}

#[test]
fn bodies_that_retention_has_dropped_are_counted_and_still_fit() {
    let log = TestLog::of(300);
    let mut lines = log.lines();
    for index in 0..100 {
        let hash = leaf_hash(&log.leaves[index]);
        lines[index + 1] = format!("{{\"index\":{index},\"leaf_hash\":\"{hash}\"}}");
    }
    let checked = checked(&lines, None);
    assert!(checked.fits, "{checked:?}");
    assert_eq!((checked.entries, checked.dropped), (300, 100));
}

#[test]
fn keys_from_outside_go_before_those_in_the_file() {
    let log = TestLog::of(3);
    let text = text(&log.lines());
    let of = |keys: &[VerifierKey]| check(text.as_bytes(), None, keys, |_| ());
    let own = of(&[log.signer.verifier_key(ORIGIN)]);
    assert!(own.fits);
    assert_eq!(own.keys_from, Some(KeysFrom::Given));
    let foreign = of(&[signer().verifier_key(ORIGIN)]);
    let misfit = foreign.misfit.unwrap();
    assert_eq!(misfit.line, Some(5));
    assert!(misfit.detail.contains("none of the known keys"), "{misfit}");
}

#[test]
fn a_changed_entry_is_among_those_that_no_checkpoint_has_proved() {
    let log = TestLog::of(20);
    let mut lines = log.lines();
    lines[13] = lines[13].replace("denied", "ok");
    let found = misfit(&lines, None);
    assert_eq!(found.line, None);
    assert!(found.detail.contains("the entries 0 to 19 "), "{found}");
    let found = misfit(&lines, Some(&log.checkpoint(12)));
    assert!(found.detail.contains("the entries 12 to 19 "), "{found}");
    let found = misfit(&lines, Some(&log.checkpoint(13)));
    assert!(
        found.detail.contains("the outside checkpoint has"),
        "{found}"
    );
}

#[test]
fn the_first_line_that_does_not_fit_is_named() {
    let log = TestLog::of(9);
    let good = log.lines();
    let of = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = good.clone();
        change(&mut lines);
        let found = misfit(&lines, None);
        (found.line.unwrap_or_default(), found.detail)
    };
    let of = |change: &dyn Fn(&mut Vec<String>), line: u64, words: &str| {
        let (found, detail) = of(change);
        assert_eq!(found, line, "{detail}");
        assert!(detail.contains(words), "{detail}");
    };
    of(&|lines| drop(lines.remove(4)), 5, "missing");
    of(
        &|lines| lines.insert(4, lines[3].clone()),
        5,
        "stands before it",
    );
    of(&|lines| lines.swap(4, 5), 5, "missing");
    of(&|lines| lines[6].truncate(30), 7, "EOF");
    of(
        &|lines| lines[6] = lines[6].replacen(':', ": ", 1),
        7,
        "form",
    );
    of(
        &|lines| lines[6] = lines[6].replacen("\"count\":1,", "", 1),
        7,
        "canonical",
    );
    of(&|lines| drop(lines.remove(0)), 1, "log");
    of(&|lines| lines.clear(), 0, "empty");
    of(
        &|lines| lines.push(String::new()),
        12,
        "after the checkpoint",
    );
    of(&|lines| drop(lines.pop()), 0, "--resume");
    of(
        &|lines| drop(lines.remove(9)),
        10,
        "is of 9 entries, there are 8",
    );
    let larger = log.signed(ORIGIN, 10, log.root(9));
    of(
        &|lines| lines[10] = Line::Checkpoint(larger.clone()).text(),
        11,
        "is of 10 entries",
    );
    let other = log.signed("example.org/audit/1", 9, log.root(9));
    of(
        &|lines| lines[10] = Line::Checkpoint(other.clone()).text(),
        11,
        "none of the known keys",
    );
    let wrong = log.checkpoint(9).replacen("\n9\n", "\n8\n", 1);
    of(
        &|lines| lines[10] = Line::Checkpoint(wrong.clone()).text(),
        11,
        "signature",
    );
    let unsigned = Line::Checkpoint("nothing".to_owned()).text();
    of(
        &|lines| lines[10].clone_from(&unsigned),
        11,
        "not a signed note",
    );
}

#[test]
fn torn_and_endless_lines_are_named() {
    let log = TestLog::of(3);
    let text = text(&log.lines());
    let of = |text: &[u8]| check(text, None, &[], |_| ()).misfit.unwrap();
    let torn = of(&text.as_bytes()[..text.len() - 1]);
    assert_eq!((torn.line, &torn.detail[..4]), (Some(5), "torn"));
    let mut endless = log.lines()[0].clone() + "\n";
    endless.push_str(&"x".repeat(crate::cli::audit::line::LONGEST + 1));
    assert_eq!(of(endless.as_bytes()).line, Some(2));
    let mut latin = text.into_bytes();
    let accent = latin.iter().position(|byte| *byte == 0xc3).unwrap();
    latin[accent] = 0xe9;
    assert_eq!(of(&latin).detail, "not UTF-8");
}

#[test]
fn an_outside_checkpoint_stands_for_a_missing_end_and_finds_a_cut_one() {
    let log = TestLog::of(8);
    let mut lines = log.lines();
    lines.pop();
    let whole = checked(&lines, Some(&log.checkpoint(8)));
    assert!(whole.fits);
    assert_eq!(whole.checkpoint_size, None);
    let found = misfit(&lines, Some(&log.checkpoint(7)));
    assert!(found.detail.contains("cut short"), "{found}");

    // the log was cut together with its checkpoints, and signed again
    let mut lines = log.lines();
    lines.truncate(6);
    lines.push(Line::Checkpoint(log.checkpoint(5)).text());
    assert!(checked(&lines, None).fits);
    let found = misfit(&lines, Some(&log.checkpoint(8)));
    assert!(
        found.detail.contains("is of 8 entries, there are 5"),
        "{found}"
    );
    let other = log.signed("example.org/audit/1", 5, log.root(5));
    let found = misfit(&lines, Some(&other));
    assert!(found.detail.contains("none of the known keys"), "{found}");
}
