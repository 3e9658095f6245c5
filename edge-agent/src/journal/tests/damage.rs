//! Files that nobody wrote so.

use std::fs;

use super::{BOOT, Edge, Way, call};
use crate::journal::{DIR, files::DAMAGED_FILE};

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
        let aside = edge.dir.path().join(DIR).join(DAMAGED_FILE);
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
    let batch = edge.journal.next().await.unwrap();
    edge.journal.refused(batch).await;
    assert!(edge.dir.path().join(DIR).join(DAMAGED_FILE).exists());
    edge.journal.note(call(2));
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 1);
}
