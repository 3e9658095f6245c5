//! What is on disk: whole or not at all, and told when it cannot be used.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use authguardian_proto::reason::Reason;

use super::{
    super::{Alarm, Archive, Witness},
    FIRST, Log, SECOND, machine, open, refused, size, take,
};
use crate::clock::manual::ManualClock;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_is_kept_is_there_after_the_process_and_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(FIRST).grow("a", 5);
    let witness = open(dir.path());
    assert_eq!(witness.status(), None);
    take(&witness, log.answer(None)).await;
    let kept = witness.request();
    assert!(kept.kept.starts_with(&format!("{FIRST}\n5\n")), "{kept:?}");
    let again = open(dir.path());
    assert_eq!((again.request(), again.opening()), (kept.clone(), None));
    let archive = Archive::read(dir.path()).unwrap().kept.unwrap();
    assert_eq!((archive.note, archive.checkpoint), (kept.kept, log.head()));
    assert_eq!(archive.key, log.signer.verifier_key(FIRST));
    let room = dir.path().join("witness");
    assert_eq!(mode(&room), 0o700);
    assert_eq!(mode(&room.join("checkpoint.json")), 0o600);
    assert!(!room.join("checkpoint.new").exists());
}

#[tokio::test]
async fn what_a_kill_left_half_written_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(FIRST).grow("a", 5);
    take(&open(dir.path()), log.answer(None)).await;
    fs::write(
        dir.path().join("witness/checkpoint.new"),
        b"{\"machine_id\": \"mch",
    )
    .unwrap();
    let witness = open(dir.path());
    assert_eq!((size(&witness), witness.opening()), (Some(5), None));
    take(&witness, log.grow("a", 1).answer(Some(5))).await;
    assert_eq!(size(&open(dir.path())), Some(6));
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_told_and_the_next_checkpoint_is_a_first_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(FIRST).grow("a", 5);
    let path = dir.path().join("witness/checkpoint.json");
    take(&open(dir.path()), log.answer(None)).await;
    let whole = fs::read_to_string(&path).unwrap();
    let log = log.grow("a", 4);
    for damaged in [
        "",
        &whole[..whole.len() / 2],
        &whole.replacen("\\n5\\n", "\\n6\\n", 1),
        &whole.replacen("machine_id", "machine", 1),
    ] {
        assert_ne!(damaged, whole);
        fs::write(&path, damaged).unwrap();
        let error = Archive::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("checkpoint.json` is damaged"), "{error}");
        let witness = open(dir.path());
        let alarm = Alarm {
            reason: Reason::Internal,
        };
        assert_eq!((witness.opening(), witness.opening()), (Some(alarm), None));
        let aside = fs::read_to_string(path.with_extension("damaged")).unwrap();
        assert_eq!(aside, damaged);
        assert_eq!(size(&witness), None);
        take(&witness, log.answer(None)).await;
        assert_eq!(size(&open(dir.path())), Some(9));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    // what even root cannot read as a file
    fs::create_dir_all(dir.path().join("witness/checkpoint.json")).unwrap();
    let (_, ambient) = ManualClock::ambient();
    let opened = Witness::open(dir.path(), machine(1), ambient);
    let errors = [
        opened.err().unwrap(),
        Archive::read(dir.path()).unwrap_err(),
    ];
    for error in errors {
        let error = error.to_string();
        assert!(error.contains("witness/checkpoint.json`: "), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_not_kept_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(FIRST).grow("a", 5);
    let witness = open(dir.path());
    take(&witness, log.answer(None)).await;
    let new = dir.path().join("witness/checkpoint.new");
    fs::create_dir(&new).unwrap();
    let log = log.grow("a", 1);
    assert_eq!(take(&witness, log.answer(Some(5))).await, "");
    assert_eq!(size(&witness), Some(5));
    fs::remove_dir(&new).unwrap();
    take(&witness, log.answer(Some(5))).await;
    assert_eq!(size(&witness), Some(6));
}

#[tokio::test]
async fn what_was_refused_is_known_after_the_process_and_not_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(FIRST).grow("a", 5);
    let fork = log.beside(FIRST).grow("b", 7);
    let witness = open(dir.path());
    take(&witness, log.answer(None)).await;
    assert_eq!(
        take(&witness, fork.answer(Some(5))).await,
        "REVISION_CONFLICT"
    );
    let witness = open(dir.path());
    assert_eq!(refused(&witness).as_deref(), Some("fork"));
    assert_eq!(take(&witness, fork.answer(Some(5))).await, "");
    // both notes are there, each signed: two things were said of one log
    for name in ["refused.json", "refused-fork-1.json"] {
        let evidence = fs::read_to_string(dir.path().join("witness").join(name)).unwrap();
        let evidence: serde_json::Value = serde_json::from_str(&evidence).unwrap();
        assert_eq!(evidence["checkpoint"], fork.answer(None).checkpoint);
        assert_eq!(evidence["kept"], witness.request().kept);
    }

    take(&witness, log.grow("a", 1).answer(Some(5))).await;
    assert_eq!(refused(&open(dir.path())), None);
    assert_eq!(evidence(dir.path()), ["refused-fork-1.json"]);
}

