//! The heads, proved current: what edges measure their staleness by.

use super::Ends;
use crate::{
    db::{
        Db,
        batch::{self, Served},
    },
    error::Result,
};

/// Reads the heads and passes a barrier, once for all who ask meanwhile. The
/// barrier begins after every one of their questions was received.
pub(super) struct Operation(pub(super) Db);

impl batch::Operation for Operation {
    type Request = ();
    type Reply = Ends;

    fn db(&self) -> Option<&Db> {
        Some(&self.0)
    }

    async fn run(&self, requests: &[()]) -> Result<Served<Self::Reply>> {
        let mut connection = self.0.read().await?;
        let ends = super::ends(&mut connection).await?;
        self.0.barrier(&mut connection).await?;
        let replies = requests.iter().map(|()| Ok(ends.clone()));
        Ok(Served::now(replies.collect()))
    }
}
