//! API keys.

use authguardian_proto::ids::{AgentId, ApiKeyId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::unreadable;
use crate::{
    error::{Error, Result},
    identity::ApiKey,
};

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

pub(in crate::identity) async fn insert_api_key(
    connection: &mut PgConnection,
    key: &ApiKey,
) -> Result<()> {
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

pub(in crate::identity) async fn list_api_keys(
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

pub(in crate::identity) async fn api_key(
    connection: &mut PgConnection,
    id: ApiKeyId,
) -> Result<Option<ApiKey>> {
    Ok(api_keys_for_share(connection, &[id]).await?.pop())
}

#[tracing::instrument(name = "db.api_key.read", skip_all)]
pub(in crate::identity) async fn api_keys(
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
pub(in crate::identity) async fn api_keys_for_share(
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

pub(in crate::identity) async fn revoke_api_key(
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
