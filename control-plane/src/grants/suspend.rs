//! Suspending: what matches is neither granted nor renewed any more, and its
//! grants end, in one transaction. Whoever was judged before that transaction
//! got its lock has a lower position, and is ended by it; whoever is judged
//! after it sees the suspension.

use authguardian_proto::reason::{Problem, Reason};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{Grants, revoke_matching::end_matching, store};
use crate::{
    audit::Context,
    db::request::Begun,
    error::Result,
    events::{Position, RevocationTarget, SuspensionTarget},
    identity::{Suspension, suspension},
    policy,
};

/// What became of a suspension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// As it stands: an earlier one of the same target stays as it was.
    pub suspension: Suspension,
    /// Where in the `grants` stream its revocation stands; `None` when it was
    /// suspended already.
    pub position: Option<Position>,
    /// How many active grants it ended.
    pub ended: i64,
}

impl Grants {
    /// Suspends, and revokes the grants that match. Twice succeeds.
    ///
    /// # Errors
    /// `UNKNOWN_RESOURCE_TYPE`; `RESOURCE_EXHAUSTED` at too many suspensions;
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`.
    pub async fn suspend(
        &self,
        context: Context,
        target: SuspensionTarget,
        comment: &str,
    ) -> Result<Suspended> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "grants.suspend", &(&target, comment))?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(outcome) => return Ok(outcome),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        refuse_unknown(connection, &target).await?;
        let (suspension, new) =
            suspension::begin_in(connection, now, &context, &target, comment).await?;
        let mut outcome = Suspended {
            suspension,
            position: None,
            ended: 0,
        };
        if new {
            let matching = target.clone().into();
            let revoked = end_matching(connection, context, &matching, comment, now).await?;
            suspension::changed(connection, now, target, true).await?;
            outcome.position = Some(revoked.position);
            outcome.ended = revoked.ended;
        }
        request.finish(&outcome).await?;
        Ok(outcome)
    }

    /// How many active grants a suspension would end now.
    ///
    /// # Errors
    /// `UNKNOWN_RESOURCE_TYPE`.
    pub async fn would_end(&self, target: SuspensionTarget) -> Result<i64> {
        let mut connection = self.db.read().await?;
        refuse_unknown(&mut connection, &target).await?;
        let matching = RevocationTarget::from(target);
        store::count_matching(&mut connection, &matching, self.ambient.clock.now()).await
    }
}

/// A name that was mistyped must not look like a suspension that holds. Agents
/// need no record to ask, and machines are named by id.
async fn refuse_unknown(connection: &mut PgConnection, target: &SuspensionTarget) -> Result<()> {
    if let SuspensionTarget::ResourceType(name) = target
        && policy::lock_resource_types(connection, std::slice::from_ref(name))
            .await?
            .is_empty()
    {
        return Err(Problem::new(
            Reason::UnknownResourceType,
            format!("there is no resource type `{name}`"),
        )
        .at("resource_type")
        .into());
    }
    Ok(())
}
