//! Sessions of keys that long connections go on with. The edge keeps no key to
//! log in with again, so it renews them while there is such a connection: one
//! renewal for all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    ids::SessionId,
    reason::{Problem, Reason},
};
use tokio_util::sync::CancellationToken;

use super::{Login, Upstream};

/// After a renewal that came to nothing, without being refused.
const AGAIN: Duration = Duration::from_secs(5);

/// Which sessions are held, and how often.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<HashMap<SessionId, Renewal>>);

#[derive(Debug)]
struct Renewal {
    holders: usize,
    /// Cancelled when the session can be renewed no longer.
    over: CancellationToken,
    /// Cancelled when nobody holds it any more.
    released: CancellationToken,
}

/// A session that is renewed for as long as this lives.
#[derive(Debug)]
pub struct Held {
    holds: Arc<Holds>,
    id: SessionId,
    over: CancellationToken,
}

impl Held {
    /// Returns when the session can be renewed no longer.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut holds = self.holds.lock();
        if let Some(renewal) = holds.get_mut(&self.id) {
            renewal.holders -= 1;
            if renewal.holders == 0 {
                renewal.released.cancel();
                holds.remove(&self.id);
            }
        }
    }
}

impl Holds {
    /// Holds a session; `renew` runs once for all who hold it.
    fn hold<R>(
        self: &Arc<Self>,
        id: SessionId,
        renew: impl FnOnce(CancellationToken, CancellationToken) -> R,
    ) -> Held
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let mut holds = self.lock();
        let renewal = holds.entry(id).or_insert_with(|| {
            let (over, released) = (CancellationToken::new(), CancellationToken::new());
            tokio::spawn(renew(over.clone(), released.clone()));
            Renewal {
                holders: 0,
                over,
                released,
            }
        });
        renewal.holders += 1;
        Held {
            holds: self.clone(),
            id,
            over: renewal.over.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Renewal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// Keeps the session of a key alive for a long connection.
    pub fn hold(&self, login: &Login) -> Held {
        let (upstream, login) = (self.clone(), login.without_key());
        self.holds
            .hold(login.session().id, |over, released| async move {
                released
                    .run_until_cancelled(upstream.keep_renewing(&login))
                    .await;
                over.cancel();
            })
    }

    /// Makes a login go on as what its session has become.
    ///
    /// # Errors
    /// `SESSION_EXPIRED` when that has ended.
    pub fn go_on(&self, login: &Login) -> Result<(), Problem> {
        let session = login.session();
        let latest = self.sessions.latest(session.id);
        let session = match latest.filter(|latest| latest.ends > session.ends) {
            Some(latest) => {
                login.continue_with(latest.clone());
                latest
            }
            None => session,
        };
        if self.ambient.clock.since_boot() < session.ends {
            return Ok(());
        }
        let detail = "the session of this connection has ended; connect again";
        Err(Problem::new(Reason::SessionExpired, detail))
    }

    /// Renews at half-life, until that is refused or comes too late.
    async fn keep_renewing(&self, login: &Login) {
        let since_boot = || self.ambient.clock.since_boot();
        loop {
            let left = login.session().ends.saturating_sub(since_boot());
            tokio::time::sleep(self.ambient.jittered(left / 2)).await;
            let problem = loop {
                match self.renew(login).await {
                    Ok((renewed, _)) => {
                        login.continue_with(renewed);
                        break None;
                    }
                    Err(problem) if may_be_tried_again(problem.reason) => {
                        if login.session().ends <= since_boot() {
                            break Some(problem);
                        }
                        tokio::time::sleep(self.ambient.jittered(AGAIN)).await;
                    }
                    Err(problem) => break Some(problem),
                }
            };
            if let Some(problem) = problem {
                tracing::debug!(reason = %problem.reason, "the session of long connections is over");
                return;
            }
        }
    }
}

fn may_be_tried_again(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Unavailable | Reason::OutcomeUnknown | Reason::ResourceExhausted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SessionId {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn one_renewal_serves_all_holders_and_ends_with_the_last() {
        let holds = Arc::new(Holds::default());
        let session = id("ses_0000000000000000000001");
        let (told, renewed) = std::sync::mpsc::channel();
        let hold = || {
            let told = told.clone();
            holds.hold(session, |over, released| async move {
                told.send(()).unwrap();
                released.cancelled().await;
                over.cancel();
            })
        };
        let (first, second) = (hold(), hold());
        let over = second.over.clone();
        drop(first);
        tokio::task::yield_now().await;
        assert!(!over.is_cancelled(), "it is held");
        drop(second);
        over.cancelled().await;
        assert_eq!(renewed.try_iter().count(), 1);
        assert!(holds.lock().is_empty());
        drop(hold());
        tokio::task::yield_now().await;
        assert_eq!(renewed.try_iter().count(), 1, "begun anew");
    }

    #[tokio::test]
    async fn whoever_holds_a_session_hears_that_it_is_over() {
        let holds = Arc::new(Holds::default());
        let session = id("ses_0000000000000000000001");
        let held = holds.hold(session, |over, _| async move { over.cancel() });
        held.over().await;
        let joined = holds.hold(session, |_, _| async { unreachable!() });
        joined.over().await;
    }
}
