//! Wrong credentials: who shows them again and again has to wait, and what is
//! known to be wrong is not asked about.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    backoff::{Backoff, network_of},
    ids::ApiKeyId,
    reason::{Problem, Reason},
};

use super::{Core, Peer, Source};
use crate::upstream::{Credential, Login};

/// Wrong credentials of one key from one source that cost no wait.
const FREE: u32 = 5;
/// Wrong credentials from one source, of whatever keys, that cost no wait.
const FREE_OF_SOURCE: u32 = 50;
/// Sources, and keys at sources, that are kept; twice as many at the most.
const KEPT: usize = 4096;
/// How long a credential counts as wrong without being asked about again.
const WRONG_FOR: Duration = Duration::from_mins(1);

impl Core {
    /// Finds the session of a credential; a key is not asked about when too many
    /// wrong ones came from there, or it is known to be wrong itself.
    pub(super) async fn log_in(
        &self,
        credential: Credential,
        peer: &Peer,
    ) -> Result<Login, Problem> {
        let (zone, client) = (peer.zone(), peer.address());
        let unknown = match &credential {
            Credential::Key(key) if self.upstream.sessions().knows(&key.hash(), zone) => None,
            Credential::Key(key) => key.claims().zip(Some(Shown::Key(key.hash()))),
            Credential::Session(token) if self.upstream.sessions().knows_token(token) => None,
            Credential::Session(token) => {
                let id = token.claims().ok_or_else(|| {
                    let detail = "this is no session token of this control plane";
                    Problem::new(Reason::Unauthenticated, detail)
                })?;
                Some((id, Shown::Token))
            }
        };
        let Some((id, shown)) = unknown else {
            return self.upstream.log_in(credential, zone, client).await;
        };
        let (source, now) = (peer.source(), self.ambient.clock.since_boot());
        self.attempts.check(source, id, now)?;
        let known_wrong = match shown {
            Shown::Key(hash) => self.attempts.known_wrong(&hash, now),
            Shown::Token => None,
        };
        let outcome = match known_wrong {
            Some(problem) => Err(problem),
            None => self.upstream.log_in(credential, zone, client).await,
        };
        match (&outcome, shown) {
            (Ok(_), _) => self.attempts.succeeded(source, id),
            (Err(problem), Shown::Key(hash)) => {
                self.attempts.failed(source, id, Some(hash), problem, now);
            }
            (Err(problem), Shown::Token) => self.attempts.failed_token(source, id, problem, now),
        }
        outcome
    }

    /// Whether somebody may try to prove a key now.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) fn may_prove(&self, peer: &Peer, key: ApiKeyId) -> Result<(), Problem> {
        let now = self.ambient.clock.since_boot();
        self.attempts.check(peer.source(), key, now)
    }

    /// What came of somebody's proof of a key.
    pub(super) fn proved<T>(&self, peer: &Peer, key: ApiKeyId, outcome: &Result<T, Problem>) {
        let (source, now) = (peer.source(), self.ambient.clock.since_boot());
        match outcome {
            Ok(_) => self.attempts.succeeded(source, key),
            Err(problem) => self.attempts.failed(source, key, None, problem, now),
        }
    }
}

/// A credential that is not known here.
#[derive(Debug, Clone, Copy)]
enum Shown {
    /// An API key, by its hash.
    Key([u8; 32]),
    /// A session token.
    Token,
}

/// Wrong credentials that were shown here.
///
/// Whoever holds a session is not looked at, so that nobody is held up by what
/// others do; what does hold somebody up is a wrong secret or an unknown key,
/// not a right one that has ended.
#[derive(Debug)]
pub(super) struct Attempts(Mutex<State>);

