//! Leases of edges.

use authguardian_proto::{ids::MachineId, liveness::Liveness};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{liveness, unreadable};
use crate::{
    error::{Error, Result},
    registry::lease::{Lease, PeerAddress},
};

struct LeaseRow {
    machine_id: Uuid,
    incarnation: i64,
    sequence: i64,
    peer_address: Option<String>,
    seen_at: OffsetDateTime,
    liveness: i16,
}

impl TryFrom<LeaseRow> for Lease {
    type Error = Error;

    fn try_from(row: LeaseRow) -> Result<Self> {
        Ok(Self {
            machine: MachineId::from_uuid(row.machine_id),
            incarnation: row.incarnation,
            sequence: row.sequence,
            peer_address: peer_address(row.peer_address)?,
            seen_at: row.seen_at,
            liveness: liveness(row.liveness)?,
        })
    }
}

pub(super) fn peer_address(text: Option<String>) -> Result<Option<PeerAddress>> {
    text.map(|text| text.parse().map_err(|_| unreadable("peer_address")))
        .transpose()
}

/// Leases of these machines, locked in key order until the transaction ends.
#[tracing::instrument(name = "db.edge.lock", skip_all)]
pub(in crate::registry) async fn lock_edges(
    connection: &mut PgConnection,
    machines: &[Uuid],
) -> Result<Vec<Lease>> {
    sqlx::query_as!(
        LeaseRow,
        "SELECT machine_id, incarnation, sequence, peer_address, seen_at, liveness FROM edge
         WHERE machine_id = ANY ($1) ORDER BY machine_id FOR UPDATE",
        machines,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Lease::try_from)
    .collect()
}

/// Makes the lease of a machine where there is none, and locks it.
#[tracing::instrument(name = "db.edge.ensure", skip_all)]
pub(in crate::registry) async fn ensure_edge(
    connection: &mut PgConnection,
    machine: MachineId,
    now: OffsetDateTime,
) -> Result<Lease> {
    sqlx::query!(
        "INSERT INTO edge (machine_id, incarnation, sequence, peer_address, seen_at, liveness)
         VALUES ($1, 0, 0, NULL, $2, 0) ON CONFLICT DO NOTHING",
        machine.as_uuid(),
        now,
    )
    .execute(&mut *connection)
    .await?;
    lock_edges(connection, &[machine.as_uuid()])
        .await?
        .pop()
        .ok_or_else(|| Error::internal("the lease of a machine went while it was made"))
}

/// Writes leases that are locked.
#[tracing::instrument(name = "db.edge.write", skip_all)]
pub(in crate::registry) async fn write_edges(
    connection: &mut PgConnection,
    leases: &[&Lease],
) -> Result<()> {
    let machines: Vec<Uuid> = leases.iter().map(|lease| lease.machine.as_uuid()).collect();
    let incarnations: Vec<i64> = leases.iter().map(|lease| lease.incarnation).collect();
    let sequences: Vec<i64> = leases.iter().map(|lease| lease.sequence).collect();
    let addresses: Vec<Option<&str>> = leases
        .iter()
        .map(|lease| lease.peer_address.as_ref().map(PeerAddress::as_str))
        .collect();
    let seen: Vec<OffsetDateTime> = leases.iter().map(|lease| lease.seen_at).collect();
    let livenesses: Vec<i16> = leases.iter().map(|lease| lease.liveness.number()).collect();
    sqlx::query!(
        "UPDATE edge SET incarnation = item.incarnation, sequence = item.sequence,
                         peer_address = item.peer_address, seen_at = item.seen_at, liveness = item.liveness
         FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[], $6::smallint[])
              AS item (machine_id, incarnation, sequence, peer_address, seen_at, liveness)
         WHERE edge.machine_id = item.machine_id",
        &machines,
        &incarnations,
        &sequences,
        &addresses as _,
        &seen,
        &livenesses,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The next number of the sequence that registrations and processes share.
pub(in crate::registry) async fn next_epoch(connection: &mut PgConnection) -> Result<i64> {
    Ok(
        sqlx::query_scalar!(r#"SELECT nextval('registration_epoch') AS "epoch!""#)
            .fetch_one(connection)
            .await?,
    )
}

/// Leaves out all numbers below one.
pub(in crate::registry) async fn skip_epochs(
    connection: &mut PgConnection,
    below: i64,
) -> Result<()> {
    sqlx::query!(
        "SELECT setval('registration_epoch', greatest(nextval('registration_epoch'), $1))",
        below,
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// Edges to be judged: live ones last heard before `suspect`, those not gone
/// last heard before `gone`, and those whose machine counts no more. Passes over
/// what another transaction holds.
#[tracing::instrument(name = "db.edge.silent", skip_all)]
pub(in crate::registry) async fn lock_silent_edges(
    connection: &mut PgConnection,
    suspect: OffsetDateTime,
    gone: OffsetDateTime,
    limit: i64,
) -> Result<Vec<(MachineId, Liveness)>> {
    let rows = sqlx::query!(
        r#"SELECT edge.machine_id,
                  edge.seen_at <= $2 OR machine.state IS DISTINCT FROM 'active' AS "gone!"
           FROM edge LEFT JOIN machine ON machine.id = edge.machine_id
           WHERE (edge.liveness = 0 AND edge.seen_at <= $1)
              OR (edge.liveness < 2 AND (edge.seen_at <= $2 OR machine.state IS DISTINCT FROM 'active'))
           ORDER BY edge.machine_id LIMIT $3 FOR UPDATE OF edge SKIP LOCKED"#,
        suspect,
        gone,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let judged = if row.gone {
                Liveness::Gone
            } else {
                Liveness::Suspect
            };
            (MachineId::from_uuid(row.machine_id), judged)
        })
        .collect())
}

/// What edges are judged to be.
#[tracing::instrument(name = "db.edge.judge", skip_all)]
pub(in crate::registry) async fn judge_edges(
    connection: &mut PgConnection,
    judged: &[(MachineId, Liveness)],
) -> Result<()> {
    let machines: Vec<Uuid> = judged
        .iter()
        .map(|(machine, _)| machine.as_uuid())
        .collect();
    let livenesses: Vec<i16> = judged
        .iter()
        .map(|(_, liveness)| liveness.number())
        .collect();
    sqlx::query!(
        "UPDATE edge SET liveness = item.liveness
         FROM unnest($1::uuid[], $2::smallint[]) AS item (machine_id, liveness)
         WHERE edge.machine_id = item.machine_id",
        &machines,
        &livenesses,
    )
    .execute(connection)
    .await?;
    Ok(())
}
