//! Outcomes of requests, by the batch.

use std::collections::{HashMap, HashSet};

use authguardian_proto::ids::GrantId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    db::request::{self, KeyRef, RequestKey},
    error::Result,
    grants::{Revoked, request::KeptOutcome},
};

/// Digest and outcome of requests that were served before.
type Kept<T> = HashMap<KeyRef, ([u8; 32], T)>;

pub(in crate::grants) async fn kept_outcomes(
    connection: &mut PgConnection,
    keys: &[&RequestKey],
) -> Result<Kept<KeptOutcome>> {
    request::kept(connection, keys).await
}

pub(in crate::grants) async fn kept_revocations(
    connection: &mut PgConnection,
    keys: &[&RequestKey],
) -> Result<Kept<Revoked>> {
    request::kept(connection, keys).await
}

/// Takes request ids; returns the grants whose outcomes took theirs.
pub(in crate::grants) async fn claim(
    connection: &mut PgConnection,
    claims: &[(&RequestKey, KeptOutcome)],
    now: OffsetDateTime,
) -> Result<HashSet<GrantId>> {
    let mut taken = request::insert_outcomes(connection, claims, now).await?;
    let first = |(key, _): &&(&RequestKey, KeptOutcome)| taken.remove(&KeyRef::of(key));
    let first = claims.iter().filter(first);
    Ok(first.map(|(_, outcome)| outcome.grant_id).collect())
}

pub(in crate::grants) async fn claim_revocations(
    connection: &mut PgConnection,
    claims: &[(&RequestKey, Revoked)],
    now: OffsetDateTime,
) -> Result<()> {
    request::insert_outcomes(connection, claims, now).await?;
    Ok(())
}
