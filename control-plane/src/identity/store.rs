//! All SQL of identity.

use authguardian_proto::{
    ids::{AdminTokenId, AgentId, ApiKeyId, JoinTokenId, MachineId, SigningKeyId},
    zone::Zone,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    AdminToken, ApiKey, JoinToken, Machine, Role,
    join::StoredJoinToken,
    keyring::{Purpose, StoredKey},
    session::StoredNonce,
};
use crate::error::{Error, Result};

// --- our own keys

/// Held until the transaction ends, so that two control planes that start at
/// the same time do not both make keys.
pub(super) async fn lock_own_keys(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!("LOCK TABLE own_key IN SHARE ROW EXCLUSIVE MODE")
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn own_keys(connection: &mut PgConnection) -> Result<Vec<StoredKey>> {
    let rows = sqlx::query!("SELECT id, purpose, state, public, sealed FROM own_key ORDER BY id")
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            Ok(StoredKey {
                id: SigningKeyId::from_uuid(row.id),
                purpose: Purpose::ALL
                    .into_iter()
                    .find(|purpose| purpose.as_str() == row.purpose)
                    .ok_or_else(|| unreadable("own_key.purpose"))?,
                active: row.state == "active",
                public: row.public,
                sealed: row.sealed,
            })
        })
        .collect()
}

pub(super) async fn insert_own_key(
    connection: &mut PgConnection,
    id: SigningKeyId,
    purpose: Purpose,
    public: &[u8],
    sealed: &[u8],
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO own_key (id, purpose, state, public, sealed, created_at, activated_at)
         VALUES ($1, $2, 'active', $3, $4, $5, $5)",
        id.as_uuid(),
        purpose.as_str(),
        public,
        sealed,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

// --- machines

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

pub(super) async fn list_machines(
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

pub(super) async fn machine(
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

pub(super) async fn machine_by_name(
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

pub(super) async fn machine_for_share(
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

pub(super) async fn machines_for_share(
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

pub(super) async fn count_machines(connection: &mut PgConnection) -> Result<i64> {
    Ok(
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM machine WHERE state = 'active'"#)
            .fetch_one(connection)
            .await?,
    )
}

pub(super) async fn insert_machine(
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

pub(super) async fn set_machine_certificate(
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

// --- join tokens

pub(super) async fn insert_join_token(
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

pub(super) async fn list_join_tokens(
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

pub(super) async fn join_token_for_update(
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

pub(super) async fn use_join_token(
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

// --- API keys

struct ApiKeyRow {
    id: Uuid,
    name: String,
    public_key: Vec<u8>,
    agent_ids: Vec<String>,
    validator: bool,
    created_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    revoked_at: Option<OffsetDateTime>,
}

impl TryFrom<ApiKeyRow> for ApiKey {
    type Error = Error;

    fn try_from(row: ApiKeyRow) -> Result<Self> {
        Ok(Self {
            id: ApiKeyId::from_uuid(row.id),
            name: row.name,
            public_key: row
                .public_key
                .try_into()
                .map_err(|_| unreadable("api_key.public_key"))?,
            agent_ids: row
                .agent_ids
                .iter()
                .map(|agent| {
                    agent
                        .parse::<AgentId>()
                        .map_err(|_| unreadable("api_key.agent_ids"))
                })
                .collect::<Result<_>>()?,
            validator: row.validator,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
    }
}

pub(super) async fn insert_api_key(connection: &mut PgConnection, key: &ApiKey) -> Result<()> {
    let agent_ids: Vec<String> = key.agent_ids.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "INSERT INTO api_key (id, name, public_key, agent_ids, validator, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        key.id.as_uuid(),
        key.name,
        &key.public_key[..],
        &agent_ids,
        key.validator,
        key.created_at,
        key.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn list_api_keys(
    connection: &mut PgConnection,
    before: Option<ApiKeyId>,
    limit: i64,
) -> Result<Vec<ApiKey>> {
    sqlx::query_as!(
        ApiKeyRow,
        "SELECT id, name, public_key, agent_ids, validator, created_at, expires_at, revoked_at FROM api_key
         WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before.map(ApiKeyId::as_uuid),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(ApiKey::try_from)
    .collect()
}

pub(super) async fn api_key(connection: &mut PgConnection, id: ApiKeyId) -> Result<Option<ApiKey>> {
    Ok(api_keys_for_share(connection, &[id]).await?.pop())
}

#[tracing::instrument(name = "db.api_key.read", skip_all)]
pub(super) async fn api_keys(
    connection: &mut PgConnection,
    ids: &[ApiKeyId],
) -> Result<Vec<ApiKey>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    sqlx::query_as!(
        ApiKeyRow,
        "SELECT id, name, public_key, agent_ids, validator, created_at, expires_at, revoked_at FROM api_key
         WHERE id = ANY ($1)",
        &ids,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(ApiKey::try_from)
    .collect()
}

#[tracing::instrument(name = "db.api_key.lock", skip_all)]
pub(super) async fn api_keys_for_share(
    connection: &mut PgConnection,
    ids: &[ApiKeyId],
) -> Result<Vec<ApiKey>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    sqlx::query_as!(
        ApiKeyRow,
        "SELECT id, name, public_key, agent_ids, validator, created_at, expires_at, revoked_at FROM api_key
         WHERE id = ANY ($1) ORDER BY id FOR SHARE",
        &ids,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(ApiKey::try_from)
    .collect()
}

pub(super) async fn revoke_api_key(
    connection: &mut PgConnection,
    id: ApiKeyId,
    now: OffsetDateTime,
) -> Result<Option<ApiKey>> {
    sqlx::query_as!(
        ApiKeyRow,
        "UPDATE api_key SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1
         RETURNING id, name, public_key, agent_ids, validator, created_at, expires_at, revoked_at",
        id.as_uuid(),
        now,
    )
    .fetch_optional(connection)
    .await?
    .map(ApiKey::try_from)
    .transpose()
}

// --- nonces

pub(super) async fn insert_nonce(
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
pub(super) async fn use_nonce(
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

pub(super) async fn delete_nonces(
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

// --- admins

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

pub(super) async fn insert_admin_token(
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

pub(super) async fn list_admin_tokens(
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

pub(super) async fn admin_token(
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

pub(super) async fn revoke_admin_token(
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

fn unreadable(column: &str) -> Error {
    Error::internal(format!("unreadable value in `{column}`"))
}
