//! The terms that registrations are found by.

use sqlx::PgConnection;

use crate::{error::Result, registry::Registration};

/// Writes the terms of a registration that is in place.
#[tracing::instrument(name = "db.term.put", skip_all)]
pub(in crate::registry) async fn put_terms(
    connection: &mut PgConnection,
    of: &Registration,
) -> Result<()> {
    sqlx::query!(
        "DELETE FROM agent_term WHERE agent_id = $1",
        of.agent_id.as_str()
    )
    .execute(&mut *connection)
    .await?;
    let terms: Vec<String> = of.terms().into_iter().collect();
    if terms.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO agent_term (term, liveness, distrust, agent_id, machine_id)
         SELECT item.term, r.liveness, r.distrust, r.agent_id, r.machine_id
         FROM agent_registration AS r, unnest($2::text[]) AS item (term)
         WHERE r.agent_id = $1",
        of.agent_id.as_str(),
        &terms,
    )
    .execute(connection)
    .await?;
    Ok(())
}
