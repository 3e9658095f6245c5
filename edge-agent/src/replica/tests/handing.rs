//! Writes are handed over, refused, asked for again.

use super::{Model, Rig, board, contents, copied, key};
use crate::replica::OutgoingWrite;

#[tokio::test]
async fn writes_are_handed_over_in_order_and_nothing_comes_of_hearing_of_them_again() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    for (at, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        rig.put(at, value).await;
    }
    let writes = rig.replica.outgoing(10).unwrap();
    assert_eq!(counters(&writes), [1, 2, 3]);
    assert!(writes.is_sorted_by_key(|write| write.sequence));
    assert_eq!(counters(&rig.replica.outgoing(2).unwrap()), [1, 2]);
    let (contents_before, position) = (contents(&rig.replica), rig.replica.position());
    rig.sync(&mut model).await;
    assert_eq!(contents(&rig.replica), contents_before);
    assert_eq!(rig.replica.position(), position);
    assert_eq!(rig.replica.outgoing(10).unwrap(), []);
}

#[tokio::test]
async fn a_crash_after_writes_were_handed_over_loses_and_repeats_nothing() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    for (at, value) in [("a", "1"), ("b", "2")] {
        rig.put(at, value).await;
    }
    let (contents_before, position) = (contents(&rig.replica), rig.replica.position());
    rig.sync(&mut model).await;
    let left = copied(rig.dir.path());
    let mut after = Rig { dir: left, ..rig };
    after.replica = after.open(after.dir.path());
    assert_eq!(after.replica.position(), position);
    after.greet(&mut model).await;
    assert_eq!(after.replica.outgoing(10).unwrap(), []);
    after.sync(&mut model).await;
    assert_eq!(contents(&after.replica), contents_before);
    let next = after.put("a", "3").await;
    assert_eq!(next.position.revision, position.revision + 1);
    assert_eq!(counters(&after.replica.outgoing(10).unwrap()), [3]);
}

#[tokio::test]
async fn who_waits_for_writes_is_told_of_them() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    let mut waiting = rig.replica.waiting();
    rig.put("a", "1").await;
    assert_eq!(*waiting.wait_for(|count| *count > 0).await.unwrap(), 1);
    rig.sync(&mut model).await;
    assert_eq!(*waiting.borrow_and_update(), 0);
}

#[tokio::test]
async fn what_is_handed_over_at_once_is_of_one_incarnation_and_not_too_much() {
    let rig = Rig::new().await;
    rig.put("a", "1").await;
    rig.put("a", "2").await;
    rig.replica.confirm(7, 4).await.unwrap();
    rig.put("a", "3").await;
    let writes = rig.replica.outgoing(10).unwrap();
    assert_eq!(counters(&writes), [1, 2]);
    let provisional = writes[0].incarnation;
    let handed = rig.replica.handed_over(provisional, 2, Vec::new());
    handed.await.unwrap();
    let writes = rig.replica.outgoing(10).unwrap();
    assert_eq!((writes[0].incarnation, counters(&writes)), (7, vec![5]));
    assert_eq!(rig.replica.last_actor(), (7, 5));
    let large = format!("\"{}\"", "x".repeat(200_000));
    for _ in 0..8 {
        rig.put("a", &large).await;
    }
    let some = rig.replica.outgoing(10).unwrap();
    assert!((2..8).contains(&some.len()), "{}", some.len());
}

#[tokio::test]
async fn what_is_refused_is_undone() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    model.write(key("a"), Some("\"theirs\""), 1);
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    model.refused = ["a", "b"].map(key).into();
    rig.put("a", "1").await;
    rig.put("b", "2").await;
    rig.put("c", "3").await;
    assert_eq!(rig.text("a"), Some("1".to_owned()));
    rig.push(&mut model, 10).await;
    assert_eq!(rig.text("a"), Some("\"theirs\"".to_owned()));
    assert_eq!(rig.value("b"), None);
    assert_eq!(rig.text("c"), Some("3".to_owned()));
    assert_eq!(rig.replica.outgoing(10).unwrap(), []);
    rig.pull(&model).await;
    assert_eq!(contents(&rig.replica).len(), 2);
    rig.check();
}

#[tokio::test]
async fn a_later_write_outlives_the_refusal_of_an_earlier_one() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    model.refused = [key("a")].into();
    rig.put("a", "1").await;
    rig.put("a", "2").await;
    rig.push(&mut model, 1).await;
    assert_eq!(rig.text("a"), Some("2".to_owned()));
    model.refused.clear();
    rig.sync(&mut model).await;
    assert_eq!(rig.text("a"), Some("2".to_owned()));
    assert_eq!(model.contents().len(), 1);
}

