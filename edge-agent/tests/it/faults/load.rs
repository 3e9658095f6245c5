//! Sixty-four clients that ask for grants and end half of them, and repeat
//! every call whose outcome they were not told, with the same request id.

use std::time::Duration;

use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    caller::{Caller, Heard, Target},
    history::{Act, Answer, Call},
};
use crate::wait::DEADLINE;

/// How many clients call at the same time.
pub(super) const CLIENTS: usize = 64;

/// Clients at work.
pub(super) struct Load {
    target: Target,
    stop: CancellationToken,
    clients: JoinSet<Vec<Call>>,
}

impl Load {
    /// Starts the clients; `name` makes their request ids unique.
    pub(super) fn start(target: Target, name: &str) -> Self {
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let worker = Worker {
                caller: Caller::new(target.clone()),
                name: format!("{name}-{number}"),
                stop: stop.clone(),
            };
            clients.spawn(worker.work());
        }
        Self {
            target,
            stop,
            clients,
        }
    }

    /// Waits until so many more attempts were acknowledged.
    pub(super) async fn acknowledges(&self, more: usize) {
        let enough = self.target.heard.borrow().acknowledged + more;
        self.hears(|heard| heard.acknowledged >= enough).await;
    }

    /// Waits until one more attempt was not told its outcome.
    pub(super) async fn misses_an_answer(&self) {
        let before = self.target.heard.borrow().unknown;
        self.hears(|heard| heard.unknown > before).await;
    }

    async fn hears(&self, enough: impl FnMut(&Heard) -> bool) {
        let mut heard = self.target.heard.subscribe();
        let enough = tokio::time::timeout(DEADLINE, heard.wait_for(enough)).await;
        assert!(
            enough.is_ok(),
            "still not after {DEADLINE:?}, but {:?}",
            self.target.heard.borrow()
        );
    }

    /// Time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.target.began.elapsed()
    }

    /// Lets every client finish its call and returns what they did.
    pub(super) async fn stop(self) -> Vec<Call> {
        self.stop.cancel();
        self.clients
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

struct Worker {
    caller: Caller,
    name: String,
    stop: CancellationToken,
}

impl Worker {
    async fn work(self) -> Vec<Call> {
        let mut calls = Vec::new();
        for number in 0.. {
            if self.stop.is_cancelled() {
                break;
            }
            let request = Call::new(format!("{}-ask-{number}", self.name), Act::Request);
            let request = self.carry_out(request).await;
            let granted = request.outcome().cloned();
            calls.push(request);
            let Some(Answer::Granted {
                grant_id,
                token: Some(token),
            }) = granted
            else {
                continue;
            };
            if number % 2 == 0 {
                let act = Act::Revoke { grant_id, token };
                let revocation = Call::new(format!("{}-end-{number}", self.name), act);
                calls.push(self.carry_out(revocation).await);
            } else {
                // a client that did not hear the answer: its repeat may meet the fault
                if let Some(request) = calls.last_mut() {
                    self.caller.resolve(request).await;
                }
            }
        }
        calls
    }

    async fn carry_out(&self, mut call: Call) -> Call {
        self.caller.resolve(&mut call).await;
        call
    }
}

/// Repeats every call once more.
pub(super) async fn repeat_all(target: &Target, calls: Vec<Call>) -> Vec<Call> {
    in_parallel(target, calls, async |caller, mut call| {
        caller.resolve(&mut call).await;
        call
    })
    .await
}

/// Whether tokens are good, in the words of `validate_token`: `valid` or the
/// reason.
pub(super) async fn validate_all(
    target: &Target,
    tokens: Vec<(String, String)>,
) -> Vec<(String, String)> {
    in_parallel(target, tokens, async |caller, (grant_id, token)| {
        (grant_id, caller.validate(&token).await)
    })
    .await
}

/// Does something with every item, as many at a time as there are clients.
async fn in_parallel<T, R, F>(target: &Target, items: Vec<T>, act: F) -> Vec<R>
where
    F: AsyncFn(&Caller, T) -> R,
{
    let (caller, turn) = (Caller::new(target.clone()), Semaphore::new(CLIENTS));
    let one = async |item| {
        let _turn = turn.acquire().await;
        act(&caller, item).await
    };
    futures::future::join_all(items.into_iter().map(one)).await
}
