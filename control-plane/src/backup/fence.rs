//! The fence of a restored database: a new epoch that the lost database cannot
//! have come to, another audit log, and the end of what was given before, since
//! nobody knows what has been taken back since.

use sqlx::{Connection, PgConnection};

use crate::{
    audit::{self, Context, Entry},
    budgets::{self, AsOf},
    clock::Ambient,
    db::{self, Pools, Retries},
    error::{Error, Result},
    events::epoch::{self, Installation, Seen},
    grants, identity, registry,
};
use authguardian_proto::reason::Reason;

const COMMENT: &str = "the database was restored";

/// What a fence has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// The epoch that the database was of.
    pub epoch_before: i64,
    /// The one that has begun.
    pub epoch: i64,
    /// Active grants that it has ended.
    pub grants_ended: i64,
    /// Budgets that give nothing until machines have reported.
    pub budgets_held: u64,
    /// Join tokens that could have been used, or repeated.
    pub join_tokens_ended: u64,
}

/// Fences the database, which was of this epoch before, in the transaction of
/// the caller; `None`: another control plane has done so meanwhile.
///
/// # Errors
/// When the database refuses.
pub async fn fence(
    connection: &mut PgConnection,
    ambient: &Ambient,
    trust_domain: &str,
    before: i64,
    as_of: AsOf,
) -> Result<Option<Fenced>> {
    let now = ambient.clock.now();
    // as acts do, which tell of what they have locked
    identity::restored::lock_join_tokens(connection, now).await?;
    budgets::lock_all(connection).await?;
    // acts that are on their way come before the new log, whose first entry tells of the old one
    audit::log::hold(connection).await?;
    let Some(epoch) = epoch::begin_restored(connection, before, now).await? else {
        return Ok(None);
    };
    registry::restored::skip_lost(connection, now).await?;
    let join_tokens_ended = identity::restored::end_join_tokens(connection, now).await?;
    // entries from here on are of the new log
    audit::log::end_and_begin(connection, ambient, trust_domain, epoch).await?;
    let subject = format!("epoch {before} to {epoch}");
    let entry = Entry::ok(Context::system(), "installation.restore", subject);
    audit::append(connection, now, &[entry]).await?;
    let budgets_held = budgets::hold_all(connection, as_of, now).await?;
    // the head of its stream last
    let grants_ended = grants::end_all(connection, Context::system(), COMMENT, now).await?;
    Ok(Some(Fenced {
        epoch_before: before,
        epoch,
        grants_ended,
        budgets_held,
        join_tokens_ended,
    }))
}

/// Begins what has to be begun on the first connection to a server, before
/// anything else is written there: see [`epoch::arrive`].
///
/// # Errors
/// When the database refuses.
pub async fn arrive(
    connection: &mut PgConnection,
    ambient: &Ambient,
    trust_domain: &str,
) -> Result<()> {
    while let Seen::Restored(before) = epoch::arrive(connection).await? {
        let fenced =
            fence_and_commit(connection, ambient, trust_domain, before, AsOf::Itself).await?;
        if let Some(fenced) = fenced {
            tracing::warn!(
                epoch_before = fenced.epoch_before,
                epoch = fenced.epoch,
                grants_ended = fenced.grants_ended,
                budgets_held = fenced.budgets_held,
                "the database was restored or copied to another server: all that was given before has ended"
            );
        }
    }
    Ok(())
}

/// Fences a database that was restored by other means, which nothing in it may
/// tell; nor may it tell of which time its state is, where it was served since.
///
/// # Errors
/// `UNAVAILABLE` when the schema is older than this program, the database cannot
/// be reached, or another control plane began an epoch meanwhile.
pub async fn in_place(url: &str, ambient: &Ambient, as_of: AsOf) -> Result<Fenced> {
    let pools = Pools::connect(url, 1).await?;
    let mut connection = pools.primary().await?.connect().await?;
    db::refuse_old_schema(&mut connection).await?;
    let fenced = fence_now(&mut connection, ambient, as_of).await;
    pools.close().await;
    fenced
}

/// Fences a database of this program's schema, whatever it says of itself.
pub(super) async fn fence_now(
    connection: &mut PgConnection,
    ambient: &Ambient,
    as_of: AsOf,
) -> Result<Fenced> {
    let Installation {
        trust_domain,
        epoch: before,
        time_floor,
        ..
    } = epoch::installation(connection).await?;
    ambient.clock.raise_floor(time_floor);
    let fenced = fence_and_commit(connection, ambient, &trust_domain, before, as_of).await?;
    fenced.ok_or_else(|| {
        Error::new(
            Reason::Unavailable,
            "a control plane has begun a new epoch at the same moment; see `control-plane status`, and try again",
        )
    })
}

async fn fence_and_commit(
    connection: &mut PgConnection,
    ambient: &Ambient,
    trust_domain: &str,
    before: i64,
    as_of: AsOf,
) -> Result<Option<Fenced>> {
    // what was made since all was locked can be locked by an act that waits for the log, and the
    // sweeper of the log writes before it locks: PostgreSQL ends one of both then
    let mut retries = Retries::default();
    loop {
        match fence_once(connection, ambient, trust_domain, before, as_of).await {
            Err(error) => retries.after(error).await?,
            fenced => return fenced,
        }
    }
}

async fn fence_once(
    connection: &mut PgConnection,
    ambient: &Ambient,
    trust_domain: &str,
    before: i64,
    as_of: AsOf,
) -> Result<Option<Fenced>> {
    let mut tx = connection.begin().await?;
    // no standby can get what is written after it without it
    epoch::commit_locally(&mut tx).await?;
    let fenced = fence(&mut tx, ambient, trust_domain, before, as_of).await?;
    tx.commit().await?;
    Ok(fenced)
}
