//! Banning and evicting a machine: its calls no longer count, and the grants
//! that were given through it end, in one transaction.

use serde::{Deserialize, Serialize};

use super::{Grants, revoke_matching::end_matching};
use crate::{
    audit::Context,
    db::request::Begun,
    error::Result,
    events::{self, RevocationTarget, Stream},
    identity::{
        Machine,
        machine::MachineRef,
        membership::{self, Expulsion},
    },
};

/// What became of a ban or an eviction; also what is kept for repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expelled {
    /// The machine, as it is now.
    pub machine: Machine,
    /// How many active grants were ended.
    pub ended: i64,
}

impl Grants {
    /// Bans or evicts a machine. Twice succeeds.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`machine`), `MACHINE_EVICTED` of a ban,
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`.
    pub async fn expel_machine(
        &self,
        context: Context,
        named: &MachineRef,
        how: Expulsion,
        comment: &str,
    ) -> Result<Expelled> {
        let now = self.ambient.clock.now();
        let method = match how {
            Expulsion::Ban => "identity.ban_machine",
            Expulsion::Evict => "identity.evict_machine",
        };
        let key = context.request_key(&self.ambient, method, &(named, comment))?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(expelled) => return Ok(expelled),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        // locks the machine: grants in flight through it are in front of this, or see it
        let (machine, change) =
            membership::expel(connection, context.clone(), named, how, now).await?;
        let target = RevocationTarget::Machine(machine.id);
        let revoked = end_matching(connection, context, &target, comment, now).await?;
        if let Some(change) = change {
            events::append(connection, Stream::Identity, now, &[change]).await?;
        }
        let expelled = Expelled {
            machine,
            ended: revoked.ended,
        };
        request.finish(&expelled).await?;
        self.identity.machines_changed().await;
        Ok(expelled)
    }
}
