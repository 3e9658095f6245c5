//! The logs: which there are, where their heads are, and the beginning of one.

use std::fmt;

use authguardian_proto::{
    checkpoint::{Checkpoint, CheckpointError, CheckpointSigner, VerifierKey},
    ids::MachineId,
    merkle::Hash,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Context, Entry, append, store};
use crate::{
    clock::Ambient,
    error::{Error, Result},
};

/// How far a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Sealed entries.
    pub size: i64,
    /// The root of the tree at that size (RFC 6962, 2.1).
    pub root: Hash,
}

impl Head {
    /// Size and root as proofs take them.
    pub fn of_tree(self) -> (u64, Hash) {
        (self.size.unsigned_abs(), self.root)
    }
}

/// One log. A restored database begins another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// 1, 2 …
    pub number: i64,
    /// First line of its checkpoints.
    pub origin: String,
    /// Epoch of the installation as it began.
    pub epoch: i64,
    /// How far it has come.
    pub head: Head,
    /// Entries below this index have lost their bodies to retention.
    pub bodies_from: i64,
    /// When it began.
    pub begun_at: OffsetDateTime,
    /// When it ended; `None` for the one that is written to.
    pub ended_at: Option<OffsetDateTime>,
}

/// A signed head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Size and root.
    pub head: Head,
    /// The signed note.
    pub note: String,
    /// When.
    pub signed_at: OffsetDateTime,
}

/// A checkpoint that is kept outside of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which log.
    pub origin: String,
    /// Size and root.
    pub head: Head,
    /// The signed note.
    pub note: String,
}

impl Kept {
    /// Reads a note that one of these keys has signed.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field, when it is none.
    pub fn open(field: &str, note: &str, public_keys: &[[u8; 32]]) -> Result<Self> {
        let refused = |error: CheckpointError| {
            let detail = format!("expected a checkpoint that was signed here: {error}");
            Error::invalid(field, detail)
        };
        let origin = Checkpoint::read_unverified(note).map_err(refused)?.origin;
        let keys = verifier_keys(&origin, public_keys);
        let checkpoint = Checkpoint::open(note, &keys).map_err(refused)?;
        Ok(Self {
            origin,
            head: Head {
                size: i64::try_from(checkpoint.size).map_err(Error::internal)?,
                root: checkpoint.root,
            },
            note: note.to_owned(),
        })
    }
}

/// What a machine has kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Which machine.
    pub machine_id: MachineId,
    /// What.
    pub kept: Kept,
    /// When it last said so.
    pub seen_at: OffsetDateTime,
    /// Whether that was not part of the log then, of which an entry tells.
    pub contradicts: bool,
}

/// The keys of checkpoints, which another room keeps.
pub trait CheckpointKeys: fmt::Debug + Send + Sync {
    /// The key that signs now.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn signer(&self) -> Result<std::sync::Arc<CheckpointSigner>>;
}

/// The keys that check a log's checkpoints, from public keys.
pub fn verifier_keys(origin: &str, public: &[[u8; 32]]) -> Vec<VerifierKey> {
    public
        .iter()
        .map(|key| VerifierKey::new(origin, *key))
        .collect()
}

/// Begins the first log, unless there is one.
///
/// # Errors
/// When the database refuses.
pub async fn open(
    connection: &mut PgConnection,
    ambient: &Ambient,
    trust_domain: &str,
    epoch: i64,
) -> Result<()> {
    if store::log::current(connection).await?.is_none() {
        store::log::begin(
            connection,
            &origin(ambient, trust_domain),
            epoch,
            ambient.clock.now(),
        )
        .await?;
    }
    Ok(())
}

/// Has whoever appends or seals wait until the transaction ends: what they have
/// begun is there after this. In a transaction it comes after the rows that acts
/// lock, and before anything is written.
///
/// # Errors
/// When the database refuses.
pub async fn hold(connection: &mut PgConnection) -> Result<()> {
    // in the order in which a sealer takes them
    store::log::lock_current(connection).await?;
    store::lock(connection).await
}

/// Ends the log that is written to and begins another, whose first entry names
/// the head of the one before: for a database that was restored. Entries that
/// were not sealed yet go into the new one, after that. Others are to be held
/// before: see [`hold`].
///
/// # Errors
/// When the database refuses.
pub async fn end_and_begin(
    connection: &mut PgConnection,
    ambient: &Ambient,
    trust_domain: &str,
    epoch: i64,
) -> Result<()> {
    let now = ambient.clock.now();
    let old = store::log::lock_current(connection).await?;
    store::log::end(connection, now).await?;
    let origin = origin(ambient, trust_domain);
    store::log::begin(connection, &origin, epoch, now).await?;
    if let Some((old, _)) = old {
        let named = Entry::ok(Context::system(), "audit.continue", old.name());
        append(connection, now, &[named]).await?;
        store::move_back(connection).await?;
    }
    Ok(())
}

impl Log {
    /// Log, size and root in one line: how the log after it names it.
    pub fn name(&self) -> String {
        format!("{} {} {}", self.origin, self.head.size, self.head.root)
    }
}

/// All logs, oldest first.
///
/// # Errors
/// When the database refuses.
pub async fn logs(connection: &mut PgConnection) -> Result<Vec<Log>> {
    store::log::all(connection).await
}

/// Never the same again, so that no two trees are of one origin.
fn origin(ambient: &Ambient, trust_domain: &str) -> String {
    format!("{trust_domain}/audit/{}", ambient.uuid().simple())
}
