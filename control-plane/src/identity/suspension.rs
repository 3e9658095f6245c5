//! Suspensions: who stopped what, and why. What decisions see of it is the set
//! of targets in `policy`, written in the same transaction.

use authguardian_proto::reason::Reason;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Identity, store};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    events::{self, ChangeBody, Stream, SuspensionTarget},
    policy::suspension::{lock_suspensions, set_suspensions},
};

/// Most suspensions at a time: every decision reads all of them.
const MAX_SUSPENSIONS: usize = 1000;

/// Something that is stopped until it is lifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// What.
    pub target: SuspensionTarget,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Who did it: `adm_…` or `system`.
    pub created_by: String,
    /// Why, for people.
    pub comment: String,
}

impl Identity {
    /// All suspensions, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_suspensions(&self) -> Result<Vec<Suspension>> {
        store::suspensions(&mut *self.db.read().await?).await
    }

    /// Lifts a suspension and returns it; `None` when there was none, which is
    /// no failure. Grants that it ended stay ended.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`.
    pub async fn resume(
        &self,
        context: Context,
        target: SuspensionTarget,
        comment: &str,
    ) -> Result<Option<Suspension>> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "identity.resume", &(&target, comment))?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(lifted) => return Ok(lifted),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        lock_suspensions(connection).await?;
        let (lifted, rest): (Vec<_>, Vec<_>) = store::suspensions(connection)
            .await?
            .into_iter()
            .partition(|suspension| suspension.target == target);
        let lifted = lifted.into_iter().next();
        audit::append(
            connection,
            now,
            &[entry(context, "suspension.lift", &target)],
        )
        .await?;
        if lifted.is_some() {
            store::delete_suspension(connection, &target).await?;
            set_suspensions(connection, &targets(&rest)).await?;
            changed(connection, now, target, false).await?;
        }
        request.finish(&lifted).await?;
        Ok(lifted)
    }
}

/// Suspends in the caller's transaction, with its audit entry. Waits for
/// transactions that judge at the moment, so that a revocation that follows in
/// this transaction reaches the grants they give. Tells what stands now, and
/// whether it is new.
///
/// Only half of the act: the caller (the room of grants, which stands above
/// this one) revokes the grants that match in the same transaction, and then,
/// as stream heads are taken in name order, calls [`changed`] **last**.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` at 1,000 suspensions.
pub async fn begin_in(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    context: &Context,
    target: &SuspensionTarget,
    comment: &str,
) -> Result<(Suspension, bool)> {
    lock_suspensions(connection).await?;
    let mut all = store::suspensions(connection).await?;
    let begin = entry(context.clone(), "suspension.begin", target);
    audit::append(connection, now, &[begin]).await?;
    if let Some(earlier) = all.iter().find(|earlier| earlier.target == *target) {
        return Ok((earlier.clone(), false));
    }
    if all.len() >= MAX_SUSPENSIONS && *target != SuspensionTarget::Everything {
        return Err(Error::new(
            Reason::ResourceExhausted,
            format!(
                "there are {MAX_SUSPENSIONS} suspensions: lift some of them, or suspend everything"
            ),
        ));
    }
    let new = Suspension {
        target: target.clone(),
        created_at: now,
        created_by: context.principal(),
        comment: comment.to_owned(),
    };
    store::insert_suspension(connection, &new).await?;
    all.push(new.clone());
    set_suspensions(connection, &targets(&all)).await?;
    Ok((new, true))
}

/// Appends to stream `identity` that something was suspended, or is no longer.
///
/// # Errors
/// When the database refuses.
pub async fn changed(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    target: SuspensionTarget,
    suspended: bool,
) -> Result<()> {
    let change = ChangeBody::SuspensionChanged { target, suspended };
    events::append(connection, Stream::Identity, now, &[change]).await?;
    Ok(())
}

fn targets(suspensions: &[Suspension]) -> Vec<SuspensionTarget> {
    suspensions
        .iter()
        .map(|suspension| suspension.target.clone())
        .collect()
}

fn entry(context: Context, action: &'static str, target: &SuspensionTarget) -> Entry {
    let entry = Entry::ok(context, action, target.to_string());
    match target {
        SuspensionTarget::Agent(agent) => entry.about(agent.clone()),
        _ => entry,
    }
}
