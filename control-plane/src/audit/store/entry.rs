//! All SQL of the audit log.

use authguardian_proto::ids::{AgentId, MachineId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Actor, Entry, Record};
use crate::error::Result;

struct Row {
    sequence: i64,
    occurred_at: OffsetDateTime,
    caller: String,
    key_id: Option<String>,
    machine_id: Option<Uuid>,
    peer_address: Option<String>,
    zone: Option<String>,
    action: String,
    subject: String,
    outcome: String,
    reason: Option<String>,
    request_id: Option<String>,
    trace_id: Option<String>,
    count: i64,
}

impl From<Row> for Record {
    fn from(row: Row) -> Self {
        Self {
            sequence: row.sequence,
            occurred_at: row.occurred_at,
            caller: row.caller,
            key_id: row.key_id,
            machine_id: row.machine_id.map(MachineId::from_uuid),
            peer_address: row.peer_address,
            zone: row.zone,
            action: row.action,
            subject: row.subject,
            outcome: row.outcome,
            reason: row.reason,
            request_id: row.request_id,
            trace_id: row.trace_id,
            count: row.count,
        }
    }
}

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
        self.agent_ids
            .push(entry.agent_id.as_ref().map(ToString::to_string));
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
pub(super) async fn append(
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

#[tracing::instrument(name = "db.audit_entry.about_agents", skip_all)]
pub(super) async fn about_agents(
    connection: &mut PgConnection,
    agents: &[AgentId],
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Record>> {
    let agents: Vec<String> = agents.iter().map(ToString::to_string).collect();
    let rows = sqlx::query_as!(
        Row,
        "SELECT sequence, occurred_at, caller, key_id, machine_id, peer_address, zone, action, subject,
                outcome, reason, request_id, trace_id, count
         FROM audit_entry
         WHERE agent_id = ANY ($1) AND ($2::bigint IS NULL OR sequence < $2)
         ORDER BY sequence DESC LIMIT $3",
        &agents,
        before,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Record::from).collect())
}

/// A place in the log: transaction and sequence of the last entry read. The
/// transaction is text, since it is an unsigned 64-bit number.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    pub(super) transaction: String,
    pub(super) sequence: i64,
}

/// The place after which the newest `lines` entries begin.
pub(super) async fn newest(connection: &mut PgConnection, lines: i64) -> Result<Cursor> {
    let row = sqlx::query!(
        r#"SELECT transaction::text AS "transaction!", sequence FROM audit_entry
           WHERE transaction < pg_snapshot_xmin(pg_current_snapshot())
           ORDER BY transaction DESC, sequence DESC OFFSET $1 LIMIT 1"#,
        lines,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map_or(
        Cursor {
            transaction: "0".to_owned(),
            sequence: 0,
        },
        |row| Cursor {
            transaction: row.transaction,
            sequence: row.sequence,
        },
    ))
}

/// Entries after a place, in commit order. It stops before the oldest
/// transaction in flight: an entry that commits later never stands before one
/// that was read already.
#[tracing::instrument(name = "db.audit_entry.after", skip_all)]
pub(super) async fn after(
    connection: &mut PgConnection,
    cursor: &Cursor,
    limit: i64,
) -> Result<(Vec<Record>, Cursor)> {
    let rows = sqlx::query!(
        r#"SELECT transaction::text AS "transaction!", sequence, occurred_at, caller, key_id, machine_id,
                  peer_address, zone, action, subject, outcome, reason, request_id, trace_id, count
           FROM audit_entry
           WHERE (transaction, sequence) > ($1::text::xid8, $2)
             AND transaction < pg_snapshot_xmin(pg_current_snapshot())
           ORDER BY transaction, sequence LIMIT $3"#,
        cursor.transaction,
        cursor.sequence,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let end = rows.last().map_or_else(
        || cursor.clone(),
        |row| Cursor {
            transaction: row.transaction.clone(),
            sequence: row.sequence,
        },
    );
    let records = rows.into_iter().map(|row| {
        Record::from(Row {
            sequence: row.sequence,
            occurred_at: row.occurred_at,
            caller: row.caller,
            key_id: row.key_id,
            machine_id: row.machine_id,
            peer_address: row.peer_address,
            zone: row.zone,
            action: row.action,
            subject: row.subject,
            outcome: row.outcome,
            reason: row.reason,
            request_id: row.request_id,
            trace_id: row.trace_id,
            count: row.count,
        })
    });
    Ok((records.collect(), end))
}
