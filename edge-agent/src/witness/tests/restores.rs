//! Going over from a log that has ended by a restore to the one after it.

use super::{
    super::{Archive, Why},
    FIRST, Log, SECOND, machine, open, open_as, refused, size, take,
};

#[tokio::test]
async fn a_restored_log_is_gone_over_from_and_its_last_checkpoint_stays() {
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path());
    let old = Log::new(FIRST).grow("a", 5);
    take(&witness, old.answer(None)).await;
    let note = witness.request().kept;
    let old = old.grow("a", 2);
    let next = old.beside(SECOND).grow("n", 3);
    assert_eq!(take(&witness, old.gone_over(5, &next)).await, "");
    let archive = Archive::read(dir.path()).unwrap();
    assert_eq!(archive.kept.unwrap().checkpoint, next.head());
    assert_eq!(archive.ended.len(), 1);
    assert_eq!(archive.ended[0].kept.note, note);
    assert_eq!(archive.ended[0].why, Why::Restored);

    // it does not come back, also for whom has nothing but that
    assert_eq!(
        take(&witness, next.gone_over(3, &old)).await,
        "REVISION_CONFLICT"
    );
    assert_eq!(refused(&witness).as_deref(), Some("ended_log"));
    std::fs::remove_file(dir.path().join("witness/checkpoint.json")).unwrap();
    let witness = open(dir.path());
    take(&witness, old.answer(None)).await;
    assert_eq!(
        (refused(&witness).as_deref(), size(&witness)),
        (Some("ended_log"), None)
    );
}

#[tokio::test]
async fn entries_that_a_restore_has_lost_are_told_and_the_new_log_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path());
    let seen = Log::new(FIRST).grow("a", 9);
    take(&witness, seen.answer(None)).await;
    let restored = seen.beside(FIRST).grow("a", 4);
    let next = seen.beside(SECOND).grow("n", 1);
    assert_eq!(take(&witness, restored.gone_over(9, &next)).await, "STALE");
    assert_eq!((refused(&witness), size(&witness)), (None, Some(1)));
    let next = next.grow("n", 4);
    assert_eq!(take(&witness, next.answer(Some(1))).await, "");
    assert_eq!(size(&witness), Some(5));
    let ended = Archive::read(dir.path()).unwrap().ended;
    assert_eq!(ended[0].kept.checkpoint, seen.head());
    assert_eq!(ended[0].why, Why::Lost { size: 4 });
}

#[tokio::test]
async fn only_the_last_few_logs_are_remembered() {
    let origins: Vec<&'static str> = (1..=20_u32)
        .map(|number| &*Box::leak(format!("example.org/audit/{number:032x}").into_boxed_str()))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path());
    let mut log = Log::new(origins[0]).grow("a", 1);
    take(&witness, log.answer(None)).await;
    for &origin in &origins[1..] {
        let next = log.beside(origin).grow("a", 1);
        assert_eq!(take(&witness, log.gone_over(1, &next)).await, "");
        log = next;
    }
    let ended = Archive::read(dir.path()).unwrap().ended;
    let kept: Vec<_> = ended
        .iter()
        .map(|left| left.kept.checkpoint.origin.as_str())
        .collect();
    assert_eq!(kept, origins[3..19]);
}

#[tokio::test]
async fn a_machine_that_joins_anew_begins_anew_and_keeps_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(FIRST).grow("a", 5);
    take(&open(dir.path()), log.answer(None)).await;
    for _ in 0..2 {
        let witness = open_as(dir.path(), machine(2));
        assert_eq!((size(&witness), witness.opening()), (None, None));
        assert_eq!(witness.request().kept, "");
    }
    let ended = Archive::read(dir.path()).unwrap().ended;
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].why, &ended[0].kept.checkpoint),
        (Why::Joined, &log.head())
    );
    // the log of before may well be the one that goes on
    let witness = open_as(dir.path(), machine(2));
    assert_eq!(take(&witness, log.answer(None)).await, "");
    assert_eq!(size(&witness), Some(5));
    assert_eq!(size(&open_as(dir.path(), machine(2))), Some(5));
}
