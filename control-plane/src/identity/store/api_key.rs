//! API keys.

use std::collections::BTreeMap;

use authguardian_proto::{
    ids::{AgentId, ApiKeyId},
    network::Network,
    rate::{RateLimit, RateLimits},
};
use sqlx::{PgConnection, types::Json};
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
    rate_per_second: Option<i32>,
    rate_burst: Option<i32>,
    tool_rates: Json<BTreeMap<String, RateLimit>>,
    allowed_networks: Vec<String>,
}

impl TryFrom<ApiKeyRow> for ApiKey {
    type Error = Error;

    fn try_from(row: ApiKeyRow) -> Result<Self> {
        let all = row
            .rate_per_second
            .zip(row.rate_burst)
            .map(|(per_second, burst)| RateLimit {
                per_second: per_second.unsigned_abs(),
                burst: burst.unsigned_abs(),
            });
        let allowed_networks = row
            .allowed_networks
            .iter()
            .map(|network| network.parse::<Network>())
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| unreadable("api_key.allowed_networks"))?;
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
            rate_limits: RateLimits {
                all,
                tools: row.tool_rates.0,
            },
            allowed_networks,
        })
    }
}

/// A key's limits as its columns hold them.
struct Limits {
    per_second: Option<i32>,
    burst: Option<i32>,
    tools: serde_json::Value,
    networks: Vec<String>,
}

impl Limits {
    fn of(key: &ApiKey) -> Result<Self> {
        let all = key.rate_limits.all;
        Ok(Self {
            per_second: all.map(|limit| limit.per_second.cast_signed()),
            burst: all.map(|limit| limit.burst.cast_signed()),
            tools: serde_json::to_value(&key.rate_limits.tools).map_err(Error::internal)?,
            networks: key
                .allowed_networks
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
    }
}

pub(in crate::identity) async fn insert_api_key(
    connection: &mut PgConnection,
    key: &ApiKey,
) -> Result<()> {
    let limits = Limits::of(key)?;
    let agent_ids: Vec<String> = key.agent_ids.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "INSERT INTO api_key (id, name, public_key, agent_ids, validator, created_at, expires_at,
                              rate_per_second, rate_burst, tool_rates, allowed_networks)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        key.id.as_uuid(),
        key.name,
        &key.public_key[..],
        &agent_ids,
        key.validator,
        key.created_at,
        key.expires_at,
        limits.per_second,
        limits.burst,
        limits.tools,
        &limits.networks,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the limits of a key that is locked.
pub(in crate::identity) async fn update_api_key(
    connection: &mut PgConnection,
    key: &ApiKey,
) -> Result<()> {
    let limits = Limits::of(key)?;
    sqlx::query!(
        "UPDATE api_key SET rate_per_second = $2, rate_burst = $3, tool_rates = $4, allowed_networks = $5
         WHERE id = $1",
        key.id.as_uuid(),
        limits.per_second,
        limits.burst,
        limits.tools,
        &limits.networks,
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
        r#"SELECT id, name, public_key, agent_ids, validator, created_at, expires_at, revoked_at,
             rate_per_second, rate_burst, tool_rates AS "tool_rates: Json<BTreeMap<String, RateLimit>>", allowed_networks FROM api_key
         WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2"#,
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

pub(in crate::identity) async fn api_key_for_update(
    connection: &mut PgConnection,
    id: ApiKeyId,
) -> Result<Option<ApiKey>> {
    lock_table(&mut *connection).await?;
    sqlx::query_as!(
        ApiKeyRow,
        r#"SELECT id, name, public_key, agent_ids, validator, created_at, expires_at, revoked_at,
             rate_per_second, rate_burst, tool_rates AS "tool_rates: Json<BTreeMap<String, RateLimit>>", allowed_networks FROM api_key
         WHERE id = $1 FOR UPDATE"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?
    .map(ApiKey::try_from)
    .transpose()
}

#[tracing::instrument(name = "db.api_key.read", skip_all)]
pub(in crate::identity) async fn api_keys(
    connection: &mut PgConnection,
    ids: &[ApiKeyId],
) -> Result<Vec<ApiKey>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    sqlx::query_as!(
        ApiKeyRow,
        r#"SELECT id, name, public_key, agent_ids, validator, created_at, expires_at, revoked_at,
             rate_per_second, rate_burst, tool_rates AS "tool_rates: Json<BTreeMap<String, RateLimit>>", allowed_networks FROM api_key
         WHERE id = ANY ($1)"#,
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
        r#"SELECT id, name, public_key, agent_ids, validator, created_at, expires_at, revoked_at,
             rate_per_second, rate_burst, tool_rates AS "tool_rates: Json<BTreeMap<String, RateLimit>>", allowed_networks FROM api_key
         WHERE id = ANY ($1) ORDER BY id FOR SHARE"#,
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
    lock_table(&mut *connection).await?;
    sqlx::query_as!(
        ApiKeyRow,
        r#"UPDATE api_key SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1
         RETURNING id, name, public_key, agent_ids, validator, created_at, expires_at, revoked_at,
             rate_per_second, rate_burst, tool_rates AS "tool_rates: Json<BTreeMap<String, RateLimit>>", allowed_networks"#,
        id.as_uuid(),
        now,
    )
    .fetch_optional(connection)
    .await?
    .map(ApiKey::try_from)
    .transpose()
}

/// Waits for those who share keys, and lets no more of them in: of a row alone,
/// they could keep a lock from us for ever.
async fn lock_table(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!("LOCK TABLE api_key IN EXCLUSIVE MODE")
        .execute(connection)
        .await?;
    Ok(())
}
