//! Outcomes of requests, by the batch.

use std::collections::{HashMap, HashSet};

use authguardian_proto::ids::GrantId;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::unreadable;
use crate::{
    db::request::RequestKey,
    error::{Error, Result},
    grants::{Revoked, request::KeptOutcome},
};

/// A request's key without its digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::grants) struct KeyRef {
    principal: String,
    request_id: String,
}

impl KeyRef {
    pub(in crate::grants) fn of(key: &RequestKey) -> Self {
        Self {
            principal: key.principal.clone(),
            request_id: key.request_id.to_string(),
        }
    }
}

/// Digest and outcome of requests that were served before.
type Kept<T> = HashMap<KeyRef, ([u8; 32], T)>;

pub(in crate::grants) async fn kept_outcomes(
    connection: &mut PgConnection,
    keys: &[&RequestKey],
) -> Result<Kept<KeptOutcome>> {
    kept(connection, keys).await
}

pub(in crate::grants) async fn kept_revocations(
    connection: &mut PgConnection,
    keys: &[&RequestKey],
) -> Result<Kept<Revoked>> {
    kept(connection, keys).await
}

/// All keys of a batch are of one method.
#[tracing::instrument(name = "db.request_outcome.read", skip_all)]
async fn kept<T: DeserializeOwned>(
    connection: &mut PgConnection,
    keys: &[&RequestKey],
) -> Result<Kept<T>> {
    let Some(method) = keys.first().map(|key| key.method) else {
        return Ok(HashMap::new());
    };
    let principals: Vec<String> = keys.iter().map(|key| key.principal.clone()).collect();
    let request_ids: Vec<String> = keys.iter().map(|key| key.request_id.to_string()).collect();
    let rows = sqlx::query!(
        r#"SELECT principal, request_id, digest, outcome AS "outcome: Json<serde_json::Value>"
           FROM request_outcome
           JOIN (SELECT DISTINCT * FROM unnest($2::text[], $3::text[])) AS wanted (principal, request_id)
                USING (principal, request_id)
           WHERE method = $1"#,
        method,
        &principals,
        &request_ids,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let digest = row
                .digest
                .try_into()
                .map_err(|_| unreadable("request_outcome.digest"))?;
            let outcome = serde_json::from_value(row.outcome.0).map_err(Error::internal)?;
            Ok((
                KeyRef {
                    principal: row.principal,
                    request_id: row.request_id,
                },
                (digest, outcome),
            ))
        })
        .collect()
}

/// Takes request ids; returns the grants whose outcomes took theirs. Of equal keys the first wins; one that another transaction is just
/// taking is waited for and left to it.
pub(in crate::grants) async fn claim(
    connection: &mut PgConnection,
    claims: &[(&RequestKey, KeptOutcome)],
    now: OffsetDateTime,
) -> Result<HashSet<GrantId>> {
    insert_outcomes(connection, claims, now).await
}

pub(in crate::grants) async fn claim_revocations(
    connection: &mut PgConnection,
    claims: &[(&RequestKey, Revoked)],
    now: OffsetDateTime,
) -> Result<()> {
    insert_outcomes(connection, claims, now).await?;
    Ok(())
}

#[tracing::instrument(name = "db.request_outcome.claim", skip_all)]
async fn insert_outcomes<T: Serialize>(
    connection: &mut PgConnection,
    claims: &[(&RequestKey, T)],
    now: OffsetDateTime,
) -> Result<HashSet<GrantId>> {
    let Some(method) = claims.first().map(|(key, _)| key.method) else {
        return Ok(HashSet::new());
    };
    let mut principals = Vec::with_capacity(claims.len());
    let mut request_ids = Vec::with_capacity(claims.len());
    let mut digests = Vec::with_capacity(claims.len());
    let mut outcomes = Vec::with_capacity(claims.len());
    for (key, outcome) in claims {
        principals.push(key.principal.clone());
        request_ids.push(key.request_id.to_string());
        digests.push(key.digest.to_vec());
        outcomes.push(serde_json::to_value(outcome).map_err(Error::internal)?);
    }
    let taken = sqlx::query_scalar!(
        r#"INSERT INTO request_outcome (principal, method, request_id, digest, outcome, created_at)
           SELECT principal, $1, request_id, digest, outcome, $2
           FROM unnest($3::text[], $4::text[], $5::bytea[], $6::json[]) WITH ORDINALITY
                AS item (principal, request_id, digest, outcome, number)
           ORDER BY principal, request_id, number
           ON CONFLICT DO NOTHING
           RETURNING outcome->>'grant_id' AS "grant_id!""#,
        method,
        now,
        &principals,
        &request_ids,
        &digests,
        &outcomes[..],
    )
    .fetch_all(connection)
    .await?;
    taken
        .iter()
        .map(|id| {
            id.parse()
                .map_err(|_| unreadable("request_outcome.outcome"))
        })
        .collect()
}
