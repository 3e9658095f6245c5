//! Replicas: their leases, and how far they have come.

use authguardian_proto::ids::{BoardName, MachineId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::count;
use crate::error::{Error, Result};

/// Incarnations from here on are made up by replicas while they are cut off.
const MADE_UP: i64 = 1 << 31;

/// Leases a replica's place, under a lock of its row; the incarnation that it was
/// given last, 0 for none.
pub(in crate::blackboard) async fn lease_replica(
    connection: &mut PgConnection,
    machine: MachineId,
    until: OffsetDateTime,
) -> Result<u32> {
    let last = sqlx::query_scalar!(
        "INSERT INTO replica (machine_id, incarnation, leased_until) VALUES ($1, 0, $2)
         ON CONFLICT (machine_id) DO UPDATE SET leased_until = $2
         RETURNING incarnation",
        machine.as_uuid(),
        until,
    )
    .fetch_one(connection)
    .await?;
    u32::try_from(last).map_err(Error::internal)
}

/// Whether a replica writes as one that it was given, or as one of not too many that
/// it has made up.
pub(in crate::blackboard) async fn is_known_incarnation(
    connection: &mut PgConnection,
    machine: MachineId,
    incarnation: u32,
    most: i64,
) -> Result<bool> {
    let known = sqlx::query_scalar!(
        r#"SELECT CASE WHEN $2::bigint < $3::bigint
                  THEN EXISTS (SELECT FROM replica WHERE machine_id = $1 AND incarnation >= $2)
                  ELSE (SELECT count(DISTINCT incarnation) FROM board_actor
                        WHERE machine_id = $1 AND incarnation >= $3 AND incarnation <> $2) < $4::bigint
                  END AS "known!""#,
        machine.as_uuid(),
        i64::from(incarnation),
        MADE_UP,
        most,
    )
    .fetch_one(connection)
    .await?;
    Ok(known)
}

/// Another incarnation for a replica, above that which it says it has.
pub(in crate::blackboard) async fn next_incarnation(
    connection: &mut PgConnection,
    machine: MachineId,
    asked: u32,
) -> Result<u32> {
    // a restored database may know of fewer than there were
    let least = Some(i64::from(asked)).filter(|asked| *asked < MADE_UP);
    let next = sqlx::query_scalar!(
        "UPDATE replica SET incarnation = greatest(incarnation, $3) + 1 WHERE machine_id = $1 AND incarnation + 1 < $2
         RETURNING incarnation",
        machine.as_uuid(),
        MADE_UP,
        least.unwrap_or(0),
    )
    .fetch_one(connection)
    .await?;
    u32::try_from(next).map_err(Error::internal)
}

/// The highest counter of an incarnation that any board has had.
pub(in crate::blackboard) async fn received_of(
    connection: &mut PgConnection,
    machine: MachineId,
    incarnation: u32,
) -> Result<Option<u64>> {
    let received = sqlx::query_scalar!(
        "SELECT max(received) FROM board_actor WHERE machine_id = $1 AND incarnation = $2",
        machine.as_uuid(),
        i64::from(incarnation),
    )
    .fetch_one(connection)
    .await?;
    Ok(received.map(count))
}

/// Notes up to where a replica has heard of boards.
pub(in crate::blackboard) async fn acknowledge(
    connection: &mut PgConnection,
    machine: MachineId,
    have: &[(BoardName, i64)],
) -> Result<()> {
    let boards: Vec<String> = have.iter().map(|(board, _)| board.to_string()).collect();
    let revisions: Vec<i64> = have.iter().map(|(_, revision)| *revision).collect();
    sqlx::query!(
        "WITH gone AS (
             DELETE FROM replica_board WHERE machine_id = $1 AND board <> ALL ($2)
         )
         INSERT INTO replica_board (machine_id, board, revision)
         SELECT $1, board, revision FROM unnest($2::text[], $3::bigint[]) AS have (board, revision)
         ON CONFLICT (machine_id, board) DO UPDATE SET revision = excluded.revision",
        machine.as_uuid(),
        &boards,
        &revisions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets how far replicas had come whose lease has ended.
pub(in crate::blackboard) async fn forget_replicas(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "DELETE FROM replica_board USING replica
         WHERE replica.machine_id = replica_board.machine_id AND replica.leased_until <= $1",
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets up to `limit` tombstones, after those that are forgotten, of a board's keys
/// that have no value, and that all leased replicas have heard of; how many. `None`:
/// there are none that could go, and nothing was touched.
#[tracing::instrument(name = "db.board_version.collect", skip_all)]
pub(in crate::blackboard) async fn collect(
    connection: &mut PgConnection,
    board: &BoardName,
    after: i64,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Option<u64>> {
    // from here on nobody writes to the board; tombstones that come until then are newer
    let collected = sqlx::query_scalar!(
        r#"UPDATE board_head SET collected = heard.up_to
           FROM (SELECT max(old.revision) AS up_to FROM (
                     SELECT revision FROM board_version
                     WHERE board = $1 AND value IS NULL AND revision > $4
                           AND revision <= coalesce((
                               SELECT min(have.revision) FROM replica_board AS have JOIN replica USING (machine_id)
                               WHERE have.board = $1 AND leased_until > $2), 9223372036854775807)
                     ORDER BY revision LIMIT $3) AS old) AS heard
           WHERE board = $1 AND heard.up_to > collected
           RETURNING collected"#,
        board.as_str(),
        now,
        limit,
        after,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(collected) = collected else {
        return Ok(None);
    };
    let gone = sqlx::query!(
        "DELETE FROM board_version AS old
         WHERE board = $1 AND value IS NULL AND revision <= $2
               AND NOT EXISTS (SELECT FROM board_version AS other
                               WHERE other.board = $1 AND other.key = old.key
                                     AND (other.value IS NOT NULL OR other.revision > $2))",
        board.as_str(),
        collected,
    )
    .execute(connection)
    .await?;
    Ok(Some(gone.rows_affected()))
}
