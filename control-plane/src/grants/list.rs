//! Reading grants back.

use std::sync::Arc;

use authguardian_proto::{
    ids::{AgentId, GrantId, MachineId, ResourceTypeName},
    reason::Reason,
};
use time::OffsetDateTime;

use super::{Decision, GrantRecord, GrantState, Grants, store};
use crate::{
    error::{Error, Result},
    identity::Session,
};

/// Which grants are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these agents'; `None`: all.
    pub agents: Option<Vec<AgentId>>,
    /// Only this type's.
    pub resource_type: Option<ResourceTypeName>,
    /// Only through this machine.
    pub machine_id: Option<MachineId>,
    /// Only in this state.
    pub state: StateFilter,
}

/// Which states are wanted.
pub type StateFilter = Option<GrantState>;

impl Grants {
    /// Grants that match, newest first, before an id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(
        &self,
        filter: &Filter,
        before: Option<GrantId>,
        limit: i64,
    ) -> Result<Vec<GrantRecord>> {
        let now = self.ambient.clock.now();
        let mut connection = self.db.read().await?;
        let records = store::list(&mut connection, filter, before, limit, now).await?;
        self.db.barrier(&mut connection).await?;
        Ok(records)
    }

    /// Active grants of the session's agents.
    ///
    /// # Errors
    /// When the session's key no longer counts.
    pub async fn list_active(
        &self,
        session: &Session,
        before: Option<GrantId>,
        limit: i64,
    ) -> Result<Vec<GrantRecord>> {
        self.identity.check_key(session).await?;
        let filter = Filter {
            agents: Some(session.agents.clone()),
            state: Some(GrantState::Active),
            ..Filter::default()
        };
        self.list(&filter, before, limit).await
    }

    /// One grant.
    ///
    /// # Errors
    /// `GRANT_NOT_FOUND`.
    pub async fn get(&self, id: GrantId) -> Result<GrantRecord> {
        let mut connection = self.db.read().await?;
        let found = store::by_ids(&mut connection, &[id]).await?.pop();
        self.db.barrier(&mut connection).await?;
        found.ok_or_else(|| Error::new(Reason::GrantNotFound, format!("there is no grant `{id}`")))
    }

    /// The decision of an earlier request of the session's agents, with the
    /// token of its newest times while it is active.
    ///
    /// # Errors
    /// `GRANT_NOT_FOUND`, the same for one of other agents.
    pub async fn status(&self, session: &Arc<Session>, id: GrantId) -> Result<Decision> {
        self.identity.check_key(session).await?;
        let record = self.get(id).await?;
        if session.speaks_for(&record.agent_id).is_err() {
            return Err(Error::new(
                Reason::GrantNotFound,
                format!("there is no grant `{id}`"),
            ));
        }
        let issued = record
            .renewed_at
            .unwrap_or(record.issued_at)
            .unix_timestamp();
        let expires = record.expires_at.map(OffsetDateTime::unix_timestamp);
        self.decision(record, issued, expires)
    }

    /// What a record is now.
    pub fn state_of(&self, record: &GrantRecord) -> GrantState {
        record.state(self.ambient.clock.now())
    }

    /// How many grants are active.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_active(&self) -> Result<i64> {
        store::count_active(&mut *self.db.read().await?, self.ambient.clock.now()).await
    }
}
