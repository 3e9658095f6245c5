//! How far the journals of edges are written.

use authguardian_proto::ids::MachineId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{audit::journal::Place, error::Result};

/// Moves a journal to a higher place, and waits for another transaction that is just doing
/// so; whether it was lower.
#[tracing::instrument(name = "db.audit_journal.advance", skip_all)]
pub(in crate::audit) async fn advance(
    connection: &mut PgConnection,
    machine: MachineId,
    place: Place,
    now: OffsetDateTime,
) -> Result<bool> {
    let moved = sqlx::query!(
        "INSERT INTO audit_journal AS journal (machine_id, journal_id, sequence, written_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (machine_id, journal_id) DO UPDATE
             SET sequence = excluded.sequence, written_at = excluded.written_at
             WHERE journal.sequence < excluded.sequence",
        machine.as_uuid(),
        place.journal_id,
        place.sequence,
        now,
    )
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// The highest place that is written of a journal, of which there is one.
#[tracing::instrument(name = "db.audit_journal.written", skip_all)]
pub(in crate::audit) async fn written(
    connection: &mut PgConnection,
    machine: MachineId,
    place: Place,
) -> Result<i64> {
    let row = sqlx::query!(
        "SELECT sequence FROM audit_journal WHERE machine_id = $1 AND journal_id = $2",
        machine.as_uuid(),
        place.journal_id,
    )
    .fetch_one(connection)
    .await?;
    Ok(row.sequence)
}
