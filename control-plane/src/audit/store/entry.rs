//! Entries as acts append them, before they are sealed.

use authguardian_proto::ids::MachineId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::row::Row;
use crate::{
    audit::{Actor, Entry, Record},
    error::Result,
};

/// Entries by column, as `unnest` wants them.
#[derive(Default)]
struct Columns {
    callers: Vec<String>,
    key_ids: Vec<Option<String>>,
    machine_ids: Vec<Option<Uuid>>,
    peers: Vec<Option<String>>,
    zones: Vec<Option<String>>,
    actions: Vec<String>,
    subjects: Vec<String>,
    agent_ids: Vec<Option<String>>,
    outcomes: Vec<String>,
    reasons: Vec<Option<String>>,
    request_ids: Vec<Option<String>>,
    trace_ids: Vec<Option<String>>,
    counts: Vec<i64>,
}

impl Columns {
    fn push(&mut self, entry: &Entry) {
        let context = &entry.context;
        let (caller, key_id) = match &context.actor {
            Actor::Agent(Some(agent), key) => (format!("agent:{agent}"), Some(key.to_string())),
            Actor::Agent(None, key) => (format!("api_key:{key}"), Some(key.to_string())),
            Actor::Admin(token) => (format!("admin:{token}"), Some(token.to_string())),
            Actor::Machine(machine) => (format!("machine:{machine}"), None),
            Actor::Local(uid) => (format!("uid:{uid}"), None),
            Actor::System => ("system".to_owned(), None),
            Actor::Anonymous => ("anonymous".to_owned(), None),
        };
        self.callers.push(caller);
        self.key_ids.push(key_id);
        self.machine_ids
            .push(context.machine_id.map(MachineId::as_uuid));
        self.peers.push(context.peer.map(|peer| peer.to_string()));
        self.zones
            .push(context.zone.map(|zone| zone.as_str().to_owned()));
        self.actions.push(entry.action.clone().into_owned());
        self.subjects.push(entry.subject.clone());
        self.agent_ids.push(entry.agent().map(ToString::to_string));
        self.outcomes.push(entry.outcome.as_str().to_owned());
        self.reasons
            .push(entry.reason.map(|reason| reason.as_str().to_owned()));
        self.request_ids
            .push(context.request_id.as_ref().map(ToString::to_string));
        self.trace_ids.push(context.trace_id.clone());
        self.counts.push(entry.count);
    }
}

#[tracing::instrument(name = "db.audit_entry.append", skip_all)]
pub(in crate::audit) async fn append(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    entries: &[Entry],
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::default();
    for entry in entries {
        columns.push(entry);
    }
    sqlx::query!(
        "INSERT INTO audit_entry (occurred_at, caller, key_id, machine_id, peer_address, zone, action,
                                  subject, agent_id, outcome, reason, request_id, trace_id, count)
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                                  $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[])",
        now,
        &columns.callers,
        &columns.key_ids as _,
        &columns.machine_ids as _,
        &columns.peers as _,
        &columns.zones as _,
        &columns.actions,
        &columns.subjects,
        &columns.agent_ids as _,
        &columns.outcomes,
        &columns.reasons as _,
        &columns.request_ids as _,
        &columns.trace_ids as _,
        &columns.counts,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Has whoever appends or seals wait until the transaction ends.
#[tracing::instrument(name = "db.audit_entry.lock", skip_all)]
pub(in crate::audit) async fn lock(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("LOCK TABLE audit_entry IN SHARE ROW EXCLUSIVE MODE")
        .execute(connection)
        .await?;
    Ok(())
}

/// Puts everything that waits behind the entry that was appended last.
#[tracing::instrument(name = "db.audit_entry.move_back", skip_all)]
pub(in crate::audit) async fn move_back(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!(
        "WITH moved AS (
             DELETE FROM audit_entry WHERE sequence < (SELECT max(sequence) FROM audit_entry) RETURNING *
         )
         INSERT INTO audit_entry (occurred_at, caller, key_id, machine_id, peer_address, zone, action, subject,
                                  agent_id, outcome, reason, request_id, trace_id, count)
         SELECT occurred_at, caller, key_id, machine_id, peer_address, zone, action, subject,
                agent_id, outcome, reason, request_id, trace_id, count
         FROM moved ORDER BY sequence"
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What is committed and not sealed yet, oldest first.
#[tracing::instrument(name = "db.audit_entry.pending", skip_all)]
pub(in crate::audit) async fn pending(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<Record>> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT NULL::bigint AS log, NULL::text AS origin, NULL::bigint AS index, sequence, occurred_at, caller, key_id, machine_id,
                peer_address, zone, action, subject, agent_id, outcome, reason, request_id, trace_id, count
         FROM audit_entry ORDER BY sequence LIMIT $1",
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Record::from).collect())
}

/// How many wait to be sealed.
pub(in crate::audit) async fn pending_count(connection: &mut PgConnection) -> Result<i64> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM audit_entry"#)
        .fetch_one(connection)
        .await?;
    Ok(count)
}
