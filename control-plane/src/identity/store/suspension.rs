//! Suspensions.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::unreadable;
use crate::{error::Result, events::SuspensionTarget, identity::Suspension};

struct SuspensionRow {
    kind: String,
    subject: String,
    created_at: OffsetDateTime,
    created_by: String,
    comment: String,
}

impl SuspensionRow {
    fn read(self) -> Result<Suspension> {
        Ok(Suspension {
            target: SuspensionTarget::from_parts(&self.kind, &self.subject)
                .ok_or_else(|| unreadable("suspension.subject"))?,
            created_at: self.created_at,
            created_by: self.created_by,
            comment: self.comment,
        })
    }
}

/// All of them, oldest first.
#[tracing::instrument(name = "db.suspension.list", skip_all)]
pub(in crate::identity) async fn suspensions(
    connection: &mut PgConnection,
) -> Result<Vec<Suspension>> {
    sqlx::query_as!(
        SuspensionRow,
        "SELECT kind, subject, created_at, created_by, comment FROM suspension
         ORDER BY created_at, kind, subject"
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(SuspensionRow::read)
    .collect()
}

#[tracing::instrument(name = "db.suspension.insert", skip_all)]
pub(in crate::identity) async fn insert_suspension(
    connection: &mut PgConnection,
    new: &Suspension,
) -> Result<()> {
    let (kind, subject) = new.target.parts();
    sqlx::query!(
        "INSERT INTO suspension (kind, subject, created_at, created_by, comment) VALUES ($1, $2, $3, $4, $5)",
        kind,
        subject,
        new.created_at,
        new.created_by,
        new.comment,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.suspension.delete", skip_all)]
pub(in crate::identity) async fn delete_suspension(
    connection: &mut PgConnection,
    target: &SuspensionTarget,
) -> Result<()> {
    let (kind, subject) = target.parts();
    sqlx::query!(
        "DELETE FROM suspension WHERE kind = $1 AND subject = $2",
        kind,
        subject,
    )
    .execute(connection)
    .await?;
    Ok(())
}
