//! Machines.

use authguardian_proto::{
    ids::{AgentId, MachineId},
    zone::Zone,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::unreadable;
use crate::{
    error::{Error, Result},
    identity::{
        Machine, ServerName, Serves, Terms,
        machine::{MachineRef, MachineState},
        standing::{Standing, Standings},
    },
};

struct MachineRow {
    id: Uuid,
    name: String,
    state: String,
    max_zone: String,
    agent_ids: Option<Vec<String>>,
    server_names: Vec<String>,
    session_generation: i64,
    created_at: OffsetDateTime,
    certificate_expires_at: OffsetDateTime,
}

impl TryFrom<MachineRow> for Machine {
    type Error = Error;

    fn try_from(row: MachineRow) -> Result<Self> {
        Ok(Self {
            id: MachineId::from_uuid(row.id),
            name: row.name,
            state: state(&row.state)?,
            terms: terms(&row.max_zone, row.agent_ids.as_deref(), &row.server_names)?,
            session_generation: row.session_generation,
            created_at: row.created_at,
            certificate_expires_at: row.certificate_expires_at,
        })
    }
}

pub(in crate::identity) async fn list_machines(
    connection: &mut PgConnection,
    after: Option<(&str, MachineId)>,
    evicted: bool,
    limit: i64,
) -> Result<Vec<Machine>> {
    let (name, id) = after.unzip();
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, agent_ids, server_names, session_generation, created_at,
                certificate_expires_at
         FROM machine
         WHERE ($1::text IS NULL OR (name, id) > ($1, $2)) AND (state <> 'evicted' OR $3)
         ORDER BY name, id LIMIT $4",
        name,
        id.map(MachineId::as_uuid),
        evicted,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Machine::try_from)
    .collect()
}

pub(in crate::identity) async fn machine_named(
    connection: &mut PgConnection,
    named: &MachineRef,
) -> Result<Option<Machine>> {
    let (id, name) = parts(named);
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, agent_ids, server_names, session_generation, created_at,
                certificate_expires_at
         FROM machine WHERE id = $1 OR name = $2
         ORDER BY state = 'evicted', id DESC LIMIT 1",
        id,
        name,
    )
    .fetch_optional(connection)
    .await?
    .map(Machine::try_from)
    .transpose()
}

pub(in crate::identity) async fn machine_named_for_update(
    connection: &mut PgConnection,
    named: &MachineRef,
) -> Result<Option<Machine>> {
    let (id, name) = parts(named);
    // of the row alone, those who share it could keep a lock from us for ever
    sqlx::query!("LOCK TABLE machine IN EXCLUSIVE MODE")
        .execute(&mut *connection)
        .await?;
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, agent_ids, server_names, session_generation, created_at,
                certificate_expires_at
         FROM machine WHERE id = $1 OR name = $2
         ORDER BY state = 'evicted', id DESC LIMIT 1 FOR UPDATE",
        id,
        name,
    )
    .fetch_optional(connection)
    .await?
    .map(Machine::try_from)
    .transpose()
}

/// For a machine's own acts, which hold up nobody but itself.
pub(in crate::identity) async fn machine_for_update(
    connection: &mut PgConnection,
    id: MachineId,
) -> Result<Option<Machine>> {
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, agent_ids, server_names, session_generation, created_at,
                certificate_expires_at
         FROM machine WHERE id = $1 FOR UPDATE",
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?
    .map(Machine::try_from)
    .transpose()
}

fn parts(named: &MachineRef) -> (Option<Uuid>, Option<&str>) {
    match named {
        MachineRef::Id(id) => (Some(id.as_uuid()), None),
        MachineRef::Name(name) => (None, Some(name.as_str())),
    }
}

pub(in crate::identity) async fn machines(
    connection: &mut PgConnection,
    ids: &[MachineId],
) -> Result<Vec<Machine>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, agent_ids, server_names, session_generation, created_at,
                certificate_expires_at
         FROM machine WHERE id = ANY ($1)",
        &ids,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Machine::try_from)
    .collect()
}

pub(in crate::identity) async fn machines_for_share(
    connection: &mut PgConnection,
    ids: &[MachineId],
) -> Result<Vec<Machine>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    sqlx::query_as!(
        MachineRow,
        "SELECT id, name, state, max_zone, agent_ids, server_names, session_generation, created_at,
                certificate_expires_at
         FROM machine WHERE id = ANY ($1) ORDER BY id FOR SHARE",
        &ids,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Machine::try_from)
    .collect()
}

