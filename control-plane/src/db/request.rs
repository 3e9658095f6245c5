//! Idempotent requests: the first outcome of a (principal, method, request id)
//! is stored with the act itself and told again to every repeat, for 24 h.

use std::collections::{HashMap, HashSet};

use authguardian_proto::{
    credential::sha256,
    ids::RequestId,
    reason::{Problem, Reason},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, Postgres, Transaction, types::Json};
use time::OffsetDateTime;

use super::Db;
use crate::error::{Error, Result};

/// How long outcomes are kept.
pub const KEPT: time::Duration = time::Duration::hours(24);

/// What makes a request the same request.
#[derive(Debug, Clone)]
pub struct RequestKey {
    /// Whose: `apk_…` or `adm_…`.
    pub principal: String,
    /// Which RPC, such as `grants.request_permission`.
    pub method: &'static str,
    /// The caller's id for it.
    pub request_id: RequestId,
    /// SHA-256 of what was asked.
    pub digest: [u8; 32],
}

impl RequestKey {
    /// Digests what was asked, so that a different request under the same id
    /// is told apart.
    ///
    /// # Errors
    /// When `request` cannot be written as JSON.
    pub fn new(
        principal: String,
        method: &'static str,
        request_id: RequestId,
        request: &impl Serialize,
    ) -> Result<Self> {
        let text = serde_json::to_vec(request).map_err(Error::internal)?;
        Ok(Self {
            principal,
            method,
            request_id,
            digest: sha256(&text),
        })
    }

    /// The error of a repeat that asks for something else.
    pub fn reused(&self) -> Error {
        Problem::new(
            Reason::RequestIdReused,
            format!(
                "request id `{}` was used for another request; choose a new one",
                self.request_id
            ),
        )
        .at("request_id")
        .into()
    }
}

/// A mutating request that has begun: either it is new and has to be carried
/// out, or it was served before.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once per request and taken apart at once"
)]
pub enum Begun<T> {
    /// Do the work on [`OpenRequest::connection`], then call [`OpenRequest::finish`].
    New(OpenRequest),
    /// The first outcome; it has been proved and may be told.
    Told(T),
}

/// The transaction of a new request. Dropping it undoes everything, the claim
/// of the request id included.
#[derive(Debug)]
pub struct OpenRequest {
    db: Db,
    tx: Transaction<'static, Postgres>,
    key: RequestKey,
}

impl Db {
    /// Begins one mutating request in a transaction of its own. A concurrent
    /// request of the same key is waited for.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` when the id was used for something else;
    /// `UNAVAILABLE`.
    pub async fn begin_request<T: DeserializeOwned>(
        &self,
        key: RequestKey,
        now: OffsetDateTime,
    ) -> Result<Begun<T>> {
        self.claim_in(self.begin().await?, key, now).await
    }

    /// As [`Db::begin_request`], on the connections kept for revocations.
    ///
    /// # Errors
    /// As [`Db::begin_request`].
    pub async fn begin_revocation_request<T: DeserializeOwned>(
        &self,
        key: RequestKey,
        now: OffsetDateTime,
    ) -> Result<Begun<T>> {
        self.claim_in(self.begin_revocation().await?, key, now)
            .await
    }

    async fn claim_in<T: DeserializeOwned>(
        &self,
        mut tx: Transaction<'static, Postgres>,
        key: RequestKey,
        now: OffsetDateTime,
    ) -> Result<Begun<T>> {
        if claim(&mut tx, &key, now).await? {
            return Ok(Begun::New(OpenRequest {
                db: self.clone(),
                tx,
                key,
            }));
        }
        let stored = stored_outcome(&mut tx, &key).await?;
        // what was read is told only once it is proved
        self.quorum.prove_by_commit(&mut tx).await?;
        self.quorum.commit(tx).await?;
        Ok(Begun::Told(
            serde_json::from_value(stored).map_err(Error::internal)?,
        ))
    }
}

impl OpenRequest {
    /// Where the work is done: the act, its audit entries and, last, its changes.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// Stores the outcome, which must hold no secret, and commits.
    ///
    /// # Errors
    /// `OUTCOME_UNKNOWN` when it may or may not have been committed.
    pub async fn finish<T: Serialize + Sync>(mut self, outcome: &T) -> Result<()> {
        store_outcome(&mut self.tx, &self.key, outcome).await?;
        self.db.commit(self.tx).await
    }
}

