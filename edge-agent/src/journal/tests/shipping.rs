//! What reaches the log, and how often.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use super::{Edge, Way, call};
use crate::journal::second::AT_ONCE;

#[tokio::test]
async fn equal_calls_of_one_second_are_one_with_a_count() {
    let mut edge = Edge::new();
    for _ in 0..50 {
        edge.journal.note(call(1));
    }
    edge.journal.note(call(2));
    edge.pass(1);
    edge.journal.note(call(1));
    assert!(edge.ship(Way::Through).await);
    let mut counts: Vec<u64> = edge.log.entries.iter().map(|entry| entry.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 50]);
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.entries.len(), 3);
}

#[tokio::test]
async fn what_was_noted_is_told_as_it_was() {
    let mut edge = Edge::new();
    let noted = crate::journal::Call {
        api_key_id: Some("apk_0000000000000000000001".parse().unwrap()),
        claimed: Some("apk_0000000000000000000002".parse().unwrap()),
        agent_id: Some("data_analyst".parse().unwrap()),
        client: Some("::1".parse().unwrap()),
        ..call(1)
    };
    edge.journal.note(noted.clone());
    edge.journal.note(crate::journal::Call {
        client: None,
        ..noted
    });
    edge.restart(super::BOOT);
    assert!(edge.ship(Way::Through).await);
    let [one, other] = edge.log.entries.as_slice() else {
        panic!("{:?}", edge.log.entries);
    };
    assert_eq!(
        (
            one.action.as_str(),
            one.outcome.as_str(),
            one.reason.as_str()
        ),
        ("tool.revoke_token", "refused", "AGENT_MISMATCH")
    );
    assert_eq!(one.api_key_id, "apk_0000000000000000000001");
    assert_eq!(one.claimed_api_key_id, "apk_0000000000000000000002");
    assert_eq!(
        (one.agent_id.as_str(), one.client_address.as_str()),
        ("data_analyst", "::1")
    );
    assert_eq!(one.zone(), authguardian_proto::common::v1::Zone::External);
    assert_eq!(other.client_address, "");
}

#[tokio::test]
async fn a_lost_reply_doubles_nothing_and_a_lost_request_loses_nothing() {
    let mut edge = Edge::new();
    for way in [Way::RequestLost, Way::ReplyLost, Way::ReplyLost] {
        edge.journal.note(call(1));
        assert!(!edge.ship(way).await);
        edge.pass(1);
    }
    edge.restart(super::BOOT);
    edge.journal.note(call(1));
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 4);
    assert_eq!(edge.log.written.len(), 1, "one journal");
}

#[tokio::test]
async fn what_is_in_the_log_leaves_no_file_and_nothing_is_written_when_nothing_happens() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    assert!(edge.ship(Way::Through).await);
    let files = edge.files();
    assert_eq!(files.len(), 1);
    for _ in 0..3 {
        edge.pass(1);
        assert!(edge.ship(Way::Through).await);
    }
    assert_eq!(edge.files(), files);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&files[0]) & 0o777, 0o600);
    assert_eq!(mode(files[0].parent().unwrap()) & 0o777, 0o700);
}

#[tokio::test]
async fn a_flood_of_equal_calls_is_counted_exactly_and_costs_little() {
    let mut edge = Edge::new();
    for _ in 0..100_000 {
        edge.journal.note(call(1));
    }
    let lines = std::fs::read_to_string(edge.current()).unwrap();
    // each at first, with a first line and one that says what was called
    assert_eq!(lines.lines().count(), usize::try_from(AT_ONCE).unwrap() + 2);
    assert!(edge.bytes() < 32 * u64::from(AT_ONCE), "{}", edge.bytes());
    edge.pass(1);
    // the second is over
    edge.journal.note(call(1));
    let more = std::fs::read_to_string(edge.current()).unwrap();
    assert_eq!(more.lines().count(), lines.lines().count() + 2);
    edge.restart(super::BOOT);
    assert!(edge.ship(Way::Through).await);
    assert_eq!((edge.log.count(), edge.log.entries.len()), (100_001, 2));
}

#[tokio::test]
async fn what_waits_is_read_once_however_often_it_is_sent() {
    let mut edge = Edge::new();
    edge.journal.note(call(0));
    assert!(edge.ship(Way::Through).await);
    edge.journal.note(call(1));
    edge.restart(super::BOOT);
    let batch = edge.journal.next().await.unwrap().unwrap();
    // what a control plane says that has written something else
    assert!(
        !edge
            .journal
            .written(batch.clone(), batch.sequence() - 1)
            .await
    );
    let again = edge.journal.next().await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&batch, &again));
    edge.ship(Way::RequestLost).await;
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 2);
    assert_eq!(edge.journal.next().await.unwrap(), None);
}
