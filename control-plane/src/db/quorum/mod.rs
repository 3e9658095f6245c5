//! The write promise: how many nodes must have flushed a commit before anybody
//! is told of it, and the barrier that proves what was read.
//!
//! PostgreSQL makes a commit visible and durable in two steps, and with
//! replication each step can fail alone: a wait for standbys that is cancelled
//! returns success with a warning; a commit that waits for an absent standby
//! becomes visible after a restart. So nothing that was read proves an outcome
//! until a *later* quorum commit on the same server has succeeded: everything
//! visible before it is then at least as durable.
//!
//! Nor does that commit prove anything once the server may have a successor that
//! it has not heard of: see [`crate::db::lease`]. Under that lease, reads can do without
//! the commit: what is visible is in WAL, and once all WAL is on the quorum's disks,
//! so is that.
//!
//! With `write_quorum = 1` the same code runs; the standby checks find nothing
//! to check.

mod confirmation;
mod copies;
mod flushed;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use authguardian_proto::reason::Reason;
pub use confirmation::Confirmation;
pub(super) use copies::copies;
use sqlx::{PgConnection, Postgres, Row, Transaction};

use self::{
    confirmation::Waiting,
    flushed::{COMMIT_AND_ASK, COMMIT_LOCALLY, EMIT, END_AND_ASK, END_EMIT_AND_ASK, Flushed},
};
use super::{Lease, constraint::is_unreachable, pool};
use crate::error::{Error, Result};

/// How long standbys may take to confirm a commit that PostgreSQL has already
/// called done, before its outcome is called unknown.
const CONFIRMATION: Duration = Duration::from_secs(2);

/// How long a commit or barrier may take; then its connection is dropped and
/// its outcome unknown. PostgreSQL itself never gives up a sync wait.
const COMMIT_DEADLINE: Duration = Duration::from_secs(20);

/// The promise, and how well it can be kept now.
#[expect(
    clippy::struct_field_names,
    reason = "`write_quorum` is what the configuration calls it"
)]
pub struct Quorum {
    /// Nodes that must have flushed, the primary included; 1 at least.
    write_quorum: u32,
    /// Nodes that would flush a commit made now, the primary included.
    copies: AtomicU32,
    /// Until when the primary leads; `None`: it has no successors that it does
    /// not hear of.
    lease: Option<Arc<Lease>>,
}

impl Quorum {
    /// A promise of `write_quorum` nodes; nothing is known of standbys until
    /// [`Quorum::observe`] has run.
    pub fn new(write_quorum: u32) -> Self {
        Self {
            write_quorum: write_quorum.max(1),
            copies: AtomicU32::new(1),
            lease: None,
        }
    }

    /// Believes nothing that ends after the leader's lease.
    #[must_use]
    pub fn with_lease(mut self, lease: Arc<Lease>) -> Self {
        self.lease = Some(lease);
        self
    }

    /// The leader's lease, where one is kept.
    pub fn lease(&self) -> Option<&Arc<Lease>> {
        self.lease.as_ref()
    }

    /// The promise.
    pub fn write_quorum(&self) -> u32 {
        self.write_quorum
    }

    /// Nodes that would flush a commit made now, the primary included.
    pub fn copies(&self) -> u32 {
        self.copies.load(Ordering::Acquire)
    }

    /// Whether the promise can be kept now.
    ///
    /// # Errors
    /// `UNAVAILABLE`: strong work is refused rather than weakened.
    pub fn check(&self) -> Result<()> {
        let copies = self.copies();
        if copies >= self.write_quorum {
            return self.lease.as_ref().map_or(Ok(()), |lease| lease.check());
        }
        Err(Error::new(
            Reason::Unavailable,
            format!(
                "{copies} of {} database nodes confirm writes; try again when more are back",
                self.write_quorum
            ),
        ))
    }

    /// Reads how many nodes confirm writes; run once before serving and about
    /// every second.
    ///
    /// # Errors
    /// When the database cannot be asked; nothing is promised from then on.
    pub async fn observe(&self, connection: &mut PgConnection) -> Result<u32> {
        let observed = copies::observe(connection).await;
        self.copies
            .store(*observed.as_ref().unwrap_or(&0), Ordering::Release);
        Ok(observed?)
    }