/// Takes the key; waits for another transaction that is just taking it.
/// `false` when it is taken.
async fn claim(
    connection: &mut PgConnection,
    key: &RequestKey,
    now: OffsetDateTime,
) -> Result<bool> {
    let claimed = sqlx::query!(
        "INSERT INTO request_outcome (principal, method, request_id, digest, outcome, created_at)
         VALUES ($1, $2, $3, $4, 'null', $5)
         ON CONFLICT DO NOTHING",
        key.principal,
        key.method,
        key.request_id.as_str(),
        &key.digest[..],
        now,
    )
    .execute(connection)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

async fn stored_outcome(
    connection: &mut PgConnection,
    key: &RequestKey,
) -> Result<serde_json::Value> {
    let row = sqlx::query!(
        r#"SELECT digest, outcome AS "outcome: Json<serde_json::Value>" FROM request_outcome
           WHERE principal = $1 AND method = $2 AND request_id = $3"#,
        key.principal,
        key.method,
        key.request_id.as_str(),
    )
    .fetch_one(connection)
    .await?;
    if row.digest != key.digest {
        return Err(key.reused());
    }
    Ok(row.outcome.0)
}

async fn store_outcome(
    connection: &mut PgConnection,
    key: &RequestKey,
    outcome: &(impl Serialize + Sync),
) -> Result<()> {
    let outcome = serde_json::to_value(outcome).map_err(Error::internal)?;
    sqlx::query!(
        "UPDATE request_outcome SET outcome = $4
         WHERE principal = $1 AND method = $2 AND request_id = $3",
        key.principal,
        key.method,
        key.request_id.as_str(),
        Json(outcome) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A request's key without its digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRef {
    principal: String,
    request_id: String,
}

impl KeyRef {
    /// Of a key.
    pub fn of(key: &RequestKey) -> Self {
        Self {
            principal: key.principal.clone(),
            request_id: key.request_id.to_string(),
        }
    }
}

/// Digest and outcome of requests that were served before; all keys are of one
/// method.
///
/// # Errors
/// When the database refuses.
#[tracing::instrument(name = "db.request_outcome.read", skip_all)]
pub async fn kept<T: DeserializeOwned>(
    connection: &mut PgConnection,
    keys: &[&RequestKey],
) -> Result<HashMap<KeyRef, ([u8; 32], T)>> {
    let Some(method) = keys.first().map(|key| key.method) else {
        return Ok(HashMap::new());
    };
    let principals: Vec<String> = keys.iter().map(|key| key.principal.clone()).collect();
    let request_ids: Vec<String> = keys.iter().map(|key| key.request_id.to_string()).collect();
    let rows = sqlx::query!(
        r#"SELECT principal, request_id, digest, outcome::text AS "outcome!"
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
                .map_err(|_| Error::internal("unreadable value in `request_outcome.digest`"))?;
            let outcome = serde_json::from_str(&row.outcome).map_err(Error::internal)?;
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

/// Keeps outcomes of requests of one method. Of equal keys the first wins; one
/// that another transaction is just taking is waited for and left to it.
/// Returns those that were taken.
///
/// # Errors
/// When the database refuses.
#[tracing::instrument(name = "db.request_outcome.claim", skip_all)]
pub async fn insert_outcomes<T: Serialize>(
    connection: &mut PgConnection,
    claims: &[(&RequestKey, T)],
    now: OffsetDateTime,
) -> Result<HashSet<KeyRef>> {
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
        outcomes.push(serde_json::to_string(outcome).map_err(Error::internal)?);
    }
    let taken = sqlx::query!(
        r#"INSERT INTO request_outcome (principal, method, request_id, digest, outcome, created_at)
           SELECT principal, $1, request_id, digest, outcome::json, $2
           FROM unnest($3::text[], $4::text[], $5::bytea[], $6::text[]) WITH ORDINALITY
                AS item (principal, request_id, digest, outcome, number)
           ORDER BY principal, request_id, number
           ON CONFLICT DO NOTHING
           RETURNING principal, request_id"#,
        method,
        now,
        &principals,
        &request_ids,
        &digests,
        &outcomes,
    )
    .fetch_all(connection)
    .await?;
    Ok(taken
        .into_iter()
        .map(|row| KeyRef {
            principal: row.principal,
            request_id: row.request_id,
        })
        .collect())
}

/// Drops outcomes older than [`KEPT`], at most `limit` of them; returns how many.
///
/// # Errors
/// When the database cannot be reached.
pub async fn forget_old(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM request_outcome WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM request_outcome WHERE created_at < $1 ORDER BY created_at LIMIT $2))",
        now - KEPT,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
