//! Reading again what is kept in memory, our keys and how machines stand:
//! another control plane may have changed them. Every process does so when it
//! hears of a change, at a slow beat in case it heard nothing, and for our keys
//! before it refuses a token whose key it does not know.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use authguardian_proto::{
    grant_token::{self, GrantClaims},
    reason::Reason,
};
use tokio::sync::watch;

use super::{Identity, Keyring, keyring::StoredKey, seal::MasterKeys, store};
use crate::{
    clock::Ambient,
    db::{
        Db,
        batch::{self, Batcher, Served},
    },
    error::{Error, Result},
    events::{ChangeBody, Message, Publisher, Stream},
};

/// Between two readings for the sake of unknown keys, which anybody can name.
const SPACING: Duration = Duration::from_secs(1);

impl Identity {
    /// Reads the keys again, and takes them if they have changed; returns
    /// whether they had. Calls at the same time share a reading that begins
    /// after them.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database cannot be read, and the keys stay as they
    /// were; or when the master keys do not open them, and this process signs
    /// with what it has, but trusts nothing that counts no more.
    pub async fn reload_keys(&self) -> Result<bool> {
        self.reloads.call(()).await
    }

    /// Whether this process has the keys that count, as far as it knows: it
    /// has not where its master keys did not open them.
    pub fn has_keys_of_now(&self) -> bool {
        !self.keys_unopened.load(Ordering::Relaxed)
    }

    /// Reads keys and standings again whenever a change of them is published,
    /// until the subscription ends.
    ///
    /// # Errors
    /// Those of the subscription: begin anew.
    pub async fn follow(&self, publisher: &Arc<Publisher>) -> Result<()> {
        let mut changes = publisher.subscribe(&[(Stream::Identity, None)]).await?;
        // what was changed before it began
        self.reload_standings().await?;
        self.read_ended_sessions().await?;
        // last, and no end of this where it fails: machines and sessions do not wait for it
        self.reload_soon().await;
        loop {
            let Message::Changes(changes) = changes.next().await? else {
                continue;
            };
            self.hear_ended_sessions(&changes);
            let any = |is: fn(&ChangeBody) -> bool| changes.iter().any(|change| is(&change.body));
            if any(|body| matches!(body, ChangeBody::MachineChanged { .. })) {
                self.reload_standings().await?;
            }
            if any(|body| *body == ChangeBody::SigningKeysChanged) {
                self.reload_soon().await;
            }
        }
    }

    /// What a grant token says, if it was signed by a key of ours.
    ///
    /// # Errors
    /// `UNAVAILABLE` when its key is not known here and the keys cannot be
    /// read again.
    pub async fn verify_grant(
        &self,
        token: &str,
    ) -> Result<std::result::Result<GrantClaims, Reason>> {
        match grant_token::verify_signature(token, self.keyring().grant_keys()) {
            Err(Reason::TokenForeignKey) => {
                self.look_for_key().await?;
                let keyring = self.keyring();
                Ok(grant_token::verify_signature(token, keyring.grant_keys()))
            }
            verified => Ok(verified),
        }
    }

    /// Reads the keys again for the sake of a token whose key is not known,
    /// once a second at most; those who ask in between wait for the next time.
    ///
    /// # Errors
    /// As [`Identity::reload_keys`].
    pub(super) async fn look_for_key(&self) -> Result<()> {
        self.lookups.call(()).await
    }
}

/// Reads the keys: one reading at a time, so that none overtakes a later one.
pub(super) struct Reload {
    pub(super) db: Db,
    pub(super) master: Arc<MasterKeys>,
    pub(super) keyring: Arc<ArcSwap<Keyring>>,
    pub(super) changed: watch::Sender<()>,
    /// See [`Identity::has_keys_of_now`].
    pub(super) unopened: Arc<AtomicBool>,
}

impl Reload {
    fn take(&self, keyring: Keyring) {
        tracing::info!(?keyring, "the signing keys have changed");
        self.keyring.store(Arc::new(keyring));
        self.changed.send_replace(());
    }

    /// These keys cannot be opened. What counts no more is dropped all the
    /// same: that takes no secret, and whoever dropped it had a reason.
    fn drop_without_opening(&self, stored: &[StoredKey], error: Error) -> Result<()> {
        if let Some(narrowed) = self.keyring.load().without_dropped(stored)? {
            tracing::error!(%error, "keys were dropped here although the stored ones cannot be opened");
            let is_whole = narrowed.is_of(stored);
            self.take(narrowed);
            if is_whole {
                return Ok(());
            }
        }
        if !self.unopened.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the stored signing keys cannot be opened; those of before go on signing here");
        }
        let detail = "the signing keys have changed and cannot be opened here";
        Err(Error::new(Reason::Unavailable, detail).caused_by(error))
    }
}

impl batch::Operation for Reload {
    type Request = ();
    /// Whether they had changed.
    type Reply = bool;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "identity.reload_keys", skip_all)]
    async fn run(&self, requests: &[()]) -> Result<Served<bool>> {
        let mut connection = self.db.read().await?;
        let stored = store::own_keys(&mut connection).await?;
        let changed = !self.keyring.load().is_of(&stored);
        if changed {
            // nothing is signed with what a failover could undo
            self.db.barrier(&mut connection).await?;
            match Keyring::from_stored(&stored, &self.master) {
                Ok(keyring) => self.take(keyring),
                Err(error) => self.drop_without_opening(&stored, error)?,
            }
        }
        self.unopened.store(false, Ordering::Relaxed);
        Ok(Served::now(requests.iter().map(|()| Ok(changed)).collect()))
    }
}

/// Reads the keys for unknown ones.
pub(super) struct Lookup {
    ambient: Ambient,
    reloads: Batcher<Reload>,
    /// Milliseconds since boot.
    not_before: AtomicU64,
}

impl Lookup {
    pub(super) fn new(ambient: Ambient, reloads: Batcher<Reload>) -> Self {
        Self {
            ambient,
            reloads,
            not_before: AtomicU64::new(0),
        }
    }

    fn now(&self) -> Duration {
        self.ambient.clock.since_boot()
    }
}

impl batch::Operation for Lookup {
    type Request = ();
    type Reply = ();

    async fn run(&self, requests: &[()]) -> Result<Served<()>> {
        let not_before = Duration::from_millis(self.not_before.load(Ordering::Relaxed));
        tokio::time::sleep(not_before.saturating_sub(self.now())).await;
        let next = (self.now() + SPACING).as_millis();
        self.not_before
            .store(u64::try_from(next).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.reloads.call(()).await?;
        Ok(Served::now(requests.iter().map(|()| Ok(())).collect()))
    }
}
