//! Join tokens.

use authguardian_proto::ids::{JoinTokenId, MachineId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::machine::{columns, terms};
use crate::{
    error::Result,
    identity::{JoinToken, join::StoredJoinToken},
};

pub(in crate::identity) async fn insert_join_token(
    connection: &mut PgConnection,
    token: &JoinToken,
    hash: &[u8; 32],
) -> Result<()> {
    let (agent_ids, server_names) = columns(&token.terms);
    sqlx::query!(
        "INSERT INTO join_token (id, machine_name, secret_hash, created_at, expires_at, max_zone, agent_ids,
             server_names)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        token.id.as_uuid(),
        token.machine_name,
        &hash[..],
        token.created_at,
        token.expires_at,
        token.terms.max_zone.as_str(),
        agent_ids.as_deref(),
        &server_names,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(in crate::identity) async fn list_join_tokens(
    connection: &mut PgConnection,
    before: Option<JoinTokenId>,
    limit: i64,
) -> Result<Vec<JoinToken>> {
    let rows = sqlx::query!(
        "SELECT id, machine_name, created_at, expires_at, used_at, max_zone, agent_ids, server_names
         FROM join_token WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before.map(JoinTokenId::as_uuid),
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(JoinToken {
                id: JoinTokenId::from_uuid(row.id),
                machine_name: row.machine_name,
                terms: terms(&row.max_zone, row.agent_ids.as_deref(), &row.server_names)?,
                created_at: row.created_at,
                expires_at: row.expires_at,
                used_at: row.used_at,
            })
        })
        .collect()
}

pub(in crate::identity) async fn join_token_for_update(
    connection: &mut PgConnection,
    id: JoinTokenId,
) -> Result<Option<StoredJoinToken>> {
    let row = sqlx::query!(
        "SELECT machine_name, secret_hash, created_at, expires_at, used_at, machine_id, public_key, max_zone,
                agent_ids, server_names
         FROM join_token WHERE id = $1 FOR UPDATE",
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(StoredJoinToken {
            info: JoinToken {
                id,
                machine_name: row.machine_name,
                terms: terms(&row.max_zone, row.agent_ids.as_deref(), &row.server_names)?,
                created_at: row.created_at,
                expires_at: row.expires_at,
                used_at: row.used_at,
            },
            secret_hash: row.secret_hash,
            used_by: row.machine_id.map(MachineId::from_uuid).zip(row.public_key),
        })
    })
    .transpose()
}

pub(in crate::identity) async fn use_join_token(
    connection: &mut PgConnection,
    id: JoinTokenId,
    machine: MachineId,
    public_key: &[u8],
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "UPDATE join_token SET used_at = $2, machine_id = $3, public_key = $4 WHERE id = $1",
        id.as_uuid(),
        now,
        machine.as_uuid(),
        public_key,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks those that could still be used, used ones included: they can be repeated.
pub(in crate::identity) async fn lock_join_tokens(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "SELECT FROM join_token WHERE expires_at > $1 ORDER BY id FOR NO KEY UPDATE",
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends those that could still be used; returns how many.
pub(in crate::identity) async fn end_join_tokens(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<u64> {
    let done = sqlx::query!(
        "UPDATE join_token SET expires_at = $1 WHERE expires_at > $1",
        now,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