    /// Nothing is known of the database any more.
    pub fn lost(&self) {
        self.note(0);
    }

    /// So many nodes would flush a commit made now.
    pub(super) fn note(&self, copies: u32) {
        self.copies.store(copies, Ordering::Release);
    }

    /// Nodes besides the primary that must have flushed.
    fn standbys(&self) -> usize {
        usize::try_from(self.write_quorum).unwrap_or(usize::MAX) - 1
    }

    /// Whether PostgreSQL's word for a commit is not enough.
    fn must_confirm(&self) -> bool {
        self.write_quorum > 1 || self.lease.is_some()
    }

    /// Commits, and returns only when the promise has been kept.
    ///
    /// # Errors
    /// `OUTCOME_UNKNOWN` when it may or may not have been committed, or is on
    /// fewer nodes than promised; a definite refusal by PostgreSQL (a deferred
    /// constraint) as itself.
    pub async fn commit(&self, tx: Transaction<'_, Postgres>) -> Result<()> {
        let outcome = tokio::time::timeout(COMMIT_DEADLINE, async {
            if !self.must_confirm() {
                return tx.commit().await.map_err(after_commit);
            }
            let mut tx = tx;
            let told = sqlx::raw_sql(COMMIT_AND_ASK).fetch_one(&mut *tx).await;
            let flushed = Flushed::read(&told.map_err(after_commit)?)?;
            // what is written but not flushed may stay so, and reaches no standby meanwhile
            let target = flushed.primary;
            self.confirm(&mut tx, target, Some(flushed)).await
        })
        .await;
        outcome.unwrap_or_else(|_| Err(unknown("the commit did not end in time")))
    }

    /// Commits a batch so that its locks are free at once, and leaves it to the
    /// [`Confirmation`] to wait for the quorum: batches of one stream would
    /// otherwise wait for each other's confirmations, one at a time. Nobody may
    /// be told before it has confirmed; whoever reads meanwhile passes a
    /// barrier of his own.
    ///
    /// # Errors
    /// As [`Quorum::commit`], before the quorum comes into it.
    pub async fn commit_batch(
        self: &Arc<Self>,
        mut tx: Transaction<'static, Postgres>,
    ) -> Result<Confirmation> {
        if !self.must_confirm() {
            self.commit(tx).await?;
            return Ok(Confirmation::needless());
        }
        let committed = sqlx::raw_sql(COMMIT_LOCALLY).execute(&mut *tx);
        tokio::time::timeout(COMMIT_DEADLINE, committed)
            .await
            .map_err(|_| unknown("the commit did not end in time"))?
            .map_err(after_commit)?;
        Ok(Confirmation::of(Waiting {
            tx,
            quorum: Arc::clone(self),
            primary: pool::place(),
        }))
    }

    /// Proves that all that was read on `connection` before this call can no
    /// longer be undone by a failover, and that its server is still the
    /// primary: a commit with a WAL record of its own, confirmed like any
    /// write. Call it outside of a transaction, after the reads.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be proved now.
    pub async fn barrier(&self, connection: &mut PgConnection) -> Result<()> {
        self.check()?;
        let proved = async {
            let target: i64 = sqlx::query_scalar(EMIT).fetch_one(&mut *connection).await?;
            if self.must_confirm() {
                self.confirm(connection, target, None).await?;
            }
            Ok(())
        };
        in_time(proved).await
    }

    /// Ends a transaction of reads, and proves them as [`Quorum::barrier`] does;
    /// without a commit where none is needed: under a leader's lease, it is enough
    /// that all WAL there is has reached the quorum already.
    ///
    /// # Errors
    /// `UNAVAILABLE` when they cannot be proved now.
    pub async fn end_proved(&self, mut tx: Transaction<'_, Postgres>) -> Result<()> {
        self.check()?;
        let proved = async {
            if self.lease.is_some() && self.has_all(&mut tx).await? {
                return Ok(());
            }
            self.emit(&mut tx, END_EMIT_AND_ASK).await
        };
        in_time(proved).await
    }

