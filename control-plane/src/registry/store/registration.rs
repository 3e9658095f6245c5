//! Registrations.

use std::collections::{BTreeMap, HashSet};

use authguardian_proto::{
    capability::Capability,
    ids::{AgentId, ApiKeyId, MachineId},
    zone::Zone,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{edge::peer_address, liveness, texts, unreadable};
use crate::{
    error::{Error, Result},
    registry::{Registration, fate::Fate},
};

struct RegistrationRow {
    agent_id: String,
    epoch: i64,
    machine_id: Uuid,
    api_key_id: Uuid,
    endpoint: Option<String>,
    capabilities: Json<Vec<Capability>>,
    labels: Json<BTreeMap<String, String>>,
    trust: i32,
    trust_asked: Option<i32>,
    zone: String,
    ttl_seconds: i32,
    own_liveness: i16,
    liveness: i16,
    ended: bool,
    last_seen: OffsetDateTime,
    registered_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    peer_address: Option<String>,
}

impl TryFrom<RegistrationRow> for Registration {
    type Error = Error;

    fn try_from(row: RegistrationRow) -> Result<Self> {
        Ok(Self {
            agent_id: row.agent_id.parse().map_err(Error::internal)?,
            epoch: row.epoch,
            machine_id: MachineId::from_uuid(row.machine_id),
            api_key_id: ApiKeyId::from_uuid(row.api_key_id),
            endpoint: row
                .endpoint
                .map(|url| url.parse().map_err(|_| unreadable("endpoint")))
                .transpose()?,
            capabilities: row.capabilities.0,
            labels: row.labels.0,
            trust: row.trust.unsigned_abs(), // a constraint of the table keeps these positive
            trust_asked: row.trust_asked.map(i32::unsigned_abs),
            zone: Zone::parse(&row.zone).ok_or_else(|| unreadable("zone"))?,
            ttl_seconds: row.ttl_seconds.unsigned_abs(),
            own_liveness: liveness(row.own_liveness)?,
            liveness: liveness(row.liveness)?,
            ended: row.ended,
            last_seen: row.last_seen,
            registered_at: row.registered_at,
            updated_at: row.updated_at,
            peer_address: peer_address(row.peer_address)?,
        })
    }
}

fn read(rows: Vec<RegistrationRow>) -> Result<Vec<Registration>> {
    rows.into_iter().map(Registration::try_from).collect()
}

/// Registrations of these agents, and of these machines, by agent.
#[tracing::instrument(name = "db.registration.read", skip_all)]
pub(in crate::registry) async fn registrations(
    connection: &mut PgConnection,
    agents: &[AgentId],
    machines: &[Uuid],
) -> Result<Vec<Registration>> {
    let rows = sqlx::query_as!(
        RegistrationRow,
        r#"SELECT r.agent_id, r.epoch, r.machine_id, r.api_key_id, r.endpoint,
                  r.capabilities AS "capabilities: Json<Vec<Capability>>",
                  r.labels AS "labels: Json<BTreeMap<String, String>>",
                  r.trust, r.trust_asked, r.zone, r.ttl_seconds, r.own_liveness, r.liveness, r.ended,
                  CASE WHEN r.own_liveness = 0 AND NOT r.ended THEN greatest(r.vouched_at, edge.seen_at)
                       ELSE r.vouched_at END AS "last_seen!",
                  r.registered_at, r.updated_at, edge.peer_address AS "peer_address?"
           FROM agent_registration AS r LEFT JOIN edge ON edge.machine_id = r.machine_id
           WHERE r.agent_id = ANY ($1) OR r.machine_id = ANY ($2)
           ORDER BY r.agent_id"#,
        &texts(agents),
        machines,
    )
    .fetch_all(connection)
    .await?;
    read(rows)
}

/// The same, locked until the transaction ends; who locks edges as well, locks
/// them first.
#[tracing::instrument(name = "db.registration.lock", skip_all)]
pub(in crate::registry) async fn lock_registrations(
    connection: &mut PgConnection,
    agents: &[AgentId],
    machines: &[Uuid],
) -> Result<Vec<Registration>> {
    let rows = sqlx::query_as!(
        RegistrationRow,
        r#"SELECT r.agent_id, r.epoch, r.machine_id, r.api_key_id, r.endpoint,
                  r.capabilities AS "capabilities: Json<Vec<Capability>>",
                  r.labels AS "labels: Json<BTreeMap<String, String>>",
                  r.trust, r.trust_asked, r.zone, r.ttl_seconds, r.own_liveness, r.liveness, r.ended,
                  CASE WHEN r.own_liveness = 0 AND NOT r.ended THEN greatest(r.vouched_at, edge.seen_at)
                       ELSE r.vouched_at END AS "last_seen!",
                  r.registered_at, r.updated_at, edge.peer_address AS "peer_address?"
           FROM agent_registration AS r LEFT JOIN edge ON edge.machine_id = r.machine_id
           WHERE r.agent_id = ANY ($1) OR r.machine_id = ANY ($2)
           ORDER BY r.agent_id FOR UPDATE OF r"#,
        &texts(agents),
        machines,
    )
    .fetch_all(connection)
    .await?;
    read(rows)
}

/// Until the transaction ends, nobody else changes what is said of this agent.
pub(in crate::registry) async fn lock_agent_id(
    connection: &mut PgConnection,
    agent: &AgentId,
) -> Result<()> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))",
        agent.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// Until the transaction ends, nobody else registers an agent by this key; who