/// Whether a machine has this name.
pub(in crate::identity) async fn name_is_taken(
    connection: &mut PgConnection,
    name: &str,
) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM machine WHERE name = $1 AND state <> 'evicted') AS "taken!""#,
        name,
    )
    .fetch_one(connection)
    .await?)
}

pub(in crate::identity) async fn count_machines(connection: &mut PgConnection) -> Result<i64> {
    Ok(
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM machine WHERE state = 'active'"#)
            .fetch_one(connection)
            .await?,
    )
}

/// Those whose calls are not simply good.
pub(in crate::identity) async fn standings(connection: &mut PgConnection) -> Result<Standings> {
    let rows = sqlx::query!(
        "SELECT id, state, session_generation FROM machine
         WHERE state <> 'active' OR session_generation > 0"
    )
    .fetch_all(&mut *connection)
    .await?;
    let machines: Result<Standings> = rows
        .into_iter()
        .map(|row| {
            let standing = Standing {
                state: state(&row.state)?,
                session_generation: row.session_generation,
            };
            Ok((MachineId::from_uuid(row.id), standing))
        })
        .collect();
    let restored_epoch = crate::events::epoch::restored_epoch(connection).await?;
    Ok(machines?.since(restored_epoch))
}

pub(in crate::identity) async fn insert_machine(
    connection: &mut PgConnection,
    machine: &Machine,
    public_key: &[u8],
) -> Result<()> {
    let (agent_ids, server_names) = columns(&machine.terms);
    sqlx::query!(
        "INSERT INTO machine (id, name, state, max_zone, agent_ids, server_names, public_key, created_at,
             certificate_expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        machine.id.as_uuid(),
        machine.name,
        machine.state.as_str(),
        machine.terms.max_zone.as_str(),
        agent_ids.as_deref(),
        &server_names,
        public_key,
        machine.created_at,
        machine.certificate_expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what operators change.
pub(in crate::identity) async fn update_machine(
    connection: &mut PgConnection,
    machine: &Machine,
) -> Result<()> {
    let (agent_ids, server_names) = columns(&machine.terms);
    let updated = sqlx::query!(
        "UPDATE machine
         SET state = $2, max_zone = $3, agent_ids = $4, server_names = $5, session_generation = $6
         WHERE id = $1",
        machine.id.as_uuid(),
        machine.state.as_str(),
        machine.terms.max_zone.as_str(),
        agent_ids.as_deref(),
        &server_names,
        machine.session_generation,
    )
    .execute(connection)
    .await?;
    if updated.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Error::internal(format!("machine {} is gone", machine.id)))
    }
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

/// Agents and server names as stored.
pub(super) fn columns(terms: &Terms) -> (Option<Vec<String>>, Vec<String>) {
    let agent_ids = match &terms.agents {
        Serves::Any => None,
        Serves::Only(agents) => Some(agents.iter().map(ToString::to_string).collect()),
    };
    let names = terms.server_names.iter();
    (
        agent_ids,
        names.map(|name| name.as_str().to_owned()).collect(),
    )
}

/// Terms from their columns, of machines and of join tokens.
pub(super) fn terms(
    max_zone: &str,
    agent_ids: Option<&[String]>,
    server_names: &[String],
) -> Result<Terms> {
    let agents = agent_ids.map(|agents| {
        let agents = agents.iter().map(|agent| agent.parse::<AgentId>());
        agents.collect::<std::result::Result<_, _>>()
    });
    let names = server_names.iter().map(|name| ServerName::parse(name));
    Ok(Terms {
        max_zone: Zone::parse(max_zone).ok_or_else(|| unreadable("max_zone"))?,
        agents: match agents {
            None => Serves::Any,
            Some(agents) => Serves::Only(agents.map_err(|_| unreadable("agent_ids"))?),
        },
        server_names: names
            .collect::<Result<_>>()
            .map_err(|_| unreadable("server_names"))?,
    })
}

fn state(text: &str) -> Result<MachineState> {
    MachineState::parse(text).ok_or_else(|| unreadable("machine.state"))
}
