//! What edges report for the audit log: calls that ended at them. A machine is
//! believed what happened at itself, and nothing about keys and agents that do
//! not belong together.

use std::{collections::BTreeMap, net::IpAddr};

use authguardian_proto::{
    ids::{AgentId, ApiKeyId, MachineId},
    reason::Reason,
    zone::Zone,
};
use serde::{Serialize, Serializer};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{ApiKey, Identity, store};
use crate::{
    audit::{
        self, Actor, Context, Entry, Outcome,
        journal::{self, Place},
    },
    db::request::Begun,
    error::Result,
};

/// Equal calls of one second at an edge.
#[derive(Debug, Clone, Serialize)]
pub struct ReportedCall {
    /// What: `tool.<name>`, `login.session` …
    pub action: String,
    /// What came of them.
    pub outcome: Outcome,
    /// Why not.
    #[serde(serialize_with = "as_text")]
    pub reason: Option<Reason>,
    /// The key that was proved.
    pub api_key_id: Option<ApiKeyId>,
    /// The key that was only named.
    pub claimed: Option<ApiKeyId>,
    /// The agent that they were for, as the caller said.
    pub agent_id: Option<AgentId>,
    /// Where they came from.
    pub zone: Option<Zone>,
    /// The client; `None` for the Unix socket.
    pub client: Option<IpAddr>,
    /// How many, 1 or more.
    pub count: i64,
    /// How long ago; grows from one try of a report to the next.
    #[serde(skip)]
    pub age: time::Duration,
}

impl Identity {
    /// Writes reported calls into the audit log, once per request id.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED`, and `UNAVAILABLE`.
    pub async fn report_calls(
        &self,
        context: Context,
        machine: MachineId,
        calls: &[ReportedCall],
    ) -> Result<()> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "audit.report_calls", &calls)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(()) => return Ok(()),
            Begun::New(request) => request,
        };
        append(request.connection(), machine, calls, now).await?;
        request.finish(&()).await
    }

    /// Writes a batch of a machine's journal into the audit log, unless one of this place or
    /// a higher one was written; the highest place that is.
    ///
    /// # Errors
    /// `UNAVAILABLE`; `OUTCOME_UNKNOWN` when it may or may not have been written.
    pub async fn report_journal(
        &self,
        machine: MachineId,
        place: Place,
        calls: &[ReportedCall],
    ) -> Result<i64> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        if let Some(written) = journal::take(&mut tx, machine, place, now).await? {
            // what was read is told only once it is proved
            self.db.end_proved(tx).await?;
            return Ok(written);
        }
        append(&mut tx, machine, calls, now).await?;
        self.db.commit(tx).await?;
        Ok(place.sequence)
    }
}

/// Appends what a machine has told, as of when it was.
async fn append(
    connection: &mut PgConnection,
    machine: MachineId,
    calls: &[ReportedCall],
    now: OffsetDateTime,
) -> Result<()> {
    let mut named: Vec<ApiKeyId> = calls.iter().filter_map(|call| call.api_key_id).collect();
    named.sort_unstable();
    named.dedup();
    let keys = store::api_keys(connection, &named).await?;
    let mut by_time: BTreeMap<OffsetDateTime, Vec<Entry>> = BTreeMap::new();
    for call in calls {
        by_time
            .entry(now - call.age)
            .or_default()
            .push(call.entry(machine, &keys));
    }
    for (time, entries) in &by_time {
        audit::append(connection, *time, entries).await?;
    }
    Ok(())
}

impl ReportedCall {
    fn entry(&self, machine: MachineId, keys: &[ApiKey]) -> Entry {
        let key = keys.iter().find(|key| Some(key.id) == self.api_key_id);
        let agent = self
            .agent_id
            .clone()
            .filter(|agent| key.is_some_and(|key| key.agent_ids.contains(agent)));
        let context = Context {
            actor: key.map_or(Actor::Anonymous, |key| Actor::Agent(agent.clone(), key.id)),
            machine_id: Some(machine),
            peer: self.client,
            zone: self.zone,
            request_id: None,
            trace_id: None,
        };
        let mut entry = Entry::ok(context, self.action.clone(), self.subject(machine))
            .not_ok(self.outcome, self.reason);
        entry.agent_id = agent;
        entry.count = self.count;
        entry
    }

    /// The agent, else the key, else the machine whose edge was called.
    fn subject(&self, machine: MachineId) -> String {
        let agent = self.agent_id.as_ref().map(ToString::to_string);
        agent
            .or_else(|| {
                let key = self.api_key_id.or(self.claimed)?;
                Some(key.to_string())
            })
            .unwrap_or_else(|| machine.to_string())
    }
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde wants"
)]
fn as_text<S: Serializer>(
    reason: &Option<Reason>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    reason.map(Reason::as_str).serialize(serializer)
}
