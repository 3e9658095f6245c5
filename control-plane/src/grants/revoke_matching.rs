//! Ending all grants that match a predicate and were issued up to now, those
//! of transactions in flight included: they get a higher position only if they
//! are committed after this one.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Grants, store};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::Result,
    events::{self, ChangeBody, Position, RevocationTarget, Stream},
};

/// The longest that a grant can live (the database bounds each type's maximum
/// by it): after that a predicate matches nothing that is still good.
const LONGEST_GRANT: Duration = Duration::days(1);

/// What became of a predicate revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedMatching {
    /// Where in the `grants` stream it stands: it covers all issued before.
    pub position: Position,
    /// How many active grants it ended.
    pub ended: i64,
}

impl Grants {
    /// Ends all grants that match.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`.
    pub async fn revoke_matching(
        &self,
        context: Context,
        target: RevocationTarget,
        comment: &str,
    ) -> Result<RevokedMatching> {
        let now = self.ambient.clock.now();
        let key =
            context.request_key(&self.ambient, "grants.revoke_matching", &(&target, comment))?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(outcome) => return Ok(outcome),
            Begun::New(request) => request,
        };
        let outcome = end_matching(request.connection(), context, &target, comment, now).await?;
        request.finish(&outcome).await?;
        Ok(outcome)
    }
}

/// The act itself, for transactions that do more; it takes the head of
/// `grants`, so only heads of later names may follow.
///
/// # Errors
/// When the database refuses.
pub(super) async fn end_matching(
    connection: &mut PgConnection,
    context: Context,
    target: &RevocationTarget,
    comment: &str,
    now: OffsetDateTime,
) -> Result<RevokedMatching> {
    let expires_at = now + LONGEST_GRANT;
    audit::append(
        connection,
        now,
        &[Entry::ok(
            context,
            "grant.revoke_matching",
            describe(target),
        )],
    )
    .await?;
    let change = ChangeBody::GrantsRevoked {
        target: target.clone(),
        expires_at,
    };
    let position = events::append(connection, Stream::Grants, now, &[change])
        .await?
        .pop()
        .ok_or_else(|| crate::error::Error::internal("a change has no position"))?;
    let ended =
        store::revoke_matching(connection, position, target, comment, now, expires_at).await?;
    Ok(RevokedMatching { position, ended })
}

/// Ends every grant that was given before, in a transaction of whoever knows
/// why; as `end_matching` it takes the head of `grants`. Returns how many were
/// active.
///
/// # Errors
/// When the database refuses.
pub async fn end_all(
    connection: &mut PgConnection,
    context: Context,
    comment: &str,
    now: OffsetDateTime,
) -> Result<i64> {
    let everything = RevocationTarget::Everything;
    let ended = end_matching(connection, context, &everything, comment, now).await?;
    Ok(ended.ended)
}

fn describe(target: &RevocationTarget) -> String {
    match target {
        RevocationTarget::Agent(agent) => format!("agent:{agent}"),
        RevocationTarget::Machine(machine) => format!("machine:{machine}"),
        RevocationTarget::ResourceType(name) => format!("resource_type:{name}"),
        RevocationTarget::Policy(id) => format!("policy:{id}"),
        RevocationTarget::Everything => "everything".to_owned(),
    }
}
