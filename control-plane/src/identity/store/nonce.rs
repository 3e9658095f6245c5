//! Login nonces.

use authguardian_proto::ids::{ApiKeyId, MachineId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{error::Result, identity::session::StoredNonce};

pub(in crate::identity) async fn insert_nonce(
    connection: &mut PgConnection,
    nonce: &[u8; 32],
    api_key: ApiKeyId,
    machine: MachineId,
    expires_at: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO login_nonce (nonce, api_key_id, machine_id, expires_at) VALUES ($1, $2, $3, $4)",
        &nonce[..],
        api_key.as_uuid(),
        machine.as_uuid(),
        expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks a nonce as used and tells what it was before; `None` when unknown.
pub(in crate::identity) async fn use_nonce(
    connection: &mut PgConnection,
    nonce: &[u8; 32],
    now: OffsetDateTime,
) -> Result<Option<StoredNonce>> {
    let row = sqlx::query!(
        r#"UPDATE login_nonce SET used_at = coalesce(login_nonce.used_at, $2)
           FROM (SELECT nonce, used_at FROM login_nonce WHERE nonce = $1 FOR UPDATE) AS before
           WHERE login_nonce.nonce = before.nonce
           RETURNING api_key_id, machine_id, expires_at, before.used_at IS NOT NULL AS "already_used!""#,
        &nonce[..],
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| StoredNonce {
        api_key_id: ApiKeyId::from_uuid(row.api_key_id),
        machine_id: MachineId::from_uuid(row.machine_id),
        expires_at: row.expires_at,
        already_used: row.already_used,
    }))
}

pub(in crate::identity) async fn delete_nonces(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM login_nonce WHERE nonce IN (
             SELECT nonce FROM login_nonce WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)",
        before,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
