//! Entries that have their place in a log.

use sqlx::PgConnection;

use super::row::Row;
use crate::{audit::Record, error::Result};

/// Whether anything waits to be sealed, or a head to be signed.
pub(in crate::audit) async fn is_work(connection: &mut PgConnection) -> Result<bool> {
    let work = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM audit_entry)
               OR EXISTS (SELECT FROM audit_log WHERE ended_at IS NULL AND size > 0
                          AND NOT EXISTS (SELECT FROM audit_checkpoint
                                          WHERE audit_checkpoint.log = audit_log.log
                                            AND audit_checkpoint.size = audit_log.size)) AS "work!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(work)
}

/// Gives up to `limit` committed entries their place in a log, from `first`
/// on, in the order of their sequence; returns them in that order.
#[tracing::instrument(name = "db.sealed_audit_entry.seal", skip_all)]
pub(in crate::audit) async fn seal(
    connection: &mut PgConnection,
    (log, origin): (i64, &str),
    first: i64,
    limit: i64,
) -> Result<Vec<Record>> {
    let rows = sqlx::query_as!(
        Row,
        r#"WITH taken AS (
               DELETE FROM audit_entry WHERE sequence = ANY (ARRAY(
                   SELECT sequence FROM audit_entry ORDER BY sequence LIMIT $4))
               RETURNING *
           ), sealed AS (
               INSERT INTO sealed_audit_entry (log, index, sequence, occurred_at, caller, key_id, machine_id,
                   peer_address, zone, action, subject, agent_id, outcome, reason, request_id, trace_id, count)
               SELECT $1, $3 + row_number() OVER (ORDER BY sequence) - 1, sequence, occurred_at, caller, key_id,
                      machine_id, peer_address, zone, action, subject, agent_id, outcome, reason, request_id,
                      trace_id, count
               FROM taken ORDER BY sequence
               RETURNING *
           )
           SELECT log, $2::text AS origin, index, sequence, occurred_at, caller, key_id, machine_id, peer_address,
                  zone, action, subject, agent_id, outcome, reason, request_id, trace_id, count
           FROM sealed ORDER BY index"#,
        log,
        origin,
        first,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Record::from).collect())
}

/// Entries of one log from an index on and below another, in order.
#[tracing::instrument(name = "db.sealed_audit_entry.range", skip_all)]
pub(in crate::audit) async fn range(
    connection: &mut PgConnection,
    (log, origin): (i64, &str),
    (from, below): (i64, i64),
    limit: i64,
) -> Result<Vec<Record>> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT log, $2::text AS origin, index, sequence, occurred_at, caller, key_id, machine_id, peer_address,
                zone, action, subject, agent_id, outcome, reason, request_id, trace_id, count
         FROM sealed_audit_entry WHERE log = $1 AND index >= $3 AND index < $4 ORDER BY index LIMIT $5",
        log,
        origin,
        from,
        below,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Record::from).collect())
}

/// A place in the logs: the log's number and the index of the next entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) struct Cursor {
    pub(in crate::audit) log: i64,
    pub(in crate::audit) index: i64,
}

/// The place from which on `lines` signed entries are left.
pub(in crate::audit) async fn newest(connection: &mut PgConnection, lines: i64) -> Result<Cursor> {
    let row = sqlx::query!(
        r#"SELECT entry.log, entry.index
           FROM sealed_audit_entry AS entry
           JOIN (SELECT log, max(size) AS size FROM audit_checkpoint GROUP BY log) AS signed
               ON signed.log = entry.log AND entry.index < signed.size
           ORDER BY entry.log DESC, entry.index DESC OFFSET $1 LIMIT 1"#,
        lines,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map_or(Cursor { log: 0, index: 0 }, |row| Cursor {
        log: row.log,
        index: row.index + 1,
    }))
}

/// Signed entries from a place on, in order, and the place after them.
#[tracing::instrument(name = "db.sealed_audit_entry.after", skip_all)]
pub(in crate::audit) async fn after(
    connection: &mut PgConnection,
    cursor: Cursor,
    limit: i64,
) -> Result<(Vec<Record>, Cursor)> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT entry.log, signed.origin AS "origin!", entry.index, sequence, occurred_at, caller, key_id,
                  machine_id, peer_address, zone, action, subject, agent_id, outcome, reason, request_id,
                  trace_id, count
           FROM (SELECT log, origin, (SELECT max(audit_checkpoint.size) FROM audit_checkpoint
                                      WHERE audit_checkpoint.log = audit_log.log) AS size
                 FROM audit_log WHERE log >= $1) AS signed
           JOIN sealed_audit_entry AS entry ON entry.log = signed.log AND entry.index < signed.size
           WHERE (entry.log, entry.index) >= ($1, $2)
           ORDER BY entry.log, entry.index LIMIT $3"#,
        cursor.log,
        cursor.index,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let records: Vec<Record> = rows.into_iter().map(Record::from).collect();
    let last = records.last().and_then(|record| record.place.as_ref());
    let end = last.map_or(cursor, |place| Cursor {
        log: place.log,
        index: place.index + 1,
    });
    Ok((records, end))
}

/// Entries of a log that its head does not cover: their index, and the head's
/// size at that moment.
pub(in crate::audit) async fn beyond(
    connection: &mut PgConnection,
    log: i64,
    limit: i64,
) -> Result<Vec<(i64, i64)>> {
    let rows = sqlx::query!(
        "SELECT sealed.index, audit_log.size FROM sealed_audit_entry AS sealed JOIN audit_log USING (log)
         WHERE log = $1 AND sealed.index >= audit_log.size ORDER BY sealed.index LIMIT $2",
        log,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.index, row.size)).collect())
}
