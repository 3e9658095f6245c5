//! Admin tokens.

use authguardian_proto::ids::AdminTokenId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::unreadable;
use crate::{
    error::Result,
    identity::{AdminToken, Role},
};

struct AdminTokenRow {
    id: Uuid,
    name: String,
    secret_hash: Vec<u8>,
    role: String,
    created_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    revoked_at: Option<OffsetDateTime>,
}

impl AdminTokenRow {
    fn split(self) -> Result<(AdminToken, Vec<u8>)> {
        let info = AdminToken {
            id: AdminTokenId::from_uuid(self.id),
            name: self.name,
            role: Role::parse(&self.role).ok_or_else(|| unreadable("admin_token.role"))?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
        };
        Ok((info, self.secret_hash))
    }
}

pub(in crate::identity) async fn insert_admin_token(
    connection: &mut PgConnection,
    token: &AdminToken,
    hash: &[u8; 32],
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO admin_token (id, name, secret_hash, role, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
        token.id.as_uuid(),
        token.name,
        &hash[..],
        token.role.as_str(),
        token.created_at,
        token.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(in crate::identity) async fn list_admin_tokens(
    connection: &mut PgConnection,
    before: Option<AdminTokenId>,
    limit: i64,
) -> Result<Vec<AdminToken>> {
    sqlx::query_as!(
        AdminTokenRow,
        "SELECT id, name, secret_hash, role, created_at, expires_at, revoked_at FROM admin_token
         WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before.map(AdminTokenId::as_uuid),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok(row.split()?.0))
    .collect()
}

pub(in crate::identity) async fn admin_token(
    connection: &mut PgConnection,
    id: AdminTokenId,
) -> Result<Option<(AdminToken, Vec<u8>)>> {
    sqlx::query_as!(
        AdminTokenRow,
        "SELECT id, name, secret_hash, role, created_at, expires_at, revoked_at FROM admin_token WHERE id = $1",
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?
    .map(AdminTokenRow::split)
    .transpose()
}

pub(in crate::identity) async fn revoke_admin_token(
    connection: &mut PgConnection,
    id: AdminTokenId,
    now: OffsetDateTime,
) -> Result<Option<AdminToken>> {
    let row = sqlx::query_as!(
        AdminTokenRow,
        "UPDATE admin_token SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1
         RETURNING id, name, secret_hash, role, created_at, expires_at, revoked_at",
        id.as_uuid(),
        now,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok(row.split()?.0)).transpose()
}
