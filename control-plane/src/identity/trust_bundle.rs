//! The CA certificates that peers are to trust, for whoever checks them
//! elsewhere.

use authguardian_proto::credential::sha256;

use super::{Identity, store};
use crate::error::{Error, Result};

/// Every CA that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// DER each: prepared ones, the active one, retired ones.
    pub certificates: Vec<Vec<u8>>,
    /// SHA-256 of the active one's.
    pub active: [u8; 32],
}

impl Identity {
    /// The CAs of now. Read from the database: who has just heard of a change
    /// asks at once, and this process may not have read its own ring again yet.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database cannot be read.
    pub async fn trust_bundle(&self) -> Result<TrustBundle> {
        let authorities = store::ca_certificates(&mut *self.db.read().await?).await?;
        let active = authorities.iter().find(|(active, _)| *active);
        let (_, active) = active.ok_or_else(|| Error::internal("no active `ca` key is stored"))?;
        Ok(TrustBundle {
            active: sha256(active),
            certificates: authorities.into_iter().map(|(_, der)| der).collect(),
        })
    }
}
