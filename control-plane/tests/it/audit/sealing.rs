//! From an appended entry to a signed head.

use authguardian_proto::{
    audit_leaf::AuditLeaf,
    checkpoint::Checkpoint,
    merkle::{self, Frontier},
};
use control_plane::{
    audit::{self, export::Leaf},
    backup::fence,
    budgets::AsOf,
};

use super::{act, exported};
use crate::{rig::Rig, wait::until_async};

#[tokio::test]
async fn what_is_committed_is_sealed_in_order_and_its_head_is_signed() {
    let rig = Rig::open().await;
    rig.append((0..1000).map(act)).await;
    let (log, signed) = rig.signed().await;
    let (checkpoint, leaves) = exported(&rig, "").await;
    assert_eq!(checkpoint.as_ref(), Some(&signed.note));
    assert_eq!(i64::try_from(leaves.len()), Ok(signed.head.size));

    let entries: Vec<AuditLeaf> = leaves
        .iter()
        .map(|leaf| match leaf {
            Leaf::Entry(bytes) => AuditLeaf::from_bytes(bytes).unwrap(),
            Leaf::Dropped(_) => panic!("nothing was dropped"),
        })
        .collect();
    let ours: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.action == "test.act")
        .map(|entry| entry.subject.as_str())
        .collect();
    let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(ours, expected);
    assert!(entries.is_sorted_by_key(|entry| entry.sequence));

    let mut tree = Frontier::default();
    let hashes: Vec<_> = entries.iter().map(AuditLeaf::hash).collect();
    tree.append(&hashes).unwrap();
    let keys = rig.keys_of(&log.origin).await;
    let read = Checkpoint::open(&signed.note, &keys).unwrap();
    assert_eq!((read.size, read.root), (tree.size(), tree.root()));
    assert_eq!(read.origin, log.origin);
    assert!(log.origin.starts_with("example.org/audit/"), "{log:?}");
}

#[tokio::test]
async fn two_control_planes_seal_into_one_tree() {
    let rig = Rig::open().await;
    let beside = rig.beside().await;
    let appending = (0..8).map(|part| {
        let rig = if part % 2 == 0 { &rig } else { &beside };
        async move {
            for number in 0..25 {
                rig.append([act(part * 1000 + number)]).await;
            }
        }
    });
    futures::future::join_all(appending).await;
    let (log, signed) = rig.signed().await;
    assert!(signed.head.size >= 200);
    let (_, leaves) = exported(&rig, "").await;
    let mut subjects: Vec<String> = leaves
        .iter()
        .filter_map(|leaf| match leaf {
            Leaf::Entry(bytes) => AuditLeaf::from_bytes(bytes),
            Leaf::Dropped(_) => None,
        })
        .filter(|entry| entry.action == "test.act")
        .map(|entry| entry.subject)
        .collect();
    assert_eq!(subjects.len(), 200, "none is lost or doubled");
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 200);
    assert_eq!(rig.verify("").await, []);
    // whatever was signed on the way is part of it
    let mut connection = rig.app.db.read().await.unwrap();
    for from in 1..=signed.head.size.unsigned_abs() {
        let proved = audit::proof::consistency(&mut connection, &log.origin, (from, 0))
            .await
            .unwrap();
        merkle::verify_consistency(&proved.proof, proved.from.of_tree(), signed.head.of_tree())
            .unwrap();
    }
}

#[tokio::test]
async fn a_head_that_was_not_signed_is_signed_by_who_comes_next() {
    let rig = Rig::open().await;
    rig.append([act(1)]).await;
    let (log, signed) = rig.signed().await;
    sqlx::query("DELETE FROM audit_checkpoint WHERE size = $1")
        .bind(signed.head.size)
        .execute(rig.database.pool())
        .await
        .unwrap();
    let (_, again) = rig.signed().await;
    assert_eq!(again.head, signed.head);
    assert!(Checkpoint::open(&again.note, &rig.keys_of(&log.origin).await).is_ok());
}

