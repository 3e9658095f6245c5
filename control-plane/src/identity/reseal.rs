//! Another master key takes over: what lies sealed is sealed anew.

use super::{seal::MasterKeys, store};
use crate::{
    audit::{self, Context, Entry},
    clock::Ambient,
    db::Db,
    error::Result,
};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resealed {
    /// Secrets that were sealed anew.
    pub resealed: usize,
    /// Secrets that had been sealed under the first master key already.
    pub kept: usize,
}

/// Seals every secret of ours under the first of the master keys, all or none.
/// Control planes that run go on with what they have opened; each of them needs
/// that key for its next start and for the next key that it makes.
///
/// # Errors
/// When a secret is sealed under a master key that is not among these.
pub async fn reseal(db: &Db, ambient: &Ambient, master: &MasterKeys) -> Result<Resealed> {
    let mut tx = db.begin().await?;
    store::lock_own_keys(&mut tx).await?;
    let (mut entries, mut kept) = (Vec::new(), 0);
    for (id, sealed) in store::sealed_keys(&mut tx).await? {
        if sealed.master_key.as_ref() == Some(master.first()) {
            kept += 1;
            continue;
        }
        let secret = master.open(id, &sealed)?;
        store::reseal_own_key(&mut tx, id, &master.seal(id, &secret)?).await?;
        entries.push(Entry::ok(
            Context::system(),
            "signing_key.reseal",
            id.to_string(),
        ));
    }
    let resealed = entries.len();
    audit::append(&mut tx, ambient.clock.now(), &entries).await?;
    db.commit(tx).await?;
    Ok(Resealed { resealed, kept })
}
