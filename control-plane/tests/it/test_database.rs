//! `control_plane::testing`.

use control_plane::testing::TestDatabase;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn every_test_database_is_migrated_and_its_own() {
    let (one, other) = tokio::join!(TestDatabase::new(), TestDatabase::new());
    let forget = "UPDATE stream_head SET revision = 7 WHERE stream = 'grants'";
    sqlx::query(forget).execute(one.pool()).await.unwrap();

    let revision = "SELECT revision FROM stream_head WHERE stream = 'grants'";
    let seen: i64 = sqlx::query_scalar(revision)
        .fetch_one(other.pool())
        .await
        .unwrap();
    assert_eq!(seen, 0);

    let mut own = PgConnection::connect(&one.url()).await.unwrap();
    let seen: i64 = sqlx::query_scalar(revision)
        .fetch_one(&mut own)
        .await
        .unwrap();
    assert_eq!(seen, 7);
}

#[tokio::test]
async fn a_dropped_test_database_is_gone() {
    let (kept, dropped) = tokio::join!(TestDatabase::new(), TestDatabase::new());
    let url = dropped.url();
    sqlx::query("SELECT 1")
        .execute(dropped.pool())
        .await
        .unwrap();
    drop(dropped);
    let refused = PgConnection::connect(&url).await.unwrap_err();
    assert_eq!(
        refused.into_database_error().unwrap().code().unwrap(),
        "3D000"
    );
    sqlx::query("SELECT 1").execute(kept.pool()).await.unwrap();
}
