//! Writing, reading and listing.

use authguardian_proto::{board::Level, reason::Reason};
use control_plane::blackboard::{BoardUpdate, Outcome, Range, ReadFrom};

use super::{board, delete, key, keys, who, write, write_for, write_if};
use crate::{
    rig::{Rig, caller, with_id},
    wait::until_async,
};

#[tokio::test]
async fn each_write_is_the_next_revision_of_its_board_and_is_read_with_who_wrote_it() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    for (number, level) in Level::ALL.into_iter().enumerate() {
        let on = level.as_str();
        let first = rig.write(&session, on, write("a", "1")).await.unwrap();
        let second = rig.write(&session, on, write("a", "2")).await.unwrap();
        assert_eq!((first.position.revision, second.position.revision), (1, 2));
        assert_eq!((second.position.epoch, second.copies), (1, 1));
        let read = rig.read(&session, on, "a").await.unwrap();
        let entry = read.entry;
        assert_eq!(entry.value.unwrap().as_str(), "2");
        assert_eq!((entry.revision, entry.created_revision), (2, 1));
        assert_eq!(entry.writer, "agent:data_analyst");
        assert_eq!(entry.machine_id, Some(session.machine));
        assert_eq!((entry.grant_id, entry.is_lock), (None, false));
        assert_eq!(read.position, second.position, "board {number}");
    }
}

#[tokio::test]
async fn a_compared_write_wins_once_and_the_loser_is_told_the_revision() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    for on in ["strong", "session"] {
        rig.write(&session, on, write_if("a", "1", 0))
            .await
            .unwrap();
        let lost = rig
            .write(&session, on, write_if("a", "2", 0))
            .await
            .unwrap_err();
        assert_eq!(lost.reason(), Reason::RevisionConflict);
        assert!(lost.problem().detail.contains("has revision 1"), "{lost}");
        rig.write(&session, on, write_if("a", "2", 1))
            .await
            .unwrap();
    }
    let unsupported = rig
        .write(&session, "eventual", write_if("a", "1", 0))
        .await
        .unwrap_err();
    assert_eq!(unsupported.reason(), Reason::UnsupportedForLevel);
}

#[tokio::test]
async fn concurrent_counters_of_two_control_planes_lose_nothing() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let session = rig.analyst().await;
    rig.write(&session, "strong", write("n", "0"))
        .await
        .unwrap();
    let count = async |rig: &Rig| {
        for _ in 0..50 {
            loop {
                let read = rig.read(&session, "strong", "n").await.unwrap().entry;
                let n: u32 = read.value.unwrap().as_str().parse().unwrap();
                let next = write_if("n", &(n + 1).to_string(), read.revision);
                match rig.write(&session, "strong", next).await {
                    Ok(_) => break,
                    Err(lost) => assert_eq!(lost.reason(), Reason::RevisionConflict),
                }
            }
        }
    };
    tokio::join!(count(&rig), count(&other), count(&rig), count(&other));
    let read = rig.read(&session, "strong", "n").await.unwrap();
    assert_eq!(read.entry.value.unwrap().as_str(), "200");
    assert_eq!(read.position.revision, 201, "revisions are dense");
    for app in [rig, other] {
        app.app.blackboard.board(&board("strong")).await.unwrap();
    }
}

#[tokio::test]
async fn a_repeat_is_told_the_first_outcome_and_another_request_of_its_id_is_refused() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let again = async |on: &str, value: &str| {
        let context = with_id(caller(&session), "r1");
        let act = write("a", value);
        let blackboard = &rig.app.blackboard;
        blackboard
            .write(context, who(&session), board(on), act)
            .await
    };
    let (first, same) = tokio::join!(again("strong", "1"), again("strong", "1"));
    let first = first.unwrap();
    assert_eq!(first, same.unwrap());
    rig.write(&session, "strong", write("a", "2"))
        .await
        .unwrap();
    assert_eq!(again("strong", "1").await.unwrap(), first);
    let read = rig.read(&session, "strong", "a").await.unwrap();
    assert_eq!(read.entry.value.unwrap().as_str(), "2");
    for (on, value) in [("strong", "3"), ("session", "1")] {
        let reused = again(on, value).await.unwrap_err();
        assert_eq!(reused.reason(), Reason::RequestIdReused);
    }
}

#[tokio::test]
async fn what_was_refused_stays_so_for_an_earlier_try_that_comes_late() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    rig.write(&session, "strong", write("a", "1"))
        .await
        .unwrap();
    let tried = async |other: &Rig| {
        let context = with_id(caller(&session), "r1");
        let act = write_if("a", "2", 0);
        let blackboard = &other.app.blackboard;
        blackboard
            .write(context, who(&session), board("strong"), act)
            .await
    };
    let refused = tried(&rig).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::RevisionConflict);
    // now it would fit
    rig.write(&session, "strong", delete("a")).await.unwrap();
    let late = tried(&rig.beside().await).await.unwrap_err();
    assert_eq!(late.problem(), refused.problem());
    let missing = rig.read(&session, "strong", "a").await.unwrap_err();
    assert_eq!(missing.reason(), Reason::KeyNotFound);
}

