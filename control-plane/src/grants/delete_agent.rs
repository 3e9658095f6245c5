//! Deleting an agent: its record goes, its grants end, in one transaction.

use authguardian_proto::ids::AgentId;

use super::{Grants, revoke_matching::end_matching};
use crate::{
    audit::Context, db::request::Begun, error::Result, events::RevocationTarget, registry,
};

impl Grants {
    /// Forgets an agent and revokes its grants.
    ///
    /// # Errors
    /// `UNKNOWN_AGENT`, `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`.
    pub async fn delete_agent(&self, context: Context, id: AgentId) -> Result<()> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "registry.delete_agent", &id)?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(()) => return Ok(()),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        let change = registry::delete_in(connection, now, context.clone(), &id).await?;
        let target = RevocationTarget::Agent(id.clone());
        end_matching(connection, context, &target, "the agent was deleted", now).await?;
        registry::agent_changed(connection, now, &change).await?;
        request.finish(&()).await
    }
}