#[tokio::test]
async fn nothing_is_sealed_onto_a_tree_that_is_not_that_of_its_head() {
    let rig = Rig::open().await;
    rig.append([act(1)]).await;
    rig.signed().await;
    let spoil =
        "UPDATE audit_tile SET hashes = overlay(hashes placing '\\xffff'::bytea from 3 for 2)";
    let rig = rig
        .reopened_after(async |pool| {
            sqlx::query(spoil).execute(pool).await.unwrap();
        })
        .await;
    let keys = std::sync::Arc::new(rig.app.identity.clone());
    let sealer = audit::seal::Sealer::new(rig.app.db.clone(), rig.app.ambient.clone(), keys);
    rig.append([act(2)]).await;
    // the control plane's own sealer may be at it just then
    let refused = loop {
        match sealer.run().await {
            Ok(count) => assert_eq!(count, 0),
            Err(refused) => break refused,
        }
    };
    assert!(
        refused.problem().detail.contains("audit verify"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_key_of_checkpoints_is_rotated_and_old_checkpoints_still_count() {
    let rig = Rig::open().await;
    rig.append([act(1)]).await;
    let (log, before) = rig.signed().await;
    rig.rotate_audit_key().await;
    rig.append([act(2)]).await;
    let (_, after) = rig.signed().await;
    let keys = rig.keys_of(&log.origin).await;
    assert_eq!(keys.len(), 2);
    for (note, key) in [(&before.note, &keys[0]), (&after.note, &keys[1])] {
        assert!(Checkpoint::open(note, std::slice::from_ref(key)).is_ok());
    }
    assert!(Checkpoint::open(&after.note, &keys[..1]).is_err());
    assert_eq!(rig.verify("").await, []);
}

#[tokio::test]
async fn a_log_after_another_begins_with_the_head_of_that_one() {
    let rig = Rig::open().await;
    rig.append([act(1)]).await;
    let (old, _) = rig.signed().await;
    let (db, ambient) = (&rig.app.db, &rig.app.ambient);
    let mut tx = db.begin().await.unwrap();
    let waiting: Vec<_> = (10..15).map(act).collect();
    audit::append(&mut tx, ambient.clock.now(), &waiting)
        .await
        .unwrap();
    audit::log::end_and_begin(&mut tx, ambient, "example.org", 2)
        .await
        .unwrap();
    db.commit(tx).await.unwrap();

    let (new, _) = rig.signed().await;
    assert_ne!(new.origin, old.origin);
    let told = told(&rig).await;
    assert_eq!(told[0], ("audit.continue".to_owned(), old.name()));
    let acts = (10..15).map(|number| ("test.act".to_owned(), number.to_string()));
    assert!(told[1..].iter().cloned().eq(acts), "{told:?}");
    assert_eq!(rig.verify("").await, []);
}

#[tokio::test]
async fn acts_on_their_way_are_waited_for_and_come_after_the_head_of_the_log_that_has_ended() {
    let rig = Rig::open().await;
    rig.append([act(1)]).await;
    let (old, _) = rig.signed().await;
    let (db, ambient) = (&rig.app.db, rig.app.ambient.clone());
    let mut on_its_way = db.begin().await.unwrap();
    audit::append(&mut on_its_way, ambient.clock.now(), &[act(2)])
        .await
        .unwrap();
    let url = rig.config.database.url.expose().to_owned();
    let fencing = tokio::spawn(async move {
        let fenced = fence::in_place(&url, &ambient, AsOf::Itself).await;
        fenced.unwrap()
    });
    until_async("the fence waits", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
             WHERE datname = current_database() AND relation = 'audit_entry'::regclass AND NOT granted",
        )
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
        waiting > 0
    })
    .await;
    db.commit(on_its_way).await.unwrap();
    fencing.await.unwrap();
    rig.signed().await;
    let told = told(&rig).await;
    assert_eq!(told[0], ("audit.continue".to_owned(), old.name()));
    let act = ("test.act".to_owned(), "2".to_owned());
    assert!(told.contains(&act), "{told:?}");
}

/// Action and subject of each entry of the newest log, in order.
async fn told(rig: &Rig) -> Vec<(String, String)> {
    let (_, leaves) = exported(rig, "").await;
    let entries = leaves.iter().filter_map(|leaf| match leaf {
        Leaf::Entry(bytes) => AuditLeaf::from_bytes(bytes),
        Leaf::Dropped(_) => None,
    });
    entries.map(|entry| (entry.action, entry.subject)).collect()
}