#[tokio::test]
async fn what_was_deleted_is_not_there_and_begins_anew() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let gone = rig.write(&session, "strong", delete("a")).await.unwrap();
    assert_eq!(gone.position.revision, 0, "nothing happened");
    rig.write(&session, "strong", write("a", "1"))
        .await
        .unwrap();
    let deleted = rig.write(&session, "strong", delete("a")).await.unwrap();
    assert_eq!(
        deleted.outcome,
        Outcome::Delete {
            previous_revision: 1
        }
    );
    let missing = rig.read(&session, "strong", "a").await.unwrap_err();
    assert_eq!(missing.reason(), Reason::KeyNotFound);
    let anew = rig
        .write(&session, "strong", write_if("a", "1", 0))
        .await
        .unwrap();
    let read = rig.read(&session, "strong", "a").await.unwrap().entry;
    assert_eq!(read.created_revision, anew.position.revision);
}

#[tokio::test]
async fn keys_are_listed_by_prefix_in_byte_order_and_in_pages() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let all = [
        "a", "a/", "a/1", "a/10", "a/2", "a0", "b \"x\"", "é", "🦀/%2F",
    ];
    for at in all.iter().rev() {
        rig.write(&session, "strong", write(at, "1")).await.unwrap();
    }
    let listed = rig.list(&session, "strong", "").await;
    assert_eq!(keys(&listed.entries), all);
    assert_eq!((listed.next, listed.position.revision), (None, 9));
    assert_eq!(
        keys(&rig.list(&session, "strong", "a/").await.entries),
        ["a/", "a/1", "a/10", "a/2"]
    );
    assert_eq!(
        keys(&rig.list(&session, "strong", "🦀").await.entries),
        ["🦀/%2F"]
    );
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let range = Range {
            prefix: "a".to_owned(),
            after,
            keys_only: true,
            limit: 2,
        };
        let blackboard = &rig.app.blackboard;
        let page = blackboard
            .list(who(&session), board("strong"), range, ReadFrom::default())
            .await
            .unwrap();
        assert!(page.entries.iter().all(|entry| entry.value.is_none()));
        pages.push(page.entries.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 2, 0]);
}

#[tokio::test]
async fn a_page_of_large_values_is_shorter_and_none_is_left_out() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let large = format!("\"{}\"", "x".repeat(256 * 1024 - 2));
    for number in 0..9 {
        let act = write(&format!("k{number}"), &large);
        rig.write(&session, "strong", act).await.unwrap();
    }
    let (mut found, mut after) = (0, None);
    loop {
        let range = Range {
            prefix: String::new(),
            after,
            keys_only: false,
            limit: 1000,
        };
        let blackboard = &rig.app.blackboard;
        let page = blackboard
            .list(who(&session), board("strong"), range, ReadFrom::default())
            .await
            .unwrap();
        assert!((1..=4).contains(&page.entries.len()));
        found += page.entries.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, 9);
}

#[tokio::test]
async fn a_full_board_takes_what_makes_it_no_fuller() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let terms = BoardUpdate {
        max_keys: Some(2),
        max_bytes: Some(10),
        ..BoardUpdate::default()
    };
    rig.new_board("small", Level::Strong, terms).await;
    rig.write(&session, "small", write("a", "1")).await.unwrap();
    rig.write(&session, "small", write("b", "1")).await.unwrap();
    for too_much in [write("c", "1"), write("a", "12345678")] {
        let full = rig.write(&session, "small", too_much).await.unwrap_err();
        assert_eq!(full.reason(), Reason::ResourceExhausted);
    }
    rig.write(&session, "small", write("a", "2")).await.unwrap();
    rig.write(&session, "small", delete("b")).await.unwrap();
    rig.write(&session, "small", write("c", "1")).await.unwrap();
    let small = rig.app.blackboard.board(&board("small")).await.unwrap();
    assert_eq!((small.keys, small.bytes), (2, 4));
}

#[tokio::test]
async fn an_entry_ends_by_itself_as_a_revision_of_its_own() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let written = rig
        .write(&session, "strong", write_for("a", "1", 600))
        .await
        .unwrap();
    let read = rig.read(&session, "strong", "a").await.unwrap();
    let entry = read.entry;
    assert_eq!(
        entry.expires_at.unwrap() - entry.written_at,
        time::Duration::minutes(10)
    );
    sqlx::query("UPDATE board_entry SET expires_at = now() - interval '1 second'")
        .execute(rig.database.pool())
        .await
        .unwrap();
    until_async("the entry has ended", async || {
        let read = rig.read(&session, "strong", "a").await;
        read.is_err_and(|error| error.reason() == Reason::KeyNotFound)
    })
    .await;
    let listed = rig.list(&session, "strong", "").await;
    assert_eq!(listed.position.revision, written.position.revision + 1);
}

#[tokio::test]
async fn an_answer_is_as_new_as_what_the_caller_has_seen() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let written = rig.write(&session, "session", write("a", "1")).await;
    let position = written.unwrap().position;
    let get = async |after| {
        let from = ReadFrom {
            strong: false,
            after: Some(after),
        };
        let blackboard = &rig.app.blackboard;
        blackboard
            .get(who(&session), board("session"), key("a"), from)
            .await
    };
    get(position).await.unwrap();
    let mut ahead = position;
    ahead.revision += 1;
    let refused = get(ahead).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidArgument);
    let mut foreign = position;
    foreign.epoch += 1;
    assert_eq!(get(foreign).await.unwrap_err().reason(), Reason::Compacted);
}
