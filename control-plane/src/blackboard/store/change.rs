//! What has become of keys.

use authguardian_proto::{
    board::Key,
    ids::{BoardName, GrantId, MachineId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{key, stored, unreadable};
use crate::{
    blackboard::{
        entry::{Change, ChangeKind, Entry, Value},
        write::Plan,
    },
    error::{Error, Result},
};

/// Entries by column, as `unnest` wants them.
#[derive(Default)]
struct Columns {
    boards: Vec<String>,
    keys: Vec<String>,
    values: Vec<Option<String>>,
    revisions: Vec<i64>,
    created: Vec<i64>,
    locks: Vec<bool>,
    writers: Vec<String>,
    machines: Vec<Option<Uuid>>,
    grants: Vec<Option<Uuid>>,
    times: Vec<OffsetDateTime>,
    ends: Vec<Option<OffsetDateTime>>,
}

impl Columns {
    fn push(&mut self, board: &BoardName, entry: &Entry) {
        self.boards.push(board.to_string());
        self.keys.push(entry.key.to_string());
        self.values
            .push(entry.value.as_ref().map(|value| value.as_str().to_owned()));
        self.revisions.push(entry.revision);
        self.created.push(entry.created_revision);
        self.locks.push(entry.is_lock);
        self.writers.push(entry.writer.clone());
        self.machines.push(entry.machine_id.map(MachineId::as_uuid));
        self.grants.push(entry.grant_id.map(GrantId::as_uuid));
        self.times.push(entry.written_at);
        self.ends.push(entry.expires_at);
    }
}

/// Writes what a batch has planned: keys as they are now, every change, and the
/// heads that are locked.
#[tracing::instrument(name = "db.board_entry.write", skip_all)]
pub(in crate::blackboard) async fn write(connection: &mut PgConnection, plan: &Plan) -> Result<()> {
    if plan.changes.is_empty() && plan.taken().next().is_none() {
        return Ok(());
    }
    let (mut gone_boards, mut gone_keys) = (Vec::new(), Vec::new());
    for ((board, key), entry) in &plan.written {
        if entry.is_none() {
            gone_boards.push(board.to_string());
            gone_keys.push(key.to_string());
        }
    }
    if !gone_keys.is_empty() {
        delete(connection, &gone_boards, &gone_keys).await?;
    }
    let mut changes = Columns::default();
    let (mut numbers, mut kinds, mut previous) = (Vec::new(), Vec::new(), Vec::new());
    // of the changes of a key the last is what is in it
    let mut last = Vec::new();
    for (board, number, change) in &plan.changes {
        changes.push(board, &change.entry);
        numbers.push(*number);
        kinds.push(change.kind.number());
        previous.push(change.previous_revision);
        let place = (board.clone(), change.entry.key.clone());
        let is = plan.written.get(&place).and_then(Option::as_ref);
        last.push(is.is_some_and(|entry| entry.revision == change.entry.revision));
    }
    let heads: Vec<_> = plan.boards.values().collect();
    sqlx::query!(
        "WITH head AS (
             UPDATE board_head SET revision = new.revision, keys = new.keys, bytes = new.bytes
             FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS new (board, revision, keys, bytes)
             WHERE board_head.board = new.board AND board_head.revision <> new.revision
         ), item AS (
             SELECT * FROM unnest($5::text[], $6::bigint[], $7::smallint[], $8::smallint[], $9::text[], $10::text[],
                                  $11::bigint[], $12::bigint[], $13::boolean[], $14::text[], $15::uuid[], $16::uuid[],
                                  $17::timestamptz[], $18::timestamptz[], $19::boolean[])
                  AS item (board, revision, number, kind, key, value, created_revision, previous_revision, is_lock,
                           writer, machine_id, grant_id, occurred_at, expires_at, is_last)
         ), entry AS (
             INSERT INTO board_entry (board, key, value, revision, created_revision, is_lock, writer, machine_id,
                                      grant_id, written_at, expires_at)
             SELECT board, key, value, revision, created_revision, is_lock, writer, machine_id, grant_id, occurred_at,
                    expires_at
             FROM item WHERE is_last
             ON CONFLICT (board, key) DO UPDATE SET
                 value = excluded.value, revision = excluded.revision, created_revision = excluded.created_revision,
                 is_lock = excluded.is_lock, writer = excluded.writer, machine_id = excluded.machine_id,
                 grant_id = excluded.grant_id, written_at = excluded.written_at, expires_at = excluded.expires_at
         )
         INSERT INTO board_change (board, revision, number, kind, key, value, created_revision, previous_revision,
                                   is_lock, writer, machine_id, grant_id, occurred_at, expires_at)
         SELECT board, revision, number, kind, key, value, created_revision, previous_revision, is_lock, writer,
                machine_id, grant_id, occurred_at, expires_at
         FROM item",
        &heads.iter().map(|board| board.name.to_string()).collect::<Vec<_>>(),
        &heads.iter().map(|board| board.position.revision).collect::<Vec<_>>(),
        &heads.iter().map(|board| stored(board.keys)).collect::<Vec<_>>(),
        &heads.iter().map(|board| stored(board.bytes)).collect::<Vec<_>>(),
        &changes.boards,
        &changes.revisions,
        &numbers,
        &kinds,
        &changes.keys,
        &changes.values as _,
        &changes.created,
        &previous,
        &changes.locks,
        &changes.writers,
        &changes.machines as _,
        &changes.grants as _,
        &changes.times,
        &changes.ends as _,
        &last,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn delete(connection: &mut PgConnection, boards: &[String], keys: &[String]) -> Result<()> {
    sqlx::query!(
        "DELETE FROM board_entry USING unnest($1::text[], $2::text[]) AS gone (board, key)
         WHERE board_entry.board = gone.board AND board_entry.key = gone.key",
        boards,
        keys,
    )
    .execute(connection)
    .await?;
    Ok(())
}

struct Row {
    revision: i64,
    kind: i16,
    key: String,
    value: Option<String>,
    created_revision: i64,
    previous_revision: i64,
    is_lock: bool,
    writer: String,
    machine_id: Option<Uuid>,
    grant_id: Option<Uuid>,
    occurred_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    was_value: Option<String>,
    was_created_revision: Option<i64>,
    was_lock: Option<bool>,
    was_writer: Option<String>,
    was_machine_id: Option<Uuid>,
    was_grant_id: Option<Uuid>,
    was_written_at: Option<OffsetDateTime>,
    was_expires_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Change {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let key = key(&row.key)?;
        let previous = match (row.was_value, row.was_created_revision, row.was_written_at) {
            (Some(value), Some(created_revision), Some(written_at)) => Some(Box::new(Entry {
                key: key.clone(),
                value: Some(Value::stored(value)),
                revision: row.previous_revision,
                created_revision,
                is_lock: row.was_lock.unwrap_or_default(),
                writer: row.was_writer.unwrap_or_default(),
                machine_id: row.was_machine_id.map(MachineId::from_uuid),
                grant_id: row.was_grant_id.map(GrantId::from_uuid),
                written_at,
                expires_at: row.was_expires_at,
            })),
            _ => None,
        };
        Ok(Self {
            kind: ChangeKind::from_number(row.kind)
                .ok_or_else(|| unreadable("board_change.kind"))?,
            entry: Entry {
                key,
                value: row.value.map(Value::stored),
                revision: row.revision,
                created_revision: row.created_revision,
                is_lock: row.is_lock,
                writer: row.writer,
                machine_id: row.machine_id.map(MachineId::from_uuid),
                grant_id: row.grant_id.map(GrantId::from_uuid),
                written_at: row.occurred_at,
                expires_at: row.expires_at,
            },
            previous_revision: row.previous_revision,
            previous,
        })
    }
}

/// Changes of a board with revisions in `(after, up_to]`, in order, each with
/// what was there before as far as it is kept; those of a revision are never
/// parted, so there may be a few more than `limit`.
#[tracing::instrument(name = "db.board_change.read", skip_all)]
pub(in crate::blackboard) async fn changes(
    connection: &mut PgConnection,
    board: &BoardName,
    after: i64,
    up_to: i64,
    limit: i64,
) -> Result<Vec<Change>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT new.revision, new.kind, new.key, new.value, new.created_revision, new.previous_revision, new.is_lock,
                  new.writer, new.machine_id, new.grant_id, new.occurred_at, new.expires_at,
                  was.value AS was_value, was.created_revision AS "was_created_revision?", was.is_lock AS "was_lock?",
                  was.writer AS "was_writer?", was.machine_id AS was_machine_id, was.grant_id AS was_grant_id,
                  was.occurred_at AS "was_written_at?", was.expires_at AS was_expires_at
           FROM board_change AS new
           LEFT JOIN board_change AS was
                ON was.board = new.board AND was.revision = new.previous_revision AND was.key = new.key
           WHERE new.board = $1 AND new.revision > $2
                 AND new.revision <= least($3, (
                     SELECT max(revision) FROM (
                         SELECT revision FROM board_change WHERE board = $1 AND revision > $2 AND revision <= $3
                         ORDER BY revision, number LIMIT $4) AS page))
           ORDER BY new.revision, new.number"#,
        board.as_str(),
        after,
        up_to,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Change::try_from).collect()
}

/// A change of a key, as replicas have to hear of it.
pub(in crate::blackboard) struct ChangedKey {
    pub(in crate::blackboard) key: Key,
    pub(in crate::blackboard) revision: i64,
    /// Of what is in it now.
    pub(in crate::blackboard) bytes: i64,
}

/// Which keys have changed in `(after, up_to]`, in order, up to `limit` changes.
pub(in crate::blackboard) async fn changed_keys(
    connection: &mut PgConnection,
    board: &BoardName,
    after: i64,
    up_to: i64,
    limit: i64,
) -> Result<Vec<ChangedKey>> {
    let rows = sqlx::query!(
        r#"SELECT change.key AS "key!", change.revision AS "revision!",
                  coalesce(octet_length(entry.value), 0)::bigint AS "bytes!"
           FROM (SELECT key, revision FROM board_change WHERE board = $1 AND revision > $2 AND revision <= $3
                 ORDER BY revision LIMIT $4) AS change
           LEFT JOIN board_entry AS entry ON entry.board = $1 AND entry.key = change.key
           ORDER BY change.revision"#,
        board.as_str(),
        after,
        up_to,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ChangedKey {
                key: key(&row.key)?,
                revision: row.revision,
                bytes: row.bytes,
            })
        })
        .collect()
}

