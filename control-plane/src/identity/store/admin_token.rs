//! Admin tokens and certificates.

use std::collections::HashSet;

use authguardian_proto::ids::{AdminTokenId, SigningKeyId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::unreadable;
use crate::{
    error::Result,
    identity::{AdminToken, Role, ca::CA_LIFETIME},
};

/// What a credential is checked against.
pub(in crate::identity) enum Proof {
    /// SHA-256 of a token's secret.
    Token(Vec<u8>),
    /// `SubjectPublicKeyInfo` of a certificate.
    Certificate(Vec<u8>),
}

struct AdminTokenRow {
    id: Uuid,
    name: String,
    secret_hash: Option<Vec<u8>>,
    public_key: Option<Vec<u8>>,
    role: String,
    created_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    revoked_at: Option<OffsetDateTime>,
}

impl AdminTokenRow {
    fn split(self) -> Result<(AdminToken, Proof)> {
        let proof = match (self.secret_hash, self.public_key) {
            (Some(hash), None) => Proof::Token(hash),
            (None, Some(key)) => Proof::Certificate(key),
            _ => return Err(unreadable("admin_token.secret_hash")),
        };
        let info = AdminToken {
            id: AdminTokenId::from_uuid(self.id),
            name: self.name,
            role: Role::parse(&self.role).ok_or_else(|| unreadable("admin_token.role"))?,
            certificate: matches!(proof, Proof::Certificate(_)),
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
        };
        Ok((info, proof))
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

pub(in crate::identity) async fn insert_admin_certificate(
    connection: &mut PgConnection,
    info: &AdminToken,
    public_key: &[u8],
    ca: SigningKeyId,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO admin_token (id, name, public_key, certified_by, role, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        info.id.as_uuid(),
        info.name,
        public_key,
        ca.as_uuid(),
        info.role.as_str(),
        info.created_at,
        info.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps others from making or ending credentials until the transaction ends.
pub(in crate::identity) async fn lock_admin_tokens(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!("LOCK TABLE admin_token IN SHARE ROW EXCLUSIVE MODE")
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether there is a good credential of the highest role; a certificate is
/// one only while its CA counts.
pub(in crate::identity) async fn has_admin(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM admin_token
               WHERE role = 'admin' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)
                 AND (public_key IS NULL OR EXISTS (
                     SELECT FROM own_key
                     WHERE own_key.id = certified_by AND dropped_at IS NULL AND own_key.created_at > $2))
           ) AS "exists!""#,
        now,
        now - CA_LIFETIME,
    )
    .fetch_one(connection)
    .await?)
}

/// Those of these credentials that count.
#[tracing::instrument(name = "db.admin_token.good", skip_all)]
pub(in crate::identity) async fn good_admins(
    connection: &mut PgConnection,
    ids: &[AdminTokenId],
    now: OffsetDateTime,
) -> Result<HashSet<AdminTokenId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    let good = sqlx::query_scalar!(
        "SELECT id FROM admin_token
         WHERE id = ANY ($1) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
        &ids,
        now,
    )
    .fetch_all(connection)
    .await?;
    Ok(good.into_iter().map(AdminTokenId::from_uuid).collect())
}

pub(in crate::identity) async fn list_admin_tokens(
    connection: &mut PgConnection,
    before: Option<AdminTokenId>,
    limit: i64,
) -> Result<Vec<AdminToken>> {
    sqlx::query_as!(
        AdminTokenRow,
        "SELECT id, name, secret_hash, public_key, role, created_at, expires_at, revoked_at FROM admin_token
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
) -> Result<Option<(AdminToken, Proof)>> {
    sqlx::query_as!(
        AdminTokenRow,
        "SELECT id, name, secret_hash, public_key, role, created_at, expires_at, revoked_at FROM admin_token WHERE id = $1",
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
         RETURNING id, name, secret_hash, public_key, role, created_at, expires_at, revoked_at",
        id.as_uuid(),
        now,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok(row.split()?.0)).transpose()
}
