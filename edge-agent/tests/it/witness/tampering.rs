//! What an edge tells when somebody with the database has set the log back.

use control_plane::audit::log::Log;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::{Watched, following::begin_another};
use crate::wait::until_async;

/// Entries that are taken away at least.
const CUT: u64 = 200;

impl Watched {
    async fn execute(&self, statements: &str) {
        let db = &self.control_plane.app.db;
        let mut tx = db.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut *tx)
            .await
            .unwrap_or_else(|error| panic!("{statements}: {error}"));
        db.commit(tx).await.unwrap();
    }

    /// Copies aside what the tree is now.
    async fn copy_aside(&self) {
        self.execute(
            "LOCK TABLE audit_log IN EXCLUSIVE MODE;
             CREATE TABLE kept_log AS TABLE audit_log; CREATE TABLE kept_tile AS TABLE audit_tile",
        )
        .await;
    }

    /// Puts the log back to that, checkpoints and all; then appends so many entries
    /// that nobody has seen.
    async fn cut(&self, instead: u64) {
        let statements = format!(
            "LOCK TABLE audit_log IN EXCLUSIVE MODE;
             DELETE FROM sealed_audit_entry WHERE index >= (SELECT size FROM kept_log);
             DELETE FROM audit_checkpoint WHERE size > (SELECT size FROM kept_log);
             DELETE FROM audit_tile; INSERT INTO audit_tile TABLE kept_tile;
             UPDATE audit_log SET size = kept_log.size, root = kept_log.root FROM kept_log;
             INSERT INTO audit_entry (occurred_at, caller, action, subject, outcome, count)
             SELECT now(), 'system', 'test.other', i::text, 'ok', 1 FROM generate_series(1, {instead}) i"
        );
        self.execute(&statements).await;
    }

    /// An edge that has seen what is then cut, and stands still; what it has kept.
    async fn seen() -> (Self, Log, String) {
        let watched = Self::start().await;
        watched.act(20).await;
        watched.copy_aside().await;
        let log = watched.act(CUT).await;
        watched.keeps(&log).await;
        watched.edge.pause();
        let before = watched.checkpoint(&[]).await;
        (watched, log, before)
    }

    /// How often the edge's log says so.
    fn said(&self, what: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains(what)).count()
    }
}

#[tokio::test]
async fn a_log_that_was_cut_together_with_its_checkpoints_is_refused_and_told() {
    let (watched, _, before) = Watched::seen().await;
    assert_eq!(watched.found(&before).await, [""; 0]);
    watched.cut(0).await;
    watched.edge.resume();
    let status = watched.refuses("cut").await;
    assert!(
        status["detail"].as_str().unwrap().contains("was cut"),
        "{status}"
    );

    until_async("the edge has told", async || {
        watched.told("STALE").await == 1
    })
    .await;
    watched.looks(3).await;
    watched.signed().await;
    assert_eq!(watched.told("STALE").await, 1);
    assert_eq!(watched.said("was cut"), 1);
    assert_eq!(watched.checkpoint(&[]).await, before);

    // nothing but what is outside of the database tells
    assert_eq!(watched.found("").await, ["cut"]);
    assert_eq!(watched.found(&before).await, ["cut", "cut"]);
    assert!(!watched.witness().await.consistent);

    let watched = watched.killed_and_run().await;
    watched.looks(3).await;
    watched.signed().await;
    assert_eq!(watched.refuses("cut").await, status);
    assert_eq!(watched.told("STALE").await, 1);
    assert_eq!(watched.checkpoint(&[]).await, before);
}

#[tokio::test]
async fn a_log_that_was_written_anew_is_a_fork_however_long_it_is() {
    let (watched, seen, before) = Watched::seen().await;
    watched.cut(CUT).await;
    let size = seen.head.size;
    until_async("the log is as long again", async || {
        watched.is_signed().await && watched.newest_log().await.head.size >= size
    })
    .await;
    let other = watched.newest_log().await;
    assert_ne!(other.head, seen.head);
    watched.edge.resume();
    watched.refuses("fork").await;
    until_async("the edge has told", async || {
        watched.told("REVISION_CONFLICT").await == 1
    })
    .await;
    watched.looks(2).await;
    watched.signed().await;
    assert_eq!(watched.checkpoint(&[]).await, before);
    assert_eq!(watched.found("").await, ["witness"]);
    assert_eq!(
        watched.found(&before).await,
        ["outside_checkpoint", "witness"]
    );
    assert!(!watched.witness().await.consistent);
    assert_eq!(watched.said("does not begin with"), 1);
}

#[tokio::test]
async fn entries_that_a_restore_has_lost_are_told_and_the_log_after_it_is_followed() {
    let (watched, seen, before) = Watched::seen().await;
    watched.cut(0).await;
    begin_another(&watched).await;
    watched.edge.resume();
    let next = watched.act(1).await;
    assert_ne!(next.origin, seen.origin);
    watched.keeps(&next).await;
    until_async("the edge has told", async || {
        watched.told("STALE").await == 1
    })
    .await;
    assert_eq!(watched.said("they are lost"), 1);
    watched.looks(2).await;
    let status = watched.status().await;
    assert_eq!(status.get("refused"), None, "{status}");
    let kept = watched.checkpoint(&["--origin", &seen.origin]).await;
    assert_eq!(kept, before);
    assert_eq!(watched.found(&kept).await, ["cut"]);
    let document = watched.checkpoint(&["-o", "json"]).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["ended"][0]["why"], "lost");
    assert!(document["ended"][0]["ended_at_size"].as_u64().unwrap() < CUT);
}
