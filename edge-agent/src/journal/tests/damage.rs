//! Files that nobody wrote so.

use std::fs;

use super::{BOOT, Edge, Way, call};
use crate::journal::Journal;

#[tokio::test]
async fn a_line_that_nobody_wrote_ends_what_is_told_of_a_file_which_is_kept_aside() {
    for nonsense in [
        "nonsense\n",
        "{\"add\":[7,1,1]}\n",
        "{\"call\":[9,{\"action\":\"x\",\"outcome\":\"ok\"}]}\n",
        "{\"journal\":{\"format\":1,\"id\":\"0197b6f4-6d1e-7000-8000-000000000001\",\"sequence\":1,\"boot\":\"\",\"offset\":0}}\n",
    ] {
        let mut edge = Edge::new();
        edge.journal.note(call(1));
        let path = edge.current();
        let mut content = fs::read(&path).unwrap();
        content.extend_from_slice(nonsense.as_bytes());
        content.extend_from_slice(b"{\"add\":[1,3600,5]}\n");
        fs::write(&path, &content).unwrap();
        edge.restart(BOOT);
        edge.journal.note(call(2));
        assert!(edge.ship(Way::Through).await);
        assert_eq!(edge.log.count(), 2, "{nonsense}");
        assert_eq!(edge.log.written.len(), 1, "the same journal");
        let aside = edge.journal.files.damaged(1, 0);
        assert_eq!(fs::read(aside).unwrap(), content);
    }
}

#[tokio::test]
async fn where_nothing_says_which_journal_it_was_another_one_begins() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    assert!(edge.ship(Way::Through).await);
    edge.journal.note(call(2));
    for head in [
        &b"nonsense\n"[..],
        b"\0\0\0\0\n",
        b"{\"journal\":{\"format\":2,\"id\":\"0197b6f4-6d1e-7000-8000-000000000001\",\"sequence\":2,\"boot\":\"\",\"offset\":0}}\n",
    ] {
        let journals = edge.log.written.len();
        let path = edge.current();
        fs::write(&path, head).unwrap();
        edge.restart(BOOT);
        assert!(!path.exists());
        let told = edge.log.count();
        edge.journal.note(call(3));
        assert!(edge.ship(Way::Through).await);
        assert_eq!(edge.log.count(), told + 1);
        assert_eq!(edge.log.written.len(), journals + 1);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_when_it_is_sent_stops_no_other() {
    let mut edge = Edge::new();
    for client in 0..3 {
        edge.journal.note(call(client));
        edge.ship(Way::RequestLost).await;
        edge.restart(BOOT);
    }
    let files = edge.files();
    assert_eq!(files.len(), 4);
    fs::write(&files[0], b"nonsense\n").unwrap();
    // one that was put in another's place
    fs::copy(&files[2], &files[1]).unwrap();
    edge.restart(BOOT);
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.by_client(), [("192.0.0.2".to_owned(), 1)].into());
    assert_eq!(edge.files().len(), 1);
    assert_eq!(edge.damaged().len(), 2);
}

#[tokio::test]
async fn what_is_damaged_again_is_kept_beside_what_was_before() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    let path = edge.current();
    for again in 0..3 {
        let mut content = fs::read(&path).unwrap();
        content.extend_from_slice(format!("nonsense {again}\n").as_bytes());
        fs::write(&path, &content).unwrap();
        edge.restart(BOOT);
        let batch = edge.journal.next().await.unwrap().unwrap();
        assert_eq!(batch.len(), 1);
        let aside = edge.journal.files.damaged(1, again);
        assert_eq!(fs::read(aside).unwrap(), content);
    }
    assert_eq!(edge.damaged().len(), 3);
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_waits_and_nothing_after_it_is_lost() {
    let mut edge = Edge::new();
    for client in 0..3 {
        edge.journal.note(call(client));
        edge.ship(Way::RequestLost).await;
        edge.restart(BOOT);
    }
    let first = edge.files().remove(0);
    let kept = first.with_extension("kept");
    fs::rename(&first, &kept).unwrap();
    // what even root cannot read as a file
    fs::create_dir(&first).unwrap();
    for _ in 0..2 {
        let error = edge.journal.next().await.unwrap_err().to_string();
        assert!(error.contains(&first.display().to_string()), "{error}");
    }
    assert_eq!((edge.files().len(), edge.damaged().len()), (4, 0));
    fs::remove_dir(&first).unwrap();
    fs::rename(&kept, &first).unwrap();
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 3);
}

#[tokio::test]
async fn where_the_last_file_cannot_be_read_nothing_begins() {
    let edge = Edge::new();
    edge.journal.note(call(1));
    let last = edge.current();
    let content = fs::read(&last).unwrap();
    fs::remove_file(&last).unwrap();
    fs::create_dir(&last).unwrap();
    let opened = Journal::open_as(edge.dir.path(), edge.ambient.clone(), BOOT);
    let error = opened.unwrap_err().to_string();
    assert!(error.contains(&last.display().to_string()), "{error}");
    assert_eq!(edge.files(), std::slice::from_ref(&last));
    fs::remove_dir(&last).unwrap();
    fs::write(&last, content).unwrap();
    let mut edge = edge;
    edge.restart(BOOT);
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 1);
}

#[tokio::test]
async fn a_file_that_is_missing_is_none() {
    let mut edge = Edge::new();
    for client in 0..2 {
        edge.journal.note(call(client));
        edge.ship(Way::RequestLost).await;
        edge.restart(BOOT);
    }
    fs::remove_file(&edge.files()[0]).unwrap();
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.by_client(), [("192.0.0.1".to_owned(), 1)].into());
    assert_eq!(edge.damaged().len(), 0);
}

#[tokio::test]
async fn a_file_that_was_only_begun_is_none() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    edge.ship(Way::RequestLost).await;
    // a loss of power leaves the name, and nothing or a part of what was written
    for begun in [&b""[..], b"{\"journal\":{\"for"] {
        fs::write(edge.current(), begun).unwrap();
        edge.restart(BOOT);
        assert_eq!(edge.files().len(), 2);
    }
    edge.journal.note(call(1));
    assert!(edge.ship(Way::Through).await);
    assert_eq!((edge.log.count(), edge.log.written.len()), (2, 1));
}

#[tokio::test]
async fn what_is_refused_for_good_is_kept_aside_and_stops_nothing() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    edge.journal.cut().await;
    let batch = edge.journal.next().await.unwrap().unwrap();
    edge.journal.refused(batch).await;
    assert!(edge.journal.files.refused().exists());
    edge.journal.note(call(2));
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 1);
}

#[tokio::test]
async fn what_can_be_read_of_a_damaged_file_is_told_also_where_the_file_cannot_be_kept_aside() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    let path = edge.current();
    let mut content = fs::read(&path).unwrap();
    content.extend_from_slice(b"nonsense\n");
    fs::write(&path, &content).unwrap();
    // where what is kept aside would be written first
    fs::create_dir(path.with_extension("new")).unwrap();
    edge.restart(BOOT);
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(edge.damaged().len(), 0);
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 1);
}
