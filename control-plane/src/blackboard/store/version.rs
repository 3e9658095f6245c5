//! Versions of the keys of eventual boards.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use authguardian_proto::{
    board::Key,
    crdt::{Actor, Dot, HybridTime, Siblings, VectorClock, Version, Write},
    ids::{BoardName, MachineId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    board_name, count,
    entry::{after_all, end_of},
    key, stored, unreadable,
};
use crate::{
    blackboard::{replica::Taken, write::Plan},
    error::{Error, Result},
};

struct Row {
    board: String,
    key: String,
    machine_id: Uuid,
    incarnation: i64,
    counter: i64,
    clock: String,
    time: i64,
    value: Option<String>,
    writer: String,
    expires_at: Option<OffsetDateTime>,
    revision: i64,
    /// Rows within the limit, also those left out for their size.
    there: i64,
}

impl TryFrom<Row> for Taken {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let clock: VectorClock =
            serde_json::from_str(&row.clock).map_err(|_| unreadable("board_version.clock"))?;
        let expires_at_millis = row
            .expires_at
            .and_then(|end| u64::try_from(end.unix_timestamp_nanos() / 1_000_000).ok());
        Ok(Self {
            key: key(&row.key)?,
            version: Version {
                dot: Dot {
                    actor: actor(row.machine_id, row.incarnation)?,
                    counter: count(row.counter),
                },
                clock,
                time: HybridTime::from_u64(count(row.time)),
                content: Write {
                    value: row.value.map(Into::into),
                    writer: row.writer.into(),
                    expires_at_millis,
                },
            },
            revision: row.revision,
        })
    }
}

fn actor(machine: Uuid, incarnation: i64) -> Result<Actor> {
    Ok(Actor {
        machine: MachineId::from_uuid(machine),
        incarnation: u32::try_from(incarnation)
            .map_err(|_| unreadable("board_version.incarnation"))?,
    })
}

/// All versions of these keys.
#[tracing::instrument(name = "db.board_version.read", skip_all)]
pub(in crate::blackboard) async fn siblings(
    connection: &mut PgConnection,
    places: &BTreeSet<(&BoardName, &Key)>,
) -> Result<HashMap<(BoardName, Key), Siblings<Write>>> {
    let boards: Vec<String> = places.iter().map(|(board, _)| board.to_string()).collect();
    let keys: Vec<String> = places.iter().map(|(_, key)| key.to_string()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT board AS "board!", key AS "key!", machine_id AS "machine_id!", incarnation AS "incarnation!",
                  counter AS "counter!", clock AS "clock!", time AS "time!", value, writer AS "writer!", expires_at,
                  revision AS "revision!", 1::bigint AS "there!"
           FROM unnest($1::text[], $2::text[]) AS wanted (board, key)
           JOIN board_version USING (board, key)"#,
        &boards,
        &keys,
    )
    .fetch_all(connection)
    .await?;
    let mut siblings: HashMap<_, Siblings<Write>> = HashMap::new();
    for row in rows {
        let board = board_name(&row.board)?;
        let taken = Taken::try_from(row)?;
        siblings
            .entry((board, taken.key))
            .or_default()
            .hear(taken.version);
    }
    Ok(siblings)
}

/// How many writes of these replicas each board has had.
pub(in crate::blackboard) async fn received(
    connection: &mut PgConnection,
    actors: &BTreeSet<(&BoardName, Actor)>,
) -> Result<BTreeMap<(BoardName, Actor), u64>> {
    let boards: Vec<String> = actors.iter().map(|(board, _)| board.to_string()).collect();
    let machines: Vec<Uuid> = actors
        .iter()
        .map(|(_, one)| one.machine.as_uuid())
        .collect();
    let incarnations: Vec<i64> = actors
        .iter()
        .map(|(_, one)| one.incarnation.into())
        .collect();
    let rows = sqlx::query!(
        r#"SELECT board AS "board!", machine_id AS "machine_id!", incarnation AS "incarnation!", received AS "received!"
           FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS wanted (board, machine_id, incarnation)
           JOIN board_actor USING (board, machine_id, incarnation)"#,
        &boards,
        &machines,
        &incarnations,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let actor = actor(row.machine_id, row.incarnation)?;
            Ok(((board_name(&row.board)?, actor), count(row.received)))
        })
        .collect()
}

/// Versions by column, as `unnest` wants them.
#[derive(Default)]
struct Columns {
    boards: Vec<String>,
    keys: Vec<String>,
    machines: Vec<Uuid>,
    incarnations: Vec<i64>,
    counters: Vec<i64>,
}

impl Columns {
    fn push(&mut self, board: &BoardName, key: &Key, dot: Dot) {
        self.boards.push(board.to_string());
        self.keys.push(key.to_string());
        self.machines.push(dot.actor.machine.as_uuid());
        self.incarnations.push(dot.actor.incarnation.into());
        self.counters.push(stored(dot.counter));
    }
}

