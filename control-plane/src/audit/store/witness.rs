//! What machines say that they have kept.

use authguardian_proto::ids::MachineId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::log::{Head, Kept, Witness},
    log::root,
};
use crate::error::{Error, Result};

struct Row {
    machine_id: Uuid,
    origin: String,
    size: i64,
    root: Vec<u8>,
    note: String,
    seen_at: OffsetDateTime,
    contradicts: bool,
}

impl TryFrom<Row> for Witness {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            machine_id: MachineId::from_uuid(row.machine_id),
            kept: Kept {
                origin: row.origin,
                head: Head {
                    size: row.size,
                    root: root(&row.root)?,
                },
                note: row.note,
            },
            seen_at: row.seen_at,
            contradicts: row.contradicts,
        })
    }
}

/// Notes what a machine has kept.
#[tracing::instrument(name = "db.audit_witness.note", skip_all)]
pub(in crate::audit) async fn note(connection: &mut PgConnection, witness: &Witness) -> Result<()> {
    sqlx::query!(
        "INSERT INTO audit_witness (machine_id, origin, size, root, note, seen_at, contradicts)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (machine_id) DO UPDATE
         SET origin = excluded.origin, size = excluded.size, root = excluded.root, note = excluded.note,
             seen_at = excluded.seen_at, contradicts = excluded.contradicts",
        witness.machine_id.as_uuid(),
        witness.kept.origin,
        witness.kept.head.size,
        &witness.kept.head.root.0[..],
        witness.kept.note,
        witness.seen_at,
        witness.contradicts,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// All of them, by machine.
pub(in crate::audit) async fn all(connection: &mut PgConnection) -> Result<Vec<Witness>> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT machine_id, origin, size, root, note, seen_at, contradicts FROM audit_witness ORDER BY machine_id"
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Witness::try_from).collect()
}

/// What one machine last said.
pub(in crate::audit) async fn of(
    connection: &mut PgConnection,
    machine_id: MachineId,
) -> Result<Option<Witness>> {
    let row = sqlx::query_as!(
        Row,
        "SELECT machine_id, origin, size, root, note, seen_at, contradicts FROM audit_witness
         WHERE machine_id = $1",
        machine_id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(Witness::try_from).transpose()
}
