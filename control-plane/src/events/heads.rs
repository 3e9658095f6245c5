//! The heads, proved current: what edges measure their staleness by.

use super::{Position, Stream, store};
use crate::{
    db::{Db, batch},
    error::Result,
};

/// Reads the heads and passes a barrier, once for all who ask meanwhile. The
/// barrier begins after every one of their questions was received.
pub(super) struct Operation(pub(super) Db);

impl batch::Operation for Operation {
    type Request = ();
    type Reply = Vec<(Stream, Position)>;

    async fn run(&self, requests: &[()]) -> Result<Vec<Result<Self::Reply>>> {
        let mut connection = self.0.read().await?;
        let heads: Vec<_> = store::heads(&mut connection)
            .await?
            .into_iter()
            .map(|head| (head.stream, head.position))
            .collect();
        self.0.barrier(&mut connection).await?;
        Ok(requests.iter().map(|()| Ok(heads.clone())).collect())
    }
}