/// Writes what has become of the versions of a batch's keys.
#[tracing::instrument(name = "db.board_version.write", skip_all)]
pub(in crate::blackboard) async fn write_versions(
    connection: &mut PgConnection,
    plan: &Plan,
) -> Result<()> {
    let mut gone = Columns::default();
    for ((board, key), dot) in plan.replaced() {
        gone.push(board, key, dot);
    }
    if !gone.keys.is_empty() {
        delete(connection, &gone).await?;
    }
    let mut new = Columns::default();
    let (mut clocks, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (mut writers, mut ends, mut revisions) = (Vec::new(), Vec::new(), Vec::new());
    for ((board, key), version, revision) in plan.taken() {
        new.push(board, key, version.dot);
        clocks.push(serde_json::to_string(&version.clock).map_err(Error::internal)?);
        times.push(stored(version.time.as_u64()));
        values.push(version.content.value.as_deref().map(str::to_owned));
        writers.push(version.content.writer.to_string());
        ends.push(version.content.expires_at_millis.and_then(moment));
        revisions.push(revision);
    }
    if !new.keys.is_empty() {
        sqlx::query!(
            "INSERT INTO board_version (board, key, machine_id, incarnation, counter, clock, time, value, writer,
                                        expires_at, revision)
             SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[], $6::text[],
                                  $7::bigint[], $8::text[], $9::text[], $10::timestamptz[], $11::bigint[])",
            &new.boards,
            &new.keys,
            &new.machines,
            &new.incarnations,
            &new.counters,
            &clocks,
            &times,
            &values as _,
            &writers,
            &ends as _,
            &revisions,
        )
        .execute(&mut *connection)
        .await?;
    }
    write_received(connection, plan).await
}

async fn delete(connection: &mut PgConnection, gone: &Columns) -> Result<()> {
    sqlx::query!(
        "DELETE FROM board_version AS version
         USING unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[])
               AS gone (board, key, machine_id, incarnation, counter)
         WHERE version.board = gone.board AND version.key = gone.key AND version.machine_id = gone.machine_id
               AND version.incarnation = gone.incarnation AND version.counter = gone.counter",
        &gone.boards,
        &gone.keys,
        &gone.machines,
        &gone.incarnations,
        &gone.counters,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_received(connection: &mut PgConnection, plan: &Plan) -> Result<()> {
    let (mut boards, mut machines) = (Vec::new(), Vec::new());
    let (mut incarnations, mut counters) = (Vec::new(), Vec::new());
    for ((board, actor), counter) in &plan.heard {
        boards.push(board.to_string());
        machines.push(actor.machine.as_uuid());
        incarnations.push(i64::from(actor.incarnation));
        counters.push(stored(*counter));
    }
    if boards.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO board_actor (board, machine_id, incarnation, received)
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[])
         ON CONFLICT (board, machine_id, incarnation)
         DO UPDATE SET received = greatest(board_actor.received, excluded.received)",
        &boards,
        &machines,
        &incarnations,
        &counters,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A moment in milliseconds since 1970; `None`: later than any that is written.
pub(in crate::blackboard) fn moment(millis: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}

/// Versions of a board taken after a revision, in the order of their revisions, up
/// to `limit` and no more once their values have `max_bytes`; and whether these are
/// all.
#[tracing::instrument(name = "db.board_version.read_on", skip_all)]
pub(in crate::blackboard) async fn versions_after(
    connection: &mut PgConnection,
    board: &BoardName,
    after: i64,
    limit: i64,
    max_bytes: i64,
) -> Result<(Vec<Taken>, bool)> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT board AS "board!", key AS "key!", machine_id AS "machine_id!", incarnation AS "incarnation!",
                  counter AS "counter!", clock AS "clock!", time AS "time!", value, writer AS "writer!", expires_at,
                  revision AS "revision!", there AS "there!"
           FROM (SELECT *, count(*) OVER () AS there,
                        sum(coalesce(octet_length(value), 0)) OVER (ORDER BY revision)
                            - coalesce(octet_length(value), 0) AS before
                 FROM (SELECT * FROM board_version WHERE board = $1 AND revision > $2
                       ORDER BY revision LIMIT $3) AS one) AS page
           WHERE before < $4 ORDER BY revision"#,
        board.as_str(),
        after,
        limit,
        max_bytes,
    )
    .fetch_all(connection)
    .await?;
    let there = rows.first().map_or(0, |row| row.there);
    let is_all = there < limit && there == i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let taken = rows.into_iter().map(Taken::try_from);
    Ok((taken.collect::<Result<_>>()?, is_all))
}

/// Keys of a board that begin so and have more than one value, after a key, in byte
/// order.
pub(in crate::blackboard) async fn conflicts(
    connection: &mut PgConnection,
    board: &BoardName,
    prefix: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Key>> {
    let rows = sqlx::query_scalar!(
        "SELECT key FROM board_version
         WHERE board = $1 AND value IS NOT NULL AND key > $2 AND key >= $3 AND key < $4
         GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT $5",
        board.as_str(),
        after,
        prefix,
        end_of(prefix).unwrap_or_else(after_all),
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|text| key(text)).collect()
}

/// All versions of one key.
pub(in crate::blackboard) async fn versions_of(
    connection: &mut PgConnection,
    board: &BoardName,
    key: &Key,
) -> Result<Vec<Taken>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT board, key, machine_id, incarnation, counter, clock, time, value, writer, expires_at, revision,
                  1::bigint AS "there!"
           FROM board_version WHERE board = $1 AND key = $2 ORDER BY machine_id, incarnation, counter"#,
        board.as_str(),
        key.as_str(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Taken::try_from).collect()
}
