//! Shares of rate limits.

use authguardian_proto::{ids::ApiKeyId, rate::LimitId};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::Result,
    identity::rates::{LEASE, Shares, Time},
};

/// Locks the shares of limits, which are in order; `None`: nobody has had any
/// yet.
#[tracing::instrument(name = "db.rate_bucket.lock", skip_all)]
pub(in crate::identity) async fn lock_rate_buckets(
    connection: &mut PgConnection,
    ids: &[LimitId],
) -> Result<Vec<(LimitId, Option<Shares>)>> {
    let locked = locked(connection, ids).await?;
    if locked.len() == ids.len() {
        return Ok(locked);
    }
    let (keys, tools) = columns(ids);
    sqlx::query!(
        "INSERT INTO rate_bucket (api_key_id, tool, state)
         SELECT api_key_id, tool, 'null' FROM unnest($1::uuid[], $2::text[]) AS wanted (api_key_id, tool)
         ORDER BY api_key_id, tool
         ON CONFLICT DO NOTHING",
        &keys,
        &tools,
    )
    .execute(&mut *connection)
    .await?;
    self::locked(connection, ids).await
}

async fn locked(
    connection: &mut PgConnection,
    ids: &[LimitId],
) -> Result<Vec<(LimitId, Option<Shares>)>> {
    let (keys, tools) = columns(ids);
    let rows = sqlx::query!(
        r#"SELECT api_key_id, tool, state AS "state: Json<Option<Shares>>" FROM rate_bucket
           WHERE (api_key_id, tool) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
           ORDER BY api_key_id, tool FOR UPDATE"#,
        &keys,
        &tools,
    )
    .fetch_all(connection)
    .await?;
    let read = rows.into_iter().map(|row| {
        let id = LimitId {
            api_key_id: ApiKeyId::from_uuid(row.api_key_id),
            tool: row.tool,
        };
        (id, row.state.0)
    });
    Ok(read.collect())
}

/// The database's time, and since when the table of shares is whole: a lost
/// table is marked as such by whoever comes first.
#[tracing::instrument(name = "db.rate_table.read", skip_all)]
pub(in crate::identity) async fn rate_time(connection: &mut PgConnection) -> Result<Time> {
    let time =
        sqlx::query!(r#"SELECT clock_timestamp() AS "now!", (SELECT whole_at FROM rate_table)"#)
            .fetch_one(&mut *connection)
            .await?;
    let whole_at = match time.whole_at {
        Some(whole_at) => whole_at,
        None => mark_lost(connection, time.now).await?,
    };
    Ok(Time {
        now_us: micros(time.now),
        whole_us: micros(whole_at),
    })
}

async fn mark_lost(connection: &mut PgConnection, now: OffsetDateTime) -> Result<OffsetDateTime> {
    tracing::warn!("the shares of rate limits were lost; new ones are small for a few seconds");
    sqlx::query!(
        "INSERT INTO rate_table (whole_at) VALUES ($1) ON CONFLICT DO NOTHING",
        now + LEASE,
    )
    .execute(&mut *connection)
    .await?;
    // another control plane may have been first
    Ok(sqlx::query_scalar!("SELECT whole_at FROM rate_table")
        .fetch_one(connection)
        .await?)
}

#[tracing::instrument(name = "db.rate_bucket.write", skip_all)]
pub(in crate::identity) async fn write_rate_buckets(
    connection: &mut PgConnection,
    buckets: &[(LimitId, Option<Shares>)],
) -> Result<()> {
    let ids: Vec<LimitId> = buckets.iter().map(|(id, _)| id.clone()).collect();
    let (keys, tools) = columns(&ids);
    let states: Vec<Json<&Option<Shares>>> = buckets.iter().map(|(_, state)| Json(state)).collect();
    sqlx::query!(
        "UPDATE rate_bucket SET state = new.state
         FROM unnest($1::uuid[], $2::text[], $3::json[]) AS new (api_key_id, tool, state)
         WHERE rate_bucket.api_key_id = new.api_key_id AND rate_bucket.tool = new.tool",
        &keys,
        &tools,
        states as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn columns(ids: &[LimitId]) -> (Vec<Uuid>, Vec<String>) {
    let ids = ids.iter();
    ids.map(|id| (id.api_key_id.as_uuid(), id.tool.clone()))
        .unzip()
}

fn micros(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}
