//! Our own keys.

use authguardian_proto::ids::SigningKeyId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::unreadable;
use crate::{
    error::{Error, Result},
    identity::{
        keyring::{Cross, StoredKey},
        seal::{MasterKeyId, Sealed},
        signing_key::{KeyState, Purpose, SigningKey},
    },
};

struct SigningKeyRow {
    id: Uuid,
    purpose: String,
    state: String,
    created_at: OffsetDateTime,
    activated_at: Option<OffsetDateTime>,
    retired_at: Option<OffsetDateTime>,
    accepted_until: Option<OffsetDateTime>,
    dropped_at: Option<OffsetDateTime>,
}

impl TryFrom<SigningKeyRow> for SigningKey {
    type Error = Error;

    fn try_from(row: SigningKeyRow) -> Result<Self> {
        Ok(Self {
            id: SigningKeyId::from_uuid(row.id),
            purpose: purpose(&row.purpose)?,
            state: state(&row.state)?,
            created_at: row.created_at,
            activated_at: row.activated_at,
            retired_at: row.retired_at,
            accepted_until: row.accepted_until,
            dropped_at: row.dropped_at,
        })
    }
}

/// Held until the transaction ends, so that two control planes do not change
/// keys, or make the first ones, at the same time.
pub(in crate::identity) async fn lock_own_keys(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!("LOCK TABLE own_key IN SHARE ROW EXCLUSIVE MODE")
        .execute(connection)
        .await?;
    Ok(())
}

/// All that count, with their sealed secrets, by id.
pub(in crate::identity) async fn own_keys(connection: &mut PgConnection) -> Result<Vec<StoredKey>> {
    let rows = sqlx::query!(
        "SELECT id, purpose, state, public, sealed, master_key_id, cross_certificate, cross_certified_by
         FROM own_key WHERE dropped_at IS NULL ORDER BY id"
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(StoredKey {
                id: SigningKeyId::from_uuid(row.id),
                purpose: purpose(&row.purpose)?,
                state: state(&row.state)?,
                public: row.public,
                sealed: Sealed {
                    bytes: row.sealed,
                    master_key: row.master_key_id.map(MasterKeyId::from_stored),
                },
                cross: row.cross_certificate.zip(row.cross_certified_by).map(
                    |(certificate, by)| Cross {
                        certificate,
                        by: SigningKeyId::from_uuid(by),
                    },
                ),
            })
        })
        .collect()
}

/// The secrets that are there, by id; those of retired keys were wiped.
pub(in crate::identity) async fn sealed_keys(
    connection: &mut PgConnection,
) -> Result<Vec<(SigningKeyId, Sealed)>> {
    let rows = sqlx::query!(
        "SELECT id, sealed, master_key_id FROM own_key WHERE sealed <> '' ORDER BY id"
    )
    .fetch_all(connection)
    .await?;
    let keys = rows.into_iter().map(|row| {
        let sealed = Sealed {
            bytes: row.sealed,
            master_key: row.master_key_id.map(MasterKeyId::from_stored),
        };
        (SigningKeyId::from_uuid(row.id), sealed)
    });
    Ok(keys.collect())
}