#[tokio::test]
async fn what_is_refused_by_turns_is_told_once_and_no_evidence_takes_anothers_place() {
    let dir = tempfile::tempdir().unwrap();
    let (witness, log, [fork, cut]) = beside_others(dir.path()).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(take(&witness, fork.answer(Some(5))).await);
        told.push(take(&witness, cut.answer(Some(4))).await);
    }
    assert_eq!(told, ["REVISION_CONFLICT", "STALE", "", "", "", ""]);
    let first = fs::read(dir.path().join("witness/refused-fork-1.json")).unwrap();
    assert_eq!(refused(&witness).as_deref(), Some("cut"));

    // by another checkpoint it is something new
    take(&witness, log.grow("a", 1).answer(Some(5))).await;
    let told = take(&witness, fork.answer(Some(5))).await;
    assert_eq!(told, "REVISION_CONFLICT");
    let names = [
        "refused-cut-1.json",
        "refused-fork-1.json",
        "refused-fork-2.json",
        "refused.json",
    ];
    assert_eq!(evidence(dir.path()), names);
    assert_eq!(
        fs::read(dir.path().join("witness/refused-fork-1.json")).unwrap(),
        first
    );
}

#[tokio::test]
async fn entries_that_are_lost_are_told_also_where_it_cannot_be_kept_that_all_fits_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(FIRST).grow("a", 5);
    let witness = open(dir.path());
    take(&witness, log.answer(None)).await;
    take(&witness, log.beside(FIRST).grow("b", 7).answer(Some(5))).await;
    let path = dir.path().join("witness/refused.json");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let short = log.beside(FIRST).grow("a", 3);
    let next = log.beside(SECOND).grow("c", 1);
    assert_eq!(take(&witness, short.gone_over(5, &next)).await, "STALE");
    assert_eq!(
        refused(&witness).as_deref(),
        Some("fork"),
        "until it can be kept"
    );
    fs::remove_dir(&path).unwrap();
    assert_eq!(take(&witness, next.answer(Some(1))).await, "");
    assert_eq!(refused(&witness), None);
}

#[tokio::test]
async fn evidence_that_could_not_be_kept_is_once_it_can_and_nothing_is_told_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (witness, _, [fork, cut]) = beside_others(dir.path()).await;
    let room = dir.path().join("witness");
    let in_the_way = ["refused.new", "refused-fork-1.new", "refused-cut-1.new"];
    for name in in_the_way {
        fs::create_dir(room.join(name)).unwrap();
    }
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(take(&witness, fork.answer(Some(5))).await);
        told.push(take(&witness, cut.answer(Some(4))).await);
    }
    assert_eq!(told, ["REVISION_CONFLICT", "STALE", "", ""]);
    for name in in_the_way {
        fs::remove_dir(room.join(name)).unwrap();
    }
    assert_eq!(take(&witness, cut.answer(Some(4))).await, "");
    assert_eq!(evidence(dir.path()), ["refused-cut-1.json", "refused.json"]);
    assert_eq!(take(&witness, fork.answer(Some(5))).await, "");
    let kept = ["refused-cut-1.json", "refused-fork-1.json", "refused.json"];
    assert_eq!(evidence(dir.path()), kept);
    assert_eq!(refused(&open(dir.path())).as_deref(), Some("fork"));
}

#[tokio::test]
async fn evidence_that_a_process_could_not_keep_the_next_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let (witness, _, [fork, _]) = beside_others(dir.path()).await;
    let in_the_way = dir.path().join("witness/refused-fork-1.new");
    fs::create_dir(&in_the_way).unwrap();
    assert_eq!(
        take(&witness, fork.answer(Some(5))).await,
        "REVISION_CONFLICT"
    );
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(evidence(dir.path()), ["refused.json"]);
    let witness = open(dir.path());
    assert_eq!(take(&witness, fork.answer(Some(5))).await, "");
    let kept = ["refused-fork-1.json", "refused.json"];
    assert_eq!(evidence(dir.path()), kept);
}

/// A witness that has kept a log of 5 entries; beside it one that is another, and the
/// same one cut.
async fn beside_others(dir: &Path) -> (Arc<Witness>, Log, [Log; 2]) {
    let log = Log::new(FIRST).grow("a", 5);
    let fork = log.beside(FIRST).grow("b", 7);
    let cut = log.beside(FIRST).grow("a", 4);
    let witness = open(dir);
    take(&witness, log.answer(None)).await;
    (witness, log, [fork, cut])
}

/// The names of what is kept of refusals.
fn evidence(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("witness")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("refused")).collect();
    names.sort();
    names
}
