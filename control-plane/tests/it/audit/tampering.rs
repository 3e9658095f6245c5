//! What is done to the log in the database itself is found, and named.

use authguardian_proto::merkle::leaf_hash;
use control_plane::audit::{export::Leaf, witness::witness};

use super::{act, exported};
use crate::rig::{Rig, anonymous};

/// What the log lies in.
const TABLES: [&str; 4] = [
    "sealed_audit_entry",
    "audit_tile",
    "audit_checkpoint",
    "audit_log",
];

/// A log of 600 acts and what comes before them, sealed and signed, whose
/// tables can be put back; and the index of the first act.
async fn log() -> (Rig, i64) {
    let rig = Rig::open().await;
    rig.signed().await;
    // in parts, so that several heads are signed
    for part in 0..3 {
        rig.append((part * 200..(part + 1) * 200).map(act)).await;
        rig.signed().await;
    }
    let first: i64 = sqlx::query_scalar(
        "SELECT index FROM sealed_audit_entry WHERE action = 'test.act' AND subject = '0'",
    )
    .fetch_one(rig.database.pool())
    .await
    .unwrap();
    assert_eq!(rig.found().await, []);
    for table in TABLES {
        execute(&rig, &format!("CREATE TABLE kept_{table} AS TABLE {table}")).await;
    }
    (rig, first)
}

/// All at once, as the sealer sees it.
async fn put_back(rig: &Rig) {
    let back =
        TABLES.map(|table| format!("TRUNCATE {table}; INSERT INTO {table} TABLE kept_{table};"));
    let lock = "LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE";
    execute(rig, &format!("BEGIN; {lock}; {} COMMIT", back.concat())).await;
}

async fn execute(rig: &Rig, statements: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
        .execute(rig.database.pool())
        .await
        .unwrap_or_else(|error| panic!("{statements}: {error}"));
}

#[tokio::test]
async fn a_changed_entry_is_named_whatever_was_changed() {
    let (rig, first) = log().await;
    let at = first + 100;
    for column in [
        "sequence = sequence + 1000000",
        "occurred_at = occurred_at + interval '1 microsecond'",
        "caller = 'admin:adm_x'",
        "key_id = 'apk_x'",
        "machine_id = gen_random_uuid()",
        "peer_address = '192.0.2.1'",
        "zone = 'external'",
        "action = 'test.other'",
        "subject = 'other'",
        "agent_id = 'other'",
        "outcome = 'failed'",
        "reason = 'STALE'",
        "request_id = 'other'",
        "trace_id = 'other'",
        "count = count + 1",
    ] {
        let change = format!("UPDATE sealed_audit_entry SET {column} WHERE index = {at}");
        execute(&rig, &change).await;
        assert_eq!(rig.found().await, [("changed", Some(at))], "{column}");
        put_back(&rig).await;
    }
    assert_eq!(rig.found().await, []);
}

#[tokio::test]
async fn a_deleted_an_inserted_and_a_moved_entry_are_named() {
    let (rig, first) = log().await;
    let (one, other) = (first + 5, first + 300);
    let all = rig.signed().await.0.head.size;

    execute(
        &rig,
        &format!("DELETE FROM sealed_audit_entry WHERE index = {one}"),
    )
    .await;
    assert_eq!(rig.found().await, [("deleted", Some(one))]);
    put_back(&rig).await;

    let copy = "log, {at}, sequence, occurred_at, caller, key_id, machine_id, peer_address, zone, action, subject,
                agent_id, outcome, reason, request_id, trace_id, count";
    let insert = format!(
        "INSERT INTO sealed_audit_entry SELECT {} FROM sealed_audit_entry WHERE index = {one}",
        copy.replace("{at}", &all.to_string())
    );
    execute(&rig, &insert).await;
    assert_eq!(rig.found().await, [("inserted", Some(all))]);
    put_back(&rig).await;

    let swap = format!(
        "CREATE TEMP TABLE moved AS SELECT * FROM sealed_audit_entry WHERE index IN ({one}, {other});
         DELETE FROM sealed_audit_entry WHERE index IN ({one}, {other});
         UPDATE moved SET index = {one} + {other} - index;
         INSERT INTO sealed_audit_entry TABLE moved; DROP TABLE moved"
    );
    execute(&rig, &swap).await;
    assert_eq!(
        rig.found().await,
        [("reordered", Some(one)), ("reordered", Some(other))]
    );
    put_back(&rig).await;

    // everything from the first act on moved up by one
    let shift = format!(
        "DELETE FROM sealed_audit_entry WHERE index = {first};
         CREATE TEMP TABLE moved AS SELECT * FROM sealed_audit_entry WHERE index > {first};
         DELETE FROM sealed_audit_entry WHERE index > {first};
         UPDATE moved SET index = index - 1;
         INSERT INTO sealed_audit_entry TABLE moved; DROP TABLE moved"
    );
    execute(&rig, &shift).await;
    let found = rig.found().await;
    assert!(found.contains(&("reordered", Some(first))), "{found:?}");
    assert!(found.contains(&("deleted", Some(all - 1))), "{found:?}");
    put_back(&rig).await;
    assert_eq!(rig.found().await, []);
}

