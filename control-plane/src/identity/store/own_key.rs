//! Our own keys.

use authguardian_proto::ids::SigningKeyId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::unreadable;
use crate::{
    error::Result,
    identity::keyring::{Purpose, StoredKey},
};

/// Held until the transaction ends, so that two control planes that start at
/// the same time do not both make keys.
pub(in crate::identity) async fn lock_own_keys(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!("LOCK TABLE own_key IN SHARE ROW EXCLUSIVE MODE")
        .execute(connection)
        .await?;
    Ok(())
}

pub(in crate::identity) async fn own_keys(connection: &mut PgConnection) -> Result<Vec<StoredKey>> {
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

pub(in crate::identity) async fn insert_own_key(
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