/// locks an agent's id as well, locks that first.
pub(in crate::registry) async fn lock_key_of_registrations(
    connection: &mut PgConnection,
    key: ApiKeyId,
) -> Result<()> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 2))",
        key.to_string()
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// How many registrations a key has, counted up to `most`.
pub(in crate::registry) async fn count_of_key(
    connection: &mut PgConnection,
    key: ApiKeyId,
    most: u32,
) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
               SELECT FROM agent_registration WHERE api_key_id = $1 AND NOT ended LIMIT $2) AS counted"#,
        key.as_uuid(),
        i64::from(most),
    )
    .fetch_one(connection)
    .await?)
}

/// How many registrations a machine has, counted up to `most`.
pub(in crate::registry) async fn count_of_machine(
    connection: &mut PgConnection,
    machine: MachineId,
    most: u32,
) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
               SELECT FROM agent_registration WHERE machine_id = $1 LIMIT $2) AS counted"#,
        machine.as_uuid(),
        i64::from(most),
    )
    .fetch_one(connection)
    .await?)
}

/// Writes a registration whole; its agent's id is locked.
#[tracing::instrument(name = "db.registration.put", skip_all)]
pub(in crate::registry) async fn put_registration(
    connection: &mut PgConnection,
    put: &Registration,
) -> Result<()> {
    let number = |value: u32| i32::try_from(value).map_err(Error::internal);
    sqlx::query!(
        "INSERT INTO agent_registration (
             agent_id, epoch, machine_id, api_key_id, endpoint, capabilities, labels, trust, trust_asked, zone,
             ttl_seconds, own_liveness, liveness, ended, vouched_at, registered_at, updated_at, gone_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, NULL)
         ON CONFLICT (agent_id) DO UPDATE SET
             epoch = excluded.epoch, machine_id = excluded.machine_id, api_key_id = excluded.api_key_id,
             endpoint = excluded.endpoint, capabilities = excluded.capabilities, labels = excluded.labels,
             trust = excluded.trust, trust_asked = excluded.trust_asked, zone = excluded.zone,
             ttl_seconds = excluded.ttl_seconds, own_liveness = excluded.own_liveness,
             liveness = excluded.liveness, ended = excluded.ended, vouched_at = excluded.vouched_at,
             registered_at = excluded.registered_at, updated_at = excluded.updated_at, gone_at = NULL",
        put.agent_id.as_str(),
        put.epoch,
        put.machine_id.as_uuid(),
        put.api_key_id.as_uuid(),
        put.endpoint.as_ref().map(ToString::to_string),
        Json(&put.capabilities) as _,
        Json(&put.labels) as _,
        number(put.trust)?,
        put.trust_asked.map(number).transpose()?,
        put.zone.as_str(),
        number(put.ttl_seconds)?,
        put.own_liveness.number(),
        put.liveness.number(),
        put.ended,
        put.last_seen,
        put.registered_at,
        put.updated_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes how far a registered agent is trusted, for its terms as well.
#[tracing::instrument(name = "db.registration.trust", skip_all)]
pub(in crate::registry) async fn set_trust(
    connection: &mut PgConnection,
    agent: &AgentId,
    trust: u32,
) -> Result<()> {
    sqlx::query!(
        "WITH trusted AS (
             UPDATE agent_registration SET trust = $2 WHERE agent_id = $1 RETURNING agent_id, distrust
         )
         UPDATE agent_term SET distrust = trusted.distrust FROM trusted
         WHERE agent_term.agent_id = trusted.agent_id",
        agent.as_str(),
        i32::try_from(trust).map_err(Error::internal)?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what has become of registrations, for their terms as well; passes over
/// those that are of another epoch by now. Returns the agents that are judged.
/// Who judges those of a machine has its edge locked.
#[tracing::instrument(name = "db.registration.judge", skip_all)]
pub(in crate::registry) async fn judge_registrations(
    connection: &mut PgConnection,
    judged: &[(&Registration, Fate)],
    now: OffsetDateTime,
) -> Result<HashSet<AgentId>> {
    let agents: Vec<&str> = judged
        .iter()
        .map(|(one, _)| one.agent_id.as_str())
        .collect();
    let epochs: Vec<i64> = judged.iter().map(|(one, _)| one.epoch).collect();
    let fates = || judged.iter().map(|(_, fate)| fate);
    let own: Vec<i16> = fates().map(|fate| fate.own_liveness.number()).collect();
    let livenesses: Vec<i16> = fates().map(|fate| fate.liveness.number()).collect();
    let ended: Vec<bool> = fates().map(|fate| fate.ended).collect();
    let vouched: Vec<OffsetDateTime> = fates().map(|fate| fate.vouched_at).collect();
    sqlx::query_scalar!(
        r#"WITH judged AS (
               UPDATE agent_registration AS r
               SET own_liveness = item.own_liveness, liveness = item.liveness, ended = item.ended,
                   vouched_at = item.vouched_at,
                   gone_at = CASE WHEN item.liveness = 2 THEN coalesce(r.gone_at, $7) END
               FROM unnest($1::text[], $2::bigint[], $3::smallint[], $4::smallint[], $5::boolean[], $6::timestamptz[])
                    AS item (agent_id, epoch, own_liveness, liveness, ended, vouched_at)
               WHERE r.agent_id = item.agent_id AND r.epoch = item.epoch
               RETURNING r.agent_id, r.liveness
           ), terms AS (
               UPDATE agent_term SET liveness = judged.liveness FROM judged
               WHERE agent_term.agent_id = judged.agent_id AND agent_term.liveness <> judged.liveness
           )
           SELECT agent_id AS "agent_id!" FROM judged"#,
        &agents as _,
        &epochs,
        &own,
        &livenesses,
        &ended,
        &vouched,
        now,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|id| id.parse().map_err(Error::internal))
    .collect()
}

/// Takes a registration out; its row is locked.
#[tracing::instrument(name = "db.registration.delete", skip_all)]
pub(in crate::registry) async fn delete_registration(
    connection: &mut PgConnection,
    agent: &AgentId,
) -> Result<()> {
    sqlx::query!(
        "WITH gone AS (DELETE FROM agent_registration WHERE agent_id = $1)
         DELETE FROM agent_term WHERE agent_id = $1",
        agent.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Those of these agents that are registered, or that operators say something of.
#[tracing::instrument(name = "db.registration.known", skip_all)]
pub(in crate::registry) async fn known_among(
    connection: &mut PgConnection,
    agents: &[AgentId],
) -> Result<HashSet<AgentId>> {
    sqlx::query_scalar!(
        r#"SELECT agent_id AS "agent_id!" FROM agent_registration WHERE agent_id = ANY ($1)
           UNION SELECT id FROM agent WHERE id = ANY ($1)"#,
        &texts(agents),
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|id| id.parse().map_err(Error::internal))
    .collect()
}
