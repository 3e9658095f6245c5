//! Wrong credentials: who shows them to this control plane again and again has
//! to wait. Each control plane counts for itself.

use std::{
    collections::HashSet,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    backoff::{Backoff, network_of},
    credential,
    ids::{AdminTokenId, ApiKeyId, MachineId},
    reason::{Problem, Reason},
};

use super::{Identity, Role};
use crate::error::Result;

/// Wrong credentials that cost no wait. Edges hold their own callers up sooner.
const FREE: u32 = 20;
/// Sources that are kept; twice as many at the most.
const KEPT: usize = 4096;

/// Wrong credentials by source.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Admin tokens, by address.
    admins: Source<IpAddr>,
    /// Tokens that were right here, by hash: others' failures do not hold them up.
    good_admins: Mutex<HashSet<[u8; 32]>>,
    /// Join tokens, by address.
    pub(super) joins: Source<IpAddr>,
    /// Signed nonces, by machine and key. All clients of an edge share it, so
    /// that it only bounds what is said of wrong ones.
    pub(super) logins: Source<(MachineId, ApiKeyId)>,
}

/// One kind of source.
#[derive(Debug)]
pub(super) struct Source<S>(Mutex<Backoff<S>>);

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            admins: Source::new(),
            good_admins: Mutex::default(),
            joins: Source::new(),
            logins: Source::new(),
        }
    }

    fn was_good(&self, hash: &[u8; 32]) -> bool {
        self.good_admins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(hash)
    }

    fn is_good(&self, hash: [u8; 32]) {
        let mut good = self
            .good_admins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if good.len() >= KEPT {
            good.clear();
        }
        good.insert(hash);
    }
}

impl<S: Hash + Eq + Clone> Source<S> {
    fn new() -> Self {
        Self(Mutex::new(Backoff::new(FREE, KEPT)))
    }

    /// Whether it may try now.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) fn check(&self, source: &S, now: Duration) -> Result<()> {
        let checked = self.with(|backoff| backoff.check(source, now));
        checked.map_err(|wait| {
            let detail = "too many wrong credentials; wait, then try a right one";
            Problem::rate_limited(detail, wait).into()
        })
    }

    /// It has shown a wrong credential.
    pub(super) fn failed(&self, source: &S, now: Duration) {
        self.with(|backoff| backoff.failed(source, now));
    }

    /// It has shown a right one.
    pub(super) fn succeeded(&self, source: &S) {
        self.with(|backoff| backoff.succeeded(source));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Backoff<S>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Identity {
    /// Who shows this admin token from where; an unknown address is that of
    /// this process itself.
    ///
    /// # Errors
    /// `RATE_LIMITED` after too many wrong ones from there, and those of
    /// [`Identity::authenticate_admin`].
    pub async fn authenticate_admin_from(
        &self,
        token: &credential::AdminToken,
        address: Option<IpAddr>,
    ) -> Result<(AdminTokenId, Role)> {
        let Some(address) = address.map(network_of) else {
            return self.authenticate_admin(token).await;
        };
        let (hash, now) = (token.hash(), self.since_boot());
        let was_good = self.attempts.was_good(&hash);
        if !was_good {
            self.attempts.admins.check(&address, now)?;
        }
        let outcome = self.authenticate_admin(token).await;
        match &outcome {
            Ok(_) if !was_good => {
                self.attempts.is_good(hash);
                self.attempts.admins.succeeded(&address);
            }
            // one whose secret is right has a cause: it has ended
            Err(error) if error.reason() == Reason::Unauthenticated && error.cause().is_none() => {
                self.attempts.admins.failed(&address, now);
            }
            _ => {}
        }
        outcome
    }
}
