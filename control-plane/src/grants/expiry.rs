//! The sweep of grants whose time is over: it moves nothing but their row and
//! tells whoever watches. Tokens end by their own time, swept or not.

use super::{Grants, store};
use crate::{
    error::Result,
    events::{self, ChangeBody, Stream},
};

impl Grants {
    /// Marks expired grants, at most `limit`; returns how many. Several control
    /// planes may sweep at the same time: each passes over what another holds.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn sweep_expired(&self, limit: i64) -> Result<usize> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        let expired = store::expire(&mut tx, now, limit).await?;
        let changes: Vec<ChangeBody> = expired
            .iter()
            .map(|(grant_id, agent_id)| ChangeBody::GrantExpired {
                grant_id: *grant_id,
                agent_id: agent_id.clone(),
            })
            .collect();
        events::append(&mut tx, Stream::Grants, now, &changes).await?;
        store::drop_spent_predicates(&mut tx, now).await?;
        self.db.commit(tx).await?;
        Ok(expired.len())
    }
}