#[derive(Debug)]
struct State {
    of_key: Backoff<(Source, ApiKeyId)>,
    of_source: Backoff<Source>,
    /// What they were refused with, by hash, in two generations.
    wrong: HashMap<[u8; 32], (Problem, Duration)>,
    wrong_before: HashMap<[u8; 32], (Problem, Duration)>,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            of_key: Backoff::new(FREE, KEPT),
            of_source: Backoff::new(FREE_OF_SOURCE, KEPT),
            wrong: HashMap::new(),
            wrong_before: HashMap::new(),
        }))
    }

    /// Whether somebody may try a credential of a key now.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) fn check(
        &self,
        source: Source,
        key: ApiKeyId,
        now: Duration,
    ) -> Result<(), Problem> {
        let (source, state) = (network(source), self.state());
        let of_key = state.of_key.check(&(source, key), now);
        of_key
            .and_then(|()| state.of_source.check(&source, now))
            .map_err(|wait| {
                let detail = "too many wrong credentials; wait, then try a right one";
                Problem::rate_limited(detail, wait)
            })
    }

    /// What a credential was refused with not long ago.
    pub(super) fn known_wrong(&self, hash: &[u8; 32], now: Duration) -> Option<Problem> {
        let state = self.state();
        let known = state
            .wrong
            .get(hash)
            .or_else(|| state.wrong_before.get(hash));
        known
            .filter(|(_, until)| now < *until)
            .map(|(problem, _)| problem.clone())
    }

    /// A credential was refused; `hash` where it is to be remembered.
    pub(super) fn failed(
        &self,
        source: Source,
        key: ApiKeyId,
        hash: Option<[u8; 32]>,
        problem: &Problem,
        now: Duration,
    ) {
        let is_guess = matches!(
            problem.reason,
            Reason::ApiKeyUnknown | Reason::SignatureInvalid
        );
        let has_ended = matches!(
            problem.reason,
            Reason::ApiKeyRevoked | Reason::ApiKeyExpired
        );
        let (source, mut state) = (network(source), self.state());
        if is_guess {
            state.of_key.failed(&(source, key), now);
            state.of_source.failed(&source, now);
        }
        if let Some(hash) = hash.filter(|_| is_guess || has_ended) {
            if state.wrong.len() >= KEPT {
                state.wrong_before = std::mem::take(&mut state.wrong);
            }
            state.wrong.insert(hash, (problem.clone(), now + WRONG_FOR));
        }
    }

    /// A session token was refused. One that has ended is no guess.
    fn failed_token(&self, source: Source, key: ApiKeyId, problem: &Problem, now: Duration) {
        if problem.reason == Reason::Unauthenticated {
            let (source, mut state) = (network(source), self.state());
            state.of_key.failed(&(source, key), now);
            state.of_source.failed(&source, now);
        }
    }

    /// A credential was right.
    pub(super) fn succeeded(&self, source: Source, key: ApiKeyId) {
        self.state().of_key.succeeded(&(network(source), key));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn network(source: Source) -> Source {
    match source {
        Source::Address(address) => Source::Address(network_of(address)),
        Source::Unix { .. } => source,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn from(last: u8) -> Source {
        Source::Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    fn key(number: u128) -> ApiKeyId {
        ApiKeyId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn wrong(reason: Reason) -> Problem {
        Problem::new(reason, "x")
    }

    #[test]
    fn guesses_are_held_up_by_source_and_key() {
        let attempts = Attempts::new();
        let guess = |source, id| {
            attempts.failed(source, key(id), None, &wrong(Reason::SignatureInvalid), NOW);
        };
        for _ in 0..6 {
            assert!(attempts.check(from(1), key(1), NOW).is_ok());
            guess(from(1), 1);
        }
        let held = attempts.check(from(1), key(1), NOW).unwrap_err();
        assert_eq!(held.reason, Reason::RateLimited);
        assert_eq!(held.retry_after_seconds, Some(1));
        assert!(
            attempts.check(from(2), key(1), NOW).is_ok(),
            "another source"
        );
        assert!(attempts.check(from(1), key(2), NOW).is_ok(), "another key");
        attempts.succeeded(from(1), key(1));
        assert!(attempts.check(from(1), key(1), NOW).is_ok());
        for id in 10..60 {
            guess(from(1), id);
        }
        let held = attempts.check(from(1), key(2), NOW);
        assert!(held.is_err(), "ever other keys from one source");
    }

    #[test]
    fn what_has_ended_is_no_guess_and_what_is_away_is_not_wrong() {
        let attempts = Attempts::new();
        for (reason, remembered) in [
            (Reason::ApiKeyRevoked, true),
            (Reason::ApiKeyExpired, true),
            (Reason::Unavailable, false),
            (Reason::RateLimited, false),
            (Reason::AddressNotAllowed, false),
        ] {
            let hash = [reason as u8; 32];
            for _ in 0..20 {
                attempts.failed(from(1), key(1), Some(hash), &wrong(reason), NOW);
            }
            assert!(attempts.check(from(1), key(1), NOW).is_ok(), "{reason}");
            let known = attempts.known_wrong(&hash, NOW);
            assert_eq!(known.is_some(), remembered, "{reason}");
            assert_eq!(
                attempts.known_wrong(&hash, NOW + WRONG_FOR),
                None,
                "{reason}"
            );
        }
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::new();
        for number in 0..20_000_u32 {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&number.to_le_bytes());
            let problem = wrong(Reason::ApiKeyUnknown);
            attempts.failed(from(1), key(number.into()), Some(hash), &problem, NOW);
        }
        let state = attempts.state();
        assert!(state.wrong.len() + state.wrong_before.len() <= 2 * KEPT);
    }
}