#[tokio::test]
async fn what_comes_between_a_refusal_and_its_answer_stays() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    rig.put("a", "1").await;
    model.refused = [key("a")].into();
    let writes = rig.replica.outgoing(10).unwrap();
    let pushed = writes.into_iter().map(|write| write.pushed).collect();
    let answer = model.push(rig.machine, 1, pushed);
    model.write(key("a"), Some("2"), 1);
    rig.pull(&model).await;
    let handed = rig.replica.handed_over(1, answer.counter, answer.refused);
    handed.await.unwrap();
    assert_eq!(rig.text("a"), Some("2".to_owned()));
    assert_eq!(rig.value("a").unwrap().siblings, 1);
}

#[tokio::test]
async fn what_a_restored_control_plane_has_lost_is_handed_over_again() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    rig.put("a", "1").await;
    rig.sync(&mut model).await;
    let backup = model.clone();
    for (at, value) in [("b", "2"), ("c", "3")] {
        rig.put(at, value).await;
    }
    rig.sync(&mut model).await;
    rig.put("d", "4").await;
    model.restore(&backup);
    rig.greet(&mut model).await;
    assert_eq!(counters(&rig.replica.outgoing(10).unwrap()), [2, 3, 4]);
    rig.put("e", "5").await;
    rig.sync(&mut model).await;
    let keys: Vec<_> = model.contents().into_iter().map(|entry| entry.0).collect();
    assert_eq!(keys, ["a", "b", "c", "d", "e"].map(key));
    assert_eq!(contents(&rig.replica).len(), 5);
}

#[tokio::test]
async fn a_snapshot_leaves_only_what_was_not_handed_over() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    model.write(key("a"), Some("1"), 1);
    model.write(key("b"), Some("1"), 1);
    model.write(key("y"), Some("1"), 1);
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    rig.put("b", "2").await;
    rig.put("c", "2").await;
    rig.sync(&mut model).await;
    rig.put("d", "3").await;
    rig.put("b", "3").await;
    // all that was there is forgotten, and something else is
    let mut other = Model::default();
    for at in ["y", "x", "x", "b"] {
        other.write(key(at), Some("8"), 1);
    }
    other.floor = 100;
    rig.pull(&other).await;
    let told = contents(&rig.replica);
    let told: Vec<_> = told
        .iter()
        .map(|(key, value)| (key.as_str(), value.siblings))
        .collect();
    assert_eq!(told, [("b", 2), ("d", 1), ("x", 1), ("y", 1)]);
    assert_eq!(rig.text("y"), Some("8".to_owned()));
    assert_eq!(counters(&rig.replica.outgoing(10).unwrap()), [3, 4]);
    rig.check();
}

#[tokio::test]
async fn what_is_written_and_handed_over_while_a_board_is_pulled_stays() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    rig.put("a", "1").await;
    rig.sync(&mut model).await;
    model.floor = 100;
    let mut pulled = model.follow(&rig.replica.positions());
    let rest = pulled.split_off(1);
    rig.replica.take(pulled).await.unwrap();
    rig.put("a", "2").await;
    rig.put("b", "2").await;
    rig.push(&mut model, 10).await;
    // what was pulled is of before
    rig.replica.take(rest).await.unwrap();
    assert_eq!(rig.text("a"), Some("2".to_owned()));
    assert_eq!(rig.text("b"), Some("2".to_owned()));
    rig.check();
}

#[tokio::test]
async fn a_tombstone_is_kept_until_it_is_handed_over() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    rig.put("a", "1").await;
    rig.delete("a").await.unwrap();
    let writes = rig.replica.outgoing(10).unwrap();
    let pushed = writes.into_iter().map(|write| write.pushed).collect();
    model.push(rig.machine, 1, pushed);
    // the answer is lost, and the tombstone comes back before it
    model.collected = model.position().revision;
    rig.pull(&model).await;
    let versions = || rig.replica.siblings(&board(), &key("a")).unwrap().len();
    assert_eq!(versions(), 1);
    rig.sync(&mut model).await;
    rig.pull(&model).await;
    assert_eq!(versions(), 0);
}

fn counters(writes: &[OutgoingWrite]) -> Vec<u64> {
    let versions = writes.iter().map(|write| write.pushed.version.as_ref());
    let dots = versions.map(|version| version.unwrap().dot.as_ref().unwrap());
    dots.map(|dot| dot.counter).collect()
}
