//! The keys of the audit log's checkpoints, for the room that signs them.

use std::sync::Arc;

use authguardian_proto::checkpoint::CheckpointSigner;

use super::{Identity, Purpose, store};
use crate::{
    audit::log::CheckpointKeys,
    error::{Error, Result},
};

impl CheckpointKeys for Identity {
    fn signer(&self) -> Result<Arc<CheckpointSigner>> {
        Ok(self.keyring().audit_signer())
    }
}

impl Identity {
    /// The public keys that have ever signed checkpoints or may, oldest first:
    /// what was signed counts for ever.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database cannot be read.
    pub async fn checkpoint_keys(&self) -> Result<Vec<[u8; 32]>> {
        let keys = store::public_keys(&mut *self.db.read().await?, Purpose::Audit).await?;
        keys.into_iter()
            .map(|key| {
                let wrong = || Error::internal(format!("key {} is not 32 bytes", key.id));
                key.public.try_into().map_err(|_| wrong())
            })
            .collect()
    }
}
