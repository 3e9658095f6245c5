//! The end of a registration: by its agent, or by an operator.

use std::sync::Arc;

use authguardian_proto::{
    ids::AgentId,
    reason::{Problem, Reason},
};
use sqlx::PgConnection;

use super::{
    AgentChange, Registration, Registry, What, change,
    register::{Holder, entry},
    store,
};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    identity::Session,
};

impl Registry {
    /// Takes a registration back. Returns it as it was.
    ///
    /// # Errors
    /// `UNKNOWN_AGENT`, `AGENT_MISMATCH`, `ZONE_FORBIDS`, `REQUEST_ID_REUSED`,
    /// `OUTCOME_UNKNOWN`, and those of key and machine.
    pub async fn deregister(
        &self,
        context: Context,
        session: Arc<Session>,
        agent: AgentId,
    ) -> Result<Registration> {
        session.speaks_for(&agent)?;
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "registry.deregister_agent", &agent)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(registration) => return Ok(registration),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        Holder::lock(connection, &session, &agent, now).await?;
        let held = lock(connection, &agent).await?;
        if !held.belongs_to(session.machine, session.api_key_id) {
            let detail =
                format!("agent `{agent}` is registered by another machine or key than this one");
            return Err(Problem::new(Reason::AgentMismatch, detail)
                .at("agent_id")
                .into());
        }
        store::delete_registration(connection, &agent).await?;
        let entry = entry(context, &session, &agent, "agent.deregister");
        audit::append(connection, now, &[entry]).await?;
        let change = AgentChange::of(&held, What::Deregistered);
        change::append(connection, now, &[change]).await?;
        request.finish(&held).await?;
        Ok(held)
    }

    /// Ends the lease of a registered agent, by an operator: any machine and key
    /// that may speak for it can register it. Returns it as it was.
    ///
    /// # Errors
    /// `UNKNOWN_AGENT`, `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`.
    pub async fn release(&self, context: Context, agent: AgentId) -> Result<Registration> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "registry.release_agent", &agent)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(registration) => return Ok(registration),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        store::lock_agent_id(connection, &agent).await?;
        let held = lock(connection, &agent).await?;
        store::delete_registration(connection, &agent).await?;
        let entry = Entry::ok(context, "agent.release", agent.to_string()).about(agent.clone());
        audit::append(connection, now, &[entry]).await?;
        let change = AgentChange::of(&held, What::Released);
        change::append(connection, now, &[change]).await?;
        request.finish(&held).await?;
        Ok(held)
    }

    /// The registration of an agent.
    ///
    /// # Errors
    /// `UNKNOWN_AGENT`.
    pub async fn get(&self, agent: &AgentId) -> Result<Registration> {
        let mut connection = self.db.read().await?;
        store::registrations(&mut connection, std::slice::from_ref(agent), &[])
            .await?
            .pop()
            .ok_or_else(|| not_registered(agent))
    }
}

async fn lock(connection: &mut PgConnection, agent: &AgentId) -> Result<Registration> {
    store::lock_registrations(connection, std::slice::from_ref(agent), &[])
        .await?
        .pop()
        .ok_or_else(|| not_registered(agent))
}

fn not_registered(agent: &AgentId) -> Error {
    Problem::new(
        Reason::UnknownAgent,
        format!("agent `{agent}` is not registered"),
    )
    .at("agent_id")
    .into()
}
