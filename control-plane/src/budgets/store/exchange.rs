use std::collections::HashSet;

use authguardian_proto::ids::MachineId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;

/// Notes which exchange each machine makes, by process and number; each machine once.
/// Those whose exchange is later than what was noted.
#[tracing::instrument(name = "db.budget_exchange.note", skip_all)]
pub(in crate::budgets) async fn note_exchanges(
    connection: &mut PgConnection,
    exchanges: &[(MachineId, i64, i64)],
) -> Result<HashSet<MachineId>> {
    let machines: Vec<Uuid> = exchanges
        .iter()
        .map(|(machine, ..)| machine.as_uuid())
        .collect();
    let incarnations: Vec<i64> = exchanges
        .iter()
        .map(|(_, incarnation, _)| *incarnation)
        .collect();
    let sequences: Vec<i64> = exchanges.iter().map(|(.., sequence)| *sequence).collect();
    let noted = sqlx::query_scalar!(
        "INSERT INTO budget_exchange AS known (machine_id, incarnation, sequence)
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS told (machine_id, incarnation, sequence)
         ORDER BY machine_id
         ON CONFLICT (machine_id) DO UPDATE SET incarnation = excluded.incarnation, sequence = excluded.sequence
         WHERE (known.incarnation, known.sequence) < (excluded.incarnation, excluded.sequence)
         RETURNING machine_id",
        &machines,
        &incarnations,
        &sequences,
    )
    .fetch_all(connection)
    .await?;
    Ok(noted.into_iter().map(MachineId::from_uuid).collect())
}