#[tokio::test]
async fn an_entry_that_was_changed_together_with_its_leaf_differs_from_what_was_signed() {
    let (rig, first) = log().await;
    let at = first + 100;
    execute(
        &rig,
        &format!("UPDATE sealed_audit_entry SET subject = 'other' WHERE index = {at}"),
    )
    .await;
    let (_, leaves) = exported(&rig, "").await;
    let Leaf::Entry(leaf) = &leaves[usize::try_from(at).unwrap()] else {
        panic!("nothing was dropped")
    };
    let hash = leaf_hash(leaf);
    let (tile, place) = (at / 256, at % 256 * 32 + 1);
    sqlx::query(
        "UPDATE audit_tile SET hashes = overlay(hashes placing $1 from $2) WHERE level = 0 AND index = $3",
    )
    .bind(&hash.0[..])
    .bind(i32::try_from(place).unwrap())
    .bind(tile)
    .execute(rig.database.pool())
    .await
    .unwrap();
    let found = rig.verify("").await;
    let kinds: Vec<_> = found.iter().map(|finding| finding.kind.as_str()).collect();
    assert!(kinds.contains(&"changed"), "{found:?}");
    let changed = found
        .iter()
        .find(|finding| finding.kind.as_str() == "changed")
        .unwrap();
    // the range between the two heads around it
    assert!(changed.index.unwrap() <= at, "{changed:?}");
    assert!(changed.index.unwrap() > at - 200, "{changed:?}");
}

#[tokio::test]
async fn a_checkpoint_that_was_not_signed_here_or_says_something_else_is_named() {
    let (rig, _) = log().await;
    let size = rig.signed().await.0.head.size;
    let forge = "UPDATE audit_checkpoint SET note = replace(note, E'\\n' || size || E'\\n', E'\\n1\\n') WHERE size = ";
    execute(&rig, &format!("{forge}{size}")).await;
    assert_eq!(rig.found().await, [("checkpoint", None)]);
    put_back(&rig).await;

    let swap = format!(
        "UPDATE audit_checkpoint SET note = (SELECT note FROM audit_checkpoint WHERE size < {size} ORDER BY size DESC LIMIT 1)
         WHERE size = {size}"
    );
    execute(&rig, &swap).await;
    assert_eq!(rig.found().await, [("checkpoint", None)]);
    put_back(&rig).await;

    execute(&rig, "UPDATE audit_log SET root = sha256('x')").await;
    assert_eq!(rig.found().await, [("head", None)]);
}

#[tokio::test]
async fn missing_and_changed_tiles_are_named() {
    let (rig, _) = log().await;
    execute(&rig, "DELETE FROM audit_tile WHERE level = 0 AND index = 1").await;
    let found = rig.found().await;
    assert!(found.contains(&("leaf", Some(256))), "{found:?}");
    put_back(&rig).await;
    execute(
        &rig,
        "UPDATE audit_tile SET hashes = sha256('x') WHERE level = 1",
    )
    .await;
    let found = rig.found().await;
    assert!(found.contains(&("tree", None)), "{found:?}");
}

#[tokio::test]
async fn a_tail_that_was_cut_with_its_checkpoints_is_found_by_whoever_has_seen_it() {
    let rig = Rig::open().await;
    rig.append((0..100).map(act)).await;
    let (_, before) = rig.signed().await;
    for table in TABLES {
        execute(&rig, &format!("CREATE TABLE kept_{table} AS TABLE {table}")).await;
    }
    rig.append((100..200).map(act)).await;
    let (log, seen) = rig.signed().await;
    let machine = rig.machine("build-7").await;
    let keys = rig.app.identity.checkpoint_keys().await.unwrap();
    let (db, ambient) = (&rig.app.db, &rig.app.ambient);
    witness(db, ambient, (anonymous(), machine), &seen.note, &keys)
        .await
        .unwrap();
    assert_eq!(rig.verify(&seen.note).await, []);
    // what the machine's join has left
    rig.signed().await;
    put_back(&rig).await;
    let found = rig.verify(&seen.note).await;
    let kinds: Vec<_> = found.iter().map(|finding| finding.kind.as_str()).collect();
    assert_eq!(kinds, ["cut", "cut"], "{found:?}");
    assert!(found[0].detail.contains("from outside"), "{found:?}");
    assert!(found[1].detail.contains(&machine.to_string()), "{found:?}");
    assert!(found.iter().all(|finding| finding.origin == log.origin));
    let found = rig.verify(&before.note).await;
    assert_eq!(
        found.len(),
        1,
        "what is older is still part of it: {found:?}"
    );
    // the machine says it again, and again: one entry tells of it
    for _ in 0..3 {
        let said = witness(db, ambient, (anonymous(), machine), &seen.note, &keys);
        said.await.unwrap();
    }
    let told: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM audit_trail WHERE action = 'audit.contradict' AND outcome = 'failed'",
    )
    .fetch_one(rig.database.pool())
    .await
    .unwrap();
    assert_eq!(told, 1);
}
