//! Join tokens.

use authguardian_proto::ids::{JoinTokenId, MachineId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    error::Result,
    identity::{JoinToken, join::StoredJoinToken},
};

pub(in crate::identity) async fn insert_join_token(
    connection: &mut PgConnection,
    token: &JoinToken,
    hash: &[u8; 32],
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO join_token (id, machine_name, secret_hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        token.id.as_uuid(),
        token.machine_name,
        &hash[..],
        token.created_at,
        token.expires_at,
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
        "SELECT id, machine_name, created_at, expires_at, used_at FROM join_token
         WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before.map(JoinTokenId::as_uuid),
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| JoinToken {
            id: JoinTokenId::from_uuid(row.id),
            machine_name: row.machine_name,
            created_at: row.created_at,
            expires_at: row.expires_at,
            used_at: row.used_at,
        })
        .collect())
}

pub(in crate::identity) async fn join_token_for_update(
    connection: &mut PgConnection,
    id: JoinTokenId,
) -> Result<Option<StoredJoinToken>> {
    let row = sqlx::query!(
        "SELECT machine_name, secret_hash, created_at, expires_at, used_at, machine_id, public_key
         FROM join_token WHERE id = $1 FOR UPDATE",
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| StoredJoinToken {
        info: JoinToken {
            id,
            machine_name: row.machine_name,
            created_at: row.created_at,
            expires_at: row.expires_at,
            used_at: row.used_at,
        },
        secret_hash: row.secret_hash,
        used_by: row.machine_id.map(MachineId::from_uuid).zip(row.public_key),
    }))
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
