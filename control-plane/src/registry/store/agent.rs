//! What operators say about agents.

use std::collections::HashMap;

use authguardian_proto::ids::AgentId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::error::{Error, Result};
use crate::registry::agent::{Agent, PutAgent};

struct AgentRow {
    id: String,
    trust: i32,
    description: String,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl TryFrom<AgentRow> for Agent {
    type Error = Error;

    fn try_from(row: AgentRow) -> Result<Self> {
        Ok(Self {
            id: row.id.parse().map_err(Error::internal)?,
            trust: row.trust.unsigned_abs(), // a constraint of the table keeps it positive
            description: row.description,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

pub(in crate::registry) async fn put_agent(
    connection: &mut PgConnection,
    put: &PutAgent,
    now: OffsetDateTime,
) -> Result<Agent> {
    sqlx::query_as!(
        AgentRow,
        "INSERT INTO agent (id, trust, description, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT (id) DO UPDATE SET
             trust = excluded.trust, description = excluded.description, updated_at = excluded.updated_at
         RETURNING id, trust, description, created_at, updated_at",
        put.id.as_str(),
        i32::try_from(put.trust).map_err(Error::internal)?,
        put.description,
        now,
    )
    .fetch_one(connection)
    .await?
    .try_into()
}

pub(in crate::registry) async fn trust_of(
    connection: &mut PgConnection,
    ids: &[AgentId],
) -> Result<HashMap<AgentId, u32>> {
    let rows = sqlx::query!(
        "SELECT id, trust FROM agent WHERE id = ANY ($1)",
        &super::texts(ids)
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let id = row.id.parse().map_err(Error::internal)?;
            Ok((id, row.trust.unsigned_abs()))
        })
        .collect()
}

pub(in crate::registry) async fn agent(
    connection: &mut PgConnection,
    id: &AgentId,
) -> Result<Option<Agent>> {
    sqlx::query_as!(
        AgentRow,
        "SELECT id, trust, description, created_at, updated_at FROM agent WHERE id = $1",
        id.as_str(),
    )
    .fetch_optional(connection)
    .await?
    .map(Agent::try_from)
    .transpose()
}

pub(in crate::registry) async fn list_agents(
    connection: &mut PgConnection,
    after: Option<&AgentId>,
    limit: i64,
) -> Result<Vec<Agent>> {
    sqlx::query_as!(
        AgentRow,
        "SELECT id, trust, description, created_at, updated_at FROM agent WHERE id > $1 ORDER BY id LIMIT $2",
        after.map_or("", AgentId::as_str),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Agent::try_from)
    .collect()
}

pub(in crate::registry) async fn count_agents(connection: &mut PgConnection) -> Result<i64> {
    Ok(
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM agent"#)
            .fetch_one(connection)
            .await?,
    )
}

pub(in crate::registry) async fn agents_for_share(
    connection: &mut PgConnection,
    ids: &[AgentId],
) -> Result<Vec<Agent>> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    sqlx::query_as!(
        AgentRow,
        "SELECT id, trust, description, created_at, updated_at
         FROM agent WHERE id = ANY ($1) ORDER BY id FOR SHARE",
        &ids,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(Agent::try_from)
    .collect()
}

/// Whether it was there.
pub(in crate::registry) async fn delete_agent(
    connection: &mut PgConnection,
    id: &AgentId,
) -> Result<bool> {
    let deleted = sqlx::query!("DELETE FROM agent WHERE id = $1", id.as_str())
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected() == 1)
}