    /// Ends a transaction of reads; whether all WAL until then has reached the
    /// quorum of a server that leads. WAL of transactions in flight may be
    /// written without being flushed for long.
    async fn has_all(&self, tx: &mut PgConnection) -> Result<bool> {
        let told = sqlx::raw_sql(END_AND_ASK).fetch_all(&mut *tx).await?;
        let [inserted, flushed] = told.as_slice() else {
            return Err(Error::internal("expected two rows of an end"));
        };
        let (target, flushed) = (inserted.try_get(0)?, Flushed::read(flushed)?);
        Ok(flushed.reached(target, self.standbys()) && self.believe(flushed.timeline).is_ok())
    }

    /// Makes the transaction's own commit a barrier for what it has read, even
    /// where it has written nothing: a WAL record that the commit must flush.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prove_by_commit(&self, connection: &mut PgConnection) -> Result<()> {
        sqlx::query(EMIT).execute(connection).await?;
        Ok(())
    }

    /// A commit of its own, confirmed by the quorum, on the connection of a
    /// transaction: one that is over on the server with [`flushed::EMIT_AND_ASK`], else with
    /// [`END_EMIT_AND_ASK`].
    async fn emit(&self, tx: &mut PgConnection, statements: &'static str) -> Result<()> {
        let told = sqlx::raw_sql(statements).fetch_all(&mut *tx).await?;
        let [emitted, flushed] = told.as_slice() else {
            return Err(Error::internal("expected two rows of a commit"));
        };
        let (target, flushed) = (emitted.try_get(0)?, Flushed::read(flushed)?);
        if self.must_confirm() {
            self.confirm(tx, target, Some(flushed)).await?;
        }
        Ok(())
    }

    /// PostgreSQL says that the commit is done. A cancelled sync wait says so
    /// too, with no more than a warning; so ask how far the standbys are
    /// themselves. And a server that has been succeeded says so too; so look at
    /// its lease, last.
    async fn confirm(
        &self,
        connection: &mut PgConnection,
        target: i64,
        mut known: Option<Flushed>,
    ) -> Result<()> {
        let wanted = self.standbys();
        let asked = async {
            let mut pause = Duration::from_micros(500);
            loop {
                let flushed = match known.take() {
                    Some(flushed) => flushed,
                    None => Flushed::ask(connection).await.map_err(after_commit)?,
                };
                if flushed.reached(target, wanted) {
                    return self.believe(flushed.timeline);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        };
        tokio::time::timeout(CONFIRMATION, asked)
            .await
            .unwrap_or_else(|_| Err(unknown("too few nodes confirmed the commit")))
    }

    /// Whether the server of this timeline still leads.
    fn believe(&self, timeline: i64) -> Result<()> {
        match &self.lease {
            Some(lease) if !lease.covers(timeline) => Err(unknown(
                "the database node that confirmed the commit may have been succeeded",
            )),
            _ => Ok(()),
        }
    }
}

/// What proves reads, for as long as a commit may take.
async fn in_time(proved: impl Future<Output = Result<()>>) -> Result<()> {
    match tokio::time::timeout(COMMIT_DEADLINE, proved).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(unproved().caused_by(error)),
        Err(_) => Err(unproved()),
    }
}

fn after_commit(error: sqlx::Error) -> Error {
    if is_unreachable(&error) {
        unknown("the connection to the database was lost during the commit").caused_by(error)
    } else {
        error.into()
    }
}

fn unknown(what: &str) -> Error {
    Error::new(
        Reason::OutcomeUnknown,
        format!(
            "{what}: it may or may not have happened; repeat the request with the same request id"
        ),
    )
}

fn unproved() -> Error {
    Error::new(
        Reason::Unavailable,
        "the database could not confirm what it answered; try again",
    )
}

impl fmt::Debug for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quorum({} of {})", self.copies(), self.write_quorum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_refused_when_the_promise_cannot_be_kept() {
        let quorum = Quorum::new(2);
        assert_eq!(quorum.check().unwrap_err().reason(), Reason::Unavailable);
        assert!(Quorum::new(1).check().is_ok());
        let lost = Quorum::new(1);
        lost.lost();
        assert!(lost.check().is_err());
    }
}
