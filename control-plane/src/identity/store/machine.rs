//! Machines.

use authguardian_proto::{ids::MachineId, zone::Zone};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::unreadable;
use crate::{
    error::{Error, Result},
    identity::Machine,
};

struct MachineRow {
    id: Uuid,
    name: String,
    state: String,
    max_zone: String,
    created_at: OffsetDateTime,
    certificate_expires_at: OffsetDateTime,
}

impl TryFrom<MachineRow> for Machine {
    type Error = Error;

    fn try_from(row: MachineRow) -> Result<Self> {
        Ok(Self {
            id: MachineId::from_uuid(row.id),
            name: row.name,
            banned: row.state == "banned",
            max_zone: Zone::parse(&row.max_zone).ok_or_else(|| unreadable("machine.max_zone"))?,
            created_at: row.created_at,
            certificate_expires_at: row.certificate_expires_at,
        })
    }
}

pub(in crate::identity) async fn list_machines(
    connection: &mut PgConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<Machine>> {
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, created_at, certificate_expires_at
         FROM machine WHERE name > $1 ORDER BY name LIMIT $2",
        after,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Machine::try_from)
    .collect()
}

pub(in crate::identity) async fn machine(
    connection: &mut PgConnection,
    id: MachineId,
) -> Result<Option<Machine>> {
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, created_at, certificate_expires_at FROM machine WHERE id = $1",
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?
    .map(Machine::try_from)
    .transpose()
}

pub(in crate::identity) async fn machine_by_name(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Machine>> {
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, created_at, certificate_expires_at FROM machine WHERE name = $1",
        name,
    )
    .fetch_optional(connection)
    .await?
    .map(Machine::try_from)
    .transpose()
}

pub(in crate::identity) async fn machine_for_share(
    connection: &mut PgConnection,
    id: MachineId,
) -> Result<Option<Machine>> {
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, created_at, certificate_expires_at
         FROM machine WHERE id = $1 FOR SHARE",
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?
    .map(Machine::try_from)
    .transpose()
}

pub(in crate::identity) async fn machines_for_share(
    connection: &mut PgConnection,
    ids: &[MachineId],
) -> Result<Vec<Machine>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, created_at, certificate_expires_at
         FROM machine WHERE id = ANY ($1) ORDER BY id FOR SHARE",
        &ids,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Machine::try_from)
    .collect()
}

pub(in crate::identity) async fn count_machines(connection: &mut PgConnection) -> Result<i64> {
    Ok(
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM machine WHERE state = 'active'"#)
            .fetch_one(connection)
            .await?,
    )
}

pub(in crate::identity) async fn insert_machine(
    connection: &mut PgConnection,
    machine: &Machine,
    public_key: &[u8],
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO machine (id, name, state, max_zone, public_key, created_at, certificate_expires_at)
         VALUES ($1, $2, 'active', $3, $4, $5, $6)",
        machine.id.as_uuid(),
        machine.name,
        machine.max_zone.as_str(),
        public_key,
        machine.created_at,
        machine.certificate_expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(in crate::identity) async fn set_machine_certificate(
    connection: &mut PgConnection,
    id: MachineId,
    public_key: &[u8],
    expires_at: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "UPDATE machine SET public_key = $2, certificate_expires_at = $3 WHERE id = $1",
        id.as_uuid(),
        public_key,
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
