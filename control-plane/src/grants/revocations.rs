//! The revocations that a living token could still meet: what an edge begins
//! with, before it follows the stream of changes.

use std::sync::Arc;

use authguardian_proto::ids::{AgentId, GrantId};
use time::OffsetDateTime;

use super::{Grants, store};
use crate::{
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
    },
    error::Result,
    events::{self, Ends, Position, RevocationTarget},
};

/// All of them, as they stood at some positions or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// Where all streams end, read before the rest.
    pub ends: Ends,
    /// Grants that were ended one by one.
    pub single: Vec<RevokedGrant>,
    /// Predicates.
    pub matching: Vec<Predicate>,
}

/// A grant that was ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedGrant {
    /// Which.
    pub grant_id: GrantId,
    /// Whose.
    pub agent_id: AgentId,
    /// When its longest token would have ended.
    pub expires_at: OffsetDateTime,
}

/// Ends every grant that matches and stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    /// Where it stands in `grants`.
    pub position: Position,
    /// Which grants.
    pub target: RevocationTarget,
    /// When the last grant that it can match ends.
    pub expires_at: OffsetDateTime,
}

impl Grants {
    /// Reads them; all who ask at the same time share one reading.
    ///
    /// # Errors
    /// `UNAVAILABLE` when they cannot be read and proved now.
    pub async fn revocations(&self) -> Result<Arc<Revocations>> {
        self.revocation_lists.call(()).await
    }
}

/// The batch operation: one reading and one barrier for all.
pub(super) struct Operation {
    pub(super) db: Db,
    pub(super) ambient: Ambient,
}

impl batch::Operation for Operation {
    type Request = ();
    type Reply = Arc<Revocations>;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "grants.revocations", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[()]) -> Result<Served<Self::Reply>> {
        let now = self.ambient.clock.now();
        let mut connection = self.db.read().await?;
        let ends = events::ends(&mut connection).await?;
        let revocations = Arc::new(Revocations {
            ends,
            single: store::revoked(&mut connection, now).await?,
            matching: store::predicates(&mut connection, now).await?,
        });
        self.db.barrier(&mut connection).await?;
        let replies = requests.iter().map(|()| Ok(Arc::clone(&revocations)));
        Ok(Served::now(replies.collect()))
    }
}
