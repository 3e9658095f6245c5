//! Finding registrations, the best first: each query is one range of one index.

use std::collections::BTreeMap;

use authguardian_proto::{ids::AgentId, liveness::Liveness, zone::Zone};
use sqlx::{Connection, PgConnection, Postgres, Transaction, types::Json};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Registrations of one liveness, on one machine or not on one, in order of
/// trust and then of their ids.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Range<'a> {
    /// What they are found by; `None`: all.
    pub(in crate::registry) term: Option<&'a str>,
    pub(in crate::registry) liveness: Liveness,
    pub(in crate::registry) place: Place,
    /// At most so distrusted.
    pub(in crate::registry) distrust: i16,
    /// Beyond these.
    pub(in crate::registry) after: (i16, &'a str),
    pub(in crate::registry) zone: Option<Zone>,
    /// All of them.
    pub(in crate::registry) labels: &'a BTreeMap<String, String>,
    pub(in crate::registry) limit: i64,
}

/// Where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum Place {
    On(Uuid),
    NotOn(Uuid),
    Anywhere,
}

impl Place {
    /// Not on this one; nil is no machine's id.
    fn other_than(self) -> Uuid {
        match self {
            Self::NotOn(machine) => machine,
            Self::On(_) | Self::Anywhere => Uuid::nil(),
        }
    }
}

/// A transaction that sees one moment, so that all ranges of a page do.
pub(in crate::registry) async fn begin_sight(
    connection: &mut PgConnection,
) -> Result<Transaction<'_, Postgres>> {
    Ok(connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?)
}

/// Agents of a range in its order.
#[tracing::instrument(name = "db.registration.find", skip_all)]
pub(in crate::registry) async fn find(
    connection: &mut PgConnection,
    range: &Range<'_>,
) -> Result<Vec<AgentId>> {
    let found = match (range.term, range.place) {
        (Some(term), Place::On(machine)) => of_term_on(connection, range, term, machine).await,
        (Some(term), _) => of_term(connection, range, term).await,
        (None, Place::On(machine)) => any_on(connection, range, machine).await,
        (None, _) => any(connection, range).await,
    }?;
    found
        .into_iter()
        .map(|id| id.parse().map_err(Error::internal))
        .collect()
}

async fn of_term(
    connection: &mut PgConnection,
    range: &Range<'_>,
    term: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT t.agent_id FROM agent_term AS t JOIN agent_registration AS r ON r.agent_id = t.agent_id
         WHERE t.term = $1 AND t.liveness = $2 AND t.distrust <= $3
           AND (t.distrust, t.agent_id) > ($4, $5) AND t.machine_id <> $6
           AND ($7::text IS NULL OR r.zone = $7) AND r.labels @> $8
         ORDER BY t.distrust, t.agent_id LIMIT $9",
        term,
        range.liveness.number(),
        range.distrust,
        range.after.0,
        range.after.1,
        range.place.other_than(),
        range.zone.map(Zone::as_str),
        Json(range.labels) as _,
        range.limit,
    )
    .fetch_all(connection)
    .await
}

async fn of_term_on(
    connection: &mut PgConnection,
    range: &Range<'_>,
    term: &str,
    machine: Uuid,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT t.agent_id FROM agent_term AS t JOIN agent_registration AS r ON r.agent_id = t.agent_id
         WHERE t.machine_id = $6 AND t.term = $1 AND t.liveness = $2 AND t.distrust <= $3
           AND (t.distrust, t.agent_id) > ($4, $5)
           AND ($7::text IS NULL OR r.zone = $7) AND r.labels @> $8
         ORDER BY t.distrust, t.agent_id LIMIT $9",
        term,
        range.liveness.number(),
        range.distrust,
        range.after.0,
        range.after.1,
        machine,
        range.zone.map(Zone::as_str),
        Json(range.labels) as _,
        range.limit,
    )
    .fetch_all(connection)
    .await
}

async fn any(connection: &mut PgConnection, range: &Range<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT r.agent_id FROM agent_registration AS r
         WHERE r.liveness = $1 AND r.distrust <= $2 AND (r.distrust, r.agent_id) > ($3, $4)
           AND r.machine_id <> $5 AND ($6::text IS NULL OR r.zone = $6) AND r.labels @> $7
         ORDER BY r.distrust, r.agent_id LIMIT $8",
        range.liveness.number(),
        range.distrust,
        range.after.0,
        range.after.1,
        range.place.other_than(),
        range.zone.map(Zone::as_str),
        Json(range.labels) as _,
        range.limit,
    )
    .fetch_all(connection)
    .await
}

async fn any_on(
    connection: &mut PgConnection,
    range: &Range<'_>,
    machine: Uuid,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT r.agent_id FROM agent_registration AS r
         WHERE r.machine_id = $5 AND r.liveness = $1 AND r.distrust <= $2
           AND (r.distrust, r.agent_id) > ($3, $4)
           AND ($6::text IS NULL OR r.zone = $6) AND r.labels @> $7
         ORDER BY r.distrust, r.agent_id LIMIT $8",
        range.liveness.number(),
        range.distrust,
        range.after.0,
        range.after.1,
        machine,
        range.zone.map(Zone::as_str),
        Json(range.labels) as _,
        range.limit,
    )
    .fetch_all(connection)
    .await
}