/// Up to where changes of a board are gone.
pub(in crate::blackboard) async fn floor(
    connection: &mut PgConnection,
    board: &BoardName,
) -> Result<i64> {
    let floor = sqlx::query_scalar!(
        "SELECT floor FROM board_head WHERE board = $1",
        board.as_str()
    )
    .fetch_optional(connection)
    .await?;
    Ok(floor.unwrap_or_default())
}

/// Drops changes that are older than each board keeps them, or more than
/// `most` revisions back; up to `limit` of each board. How many.
#[tracing::instrument(name = "db.board_change.compact", skip_all)]
pub(in crate::blackboard) async fn compact(
    connection: &mut PgConnection,
    board: &BoardName,
    most: i64,
    limit: i64,
) -> Result<u64> {
    let floor = sqlx::query_scalar!(
        r#"UPDATE board_head SET floor = greatest(floor, coalesce((
               SELECT max(old.revision) FROM (
                   SELECT revision, occurred_at FROM board_change
                   WHERE board = $1 AND revision > board_head.floor
                   ORDER BY revision LIMIT $3) AS old
               WHERE old.revision <= board_head.revision - $2
                     OR old.occurred_at < clock_timestamp() - make_interval(secs => board.retention_seconds)), 0))
           FROM board WHERE board = $1 AND name = $1
           RETURNING floor"#,
        board.as_str(),
        most,
        limit,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(floor) = floor else { return Ok(0) };
    let gone = sqlx::query!(
        "DELETE FROM board_change WHERE board = $1 AND revision <= $2",
        board.as_str(),
        floor,
    )
    .execute(connection)
    .await?;
    Ok(gone.rows_affected())
}
