//! What operators say about agents.

use std::collections::HashMap;

use authguardian_proto::{
    ids::AgentId,
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    AgentChange, Agents, Registration, What, change, registration::effective_trust, store,
};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
};

/// Highest trust.
const MAX_TRUST: u32 = 1000;

const MAX_DESCRIPTION: usize = 500;

/// An agent as operators set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// How far it is trusted, 0 to 1000; a zone may limit it further.
    pub trust: u32,
    /// For people.
    pub description: String,
    /// When it was first put.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last put.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// What an agent shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PutAgent {
    /// Which agent.
    pub id: AgentId,
    /// 0 to 1000.
    pub trust: u32,
    /// For people, at most 500 characters.
    pub description: String,
}

impl PutAgent {
    fn check(&self) -> Result<()> {
        if self.trust > MAX_TRUST {
            return Err(Error::invalid("trust", "expected 0 to 1000"));
        }
        if self.description.chars().count() > MAX_DESCRIPTION || self.description.contains('\0') {
            return Err(Error::invalid(
                "description",
                format!("expected at most {MAX_DESCRIPTION} characters, none of them NUL"),
            ));
        }
        Ok(())
    }
}

impl Agents {
    /// Creates an agent or replaces its trust and description. Grants that were
    /// given before keep what they were given.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field; `REQUEST_ID_REUSED`.
    pub async fn put(&self, context: Context, put: PutAgent) -> Result<Agent> {
        put.check()?;
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "registry.put_agent", &put)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(agent) => return Ok(agent),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        store::lock_agent_id(connection, &put.id).await?;
        let agent = store::put_agent(connection, &put, now).await?;
        let change = trust_changed(connection, &put.id, Some(put.trust), What::Put).await?;
        let entry = Entry::ok(context, "agent.put", agent.id.to_string()).about(agent.id.clone());
        audit::append(connection, now, &[entry]).await?;
        agent_changed(connection, now, &change).await?;
        request.finish(&agent).await?;
        Ok(agent)
    }

    /// One agent.
    ///
    /// # Errors
    /// `UNKNOWN_AGENT`.
    pub async fn get(&self, id: &AgentId) -> Result<Agent> {
        store::agent(&mut *self.db.read().await?, id)
            .await?
            .ok_or_else(|| unknown_agent(id))
    }

    /// How many agents have a record.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count(&self) -> Result<i64> {
        store::count_agents(&mut *self.db.read().await?).await
    }

    /// Lists agents by id, after an id (`None`: from the first).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(&self, after: Option<&AgentId>, limit: i64) -> Result<Vec<Agent>> {
        store::list_agents(&mut *self.db.read().await?, after, limit).await
    }
}

/// Forgets an agent in the caller's transaction, with its audit entry; one that
/// is registered stays so, as one that operators say nothing of. Waits
/// for transactions that have the agent share-locked, so that a revocation
/// that follows in this transaction reaches the grants they give.
///
/// Only half of the act: the caller (the room of grants, which stands above
/// this one) revokes the agent's grants in the same transaction, and then, as
/// stream heads are taken in name order, tells the change by [`agent_changed`]
/// **last**.
///
/// # Errors
/// `UNKNOWN_AGENT`.
pub async fn delete_in(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    context: Context,
    id: &AgentId,
) -> Result<AgentChange> {
    store::lock_agent_id(connection, id).await?;
    if !store::delete_agent(connection, id).await? {
        return Err(unknown_agent(id));
    }
    let entry = Entry::ok(context, "agent.delete", id.to_string()).about(id.clone());
    audit::append(connection, now, &[entry]).await?;
    trust_changed(connection, id, None, What::Deleted).await
}

/// Appends to stream `registry` what has changed of an agent.
///
/// # Errors
/// When the database refuses.
pub async fn agent_changed(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    change: &AgentChange,
) -> Result<()> {
    change::append(connection, now, std::slice::from_ref(change)).await
}

/// Lets a registration of the agent, if there is one, be trusted as operators
/// say now; the agent's id is locked.
async fn trust_changed(
    connection: &mut PgConnection,
    id: &AgentId,
    operators: Option<u32>,
    what: What,
) -> Result<AgentChange> {
    let registered = store::lock_registrations(connection, std::slice::from_ref(id), &[])
        .await?
        .pop();
    if let Some(registered) = &registered {
        let trust = effective_trust(operators, registered.trust_asked, registered.zone);
        if trust != registered.trust {
            store::set_trust(connection, id, trust).await?;
        }
    }
    let of = |registration: Registration| (registration.machine_id, registration.epoch);
    Ok(AgentChange {
        agent_id: id.clone(),
        what,
        registration: registered.map(of),
    })
}

/// Agents by id, in id order and share-locked until the transaction ends;
/// those without a record are left out.
///
/// # Errors
/// When the database refuses.
pub async fn lock_agents(connection: &mut PgConnection, ids: &[AgentId]) -> Result<Vec<Agent>> {
    store::agents_for_share(connection, ids).await
}

/// How far operators trust agents, as the connection sees it; those without a
/// record are left out.
///
/// # Errors
/// When the database refuses.
pub async fn trust_of(
    connection: &mut PgConnection,
    ids: &[AgentId],
) -> Result<HashMap<AgentId, u32>> {
    store::trust_of(connection, ids).await
}

fn unknown_agent(id: &AgentId) -> Error {
    let detail = format!("there is no agent `{id}`; `agent list` shows those there are");
    Problem::new(Reason::UnknownAgent, detail)
        .at("agent_id")
        .into()
}