/// Replaces a secret by the same one, sealed anew.
pub(in crate::identity) async fn reseal_own_key(
    connection: &mut PgConnection,
    id: SigningKeyId,
    sealed: &Sealed,
) -> Result<()> {
    sqlx::query!(
        "UPDATE own_key SET sealed = $2, master_key_id = $3 WHERE id = $1",
        id.as_uuid(),
        sealed.bytes,
        sealed.master_key.as_ref().map(MasterKeyId::as_str),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The CA certificates that count, DER, by id, and whether each is the active
/// one.
pub(in crate::identity) async fn ca_certificates(
    connection: &mut PgConnection,
) -> Result<Vec<(bool, Vec<u8>)>> {
    let rows = sqlx::query!(
        r#"SELECT public, state = 'active' AS "active!"
           FROM own_key WHERE purpose = 'ca' AND dropped_at IS NULL ORDER BY id"#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.active, row.public))
        .collect())
}

/// What a key of ours is checked with.
pub(in crate::identity) struct PublicKey {
    pub(in crate::identity) id: SigningKeyId,
    pub(in crate::identity) public: Vec<u8>,
    /// What it signed is accepted.
    pub(in crate::identity) counts: bool,
}

/// Those of a purpose that there ever were, oldest first.
pub(in crate::identity) async fn public_keys(
    connection: &mut PgConnection,
    purpose: Purpose,
) -> Result<Vec<PublicKey>> {
    let rows = sqlx::query!(
        r#"SELECT id, public, dropped_at IS NULL AS "counts!" FROM own_key WHERE purpose = $1
           ORDER BY created_at, id"#,
        purpose.as_str(),
    )
    .fetch_all(connection)
    .await?;
    let keys = rows.into_iter().map(|row| PublicKey {
        id: SigningKeyId::from_uuid(row.id),
        public: row.public,
        counts: row.counts,
    });
    Ok(keys.collect())
}

/// All that there ever were, oldest first.
pub(in crate::identity) async fn signing_keys(
    connection: &mut PgConnection,
) -> Result<Vec<SigningKey>> {
    let rows = sqlx::query_as!(
        SigningKeyRow,
        "SELECT id, purpose, state, created_at, activated_at, retired_at, accepted_until, dropped_at
         FROM own_key ORDER BY created_at, id"
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(SigningKey::try_from).collect()
}

pub(in crate::identity) async fn insert_own_key(
    connection: &mut PgConnection,
    key: &SigningKey,
    stored: &StoredKey,
) -> Result<()> {
    let cross = stored.cross.as_ref();
    sqlx::query!(
        "INSERT INTO own_key (id, purpose, state, public, sealed, created_at, activated_at,
             master_key_id, cross_certificate, cross_certified_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        key.id.as_uuid(),
        key.purpose.as_str(),
        key.state.as_str(),
        stored.public,
        stored.sealed.bytes,
        key.created_at,
        key.activated_at,
        stored.sealed.master_key.as_ref().map(MasterKeyId::as_str),
        cross.map(|cross| cross.certificate.as_slice()),
        cross.map(|cross| cross.by.as_uuid()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes where a key stands in its life. The secret of a retired one, which
/// cannot come back, is wiped.
pub(in crate::identity) async fn update_own_key(
    connection: &mut PgConnection,
    key: &SigningKey,
) -> Result<()> {
    let updated = sqlx::query!(
        "UPDATE own_key
         SET state = $2, activated_at = $3, retired_at = $4, accepted_until = $5, dropped_at = $6,
             sealed = CASE WHEN $2 = 'retired' THEN '' ELSE sealed END,
             master_key_id = CASE WHEN $2 = 'retired' THEN NULL ELSE master_key_id END
         WHERE id = $1",
        key.id.as_uuid(),
        key.state.as_str(),
        key.activated_at,
        key.retired_at,
        key.accepted_until,
        key.dropped_at,
    )
    .execute(connection)
    .await?;
    if updated.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Error::internal(format!("key {} is gone", key.id)))
    }
}

/// Takes retired keys whose last token has ended out of those that count;
/// returns which.
pub(in crate::identity) async fn drop_retired_keys(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<Vec<SigningKeyId>> {
    let ids = sqlx::query_scalar!(
        "UPDATE own_key SET dropped_at = $1
         WHERE state = 'retired' AND dropped_at IS NULL AND accepted_until <= $1 RETURNING id",
        now,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(SigningKeyId::from_uuid).collect())
}

fn purpose(text: &str) -> Result<Purpose> {
    Purpose::parse(text).ok_or_else(|| unreadable("own_key.purpose"))
}

fn state(text: &str) -> Result<KeyState> {
    KeyState::parse(text).ok_or_else(|| unreadable("own_key.state"))
}
