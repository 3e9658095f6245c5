//! Group commit: calls that arrive while a transaction is in flight form the
//! next batch. No timer: a lone caller waits for nobody.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use authguardian_proto::reason::Reason;
use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Confirmation, Db, Retries};
use crate::error::{Error, Result};

/// Most calls in one transaction. 1,000 rows in one give 1.5 times the rate of
/// 100; 512 keeps the wait of the last one short.
pub const MAX_BATCH: usize = 512;

/// Most calls that wait; more are refused at once.
pub const QUEUE: usize = 4096;

/// Most batches of one kind that wait for their confirmation; each holds a
/// connection.
const CONFIRMING: usize = 4;

/// How long a batch may take. Whatever it does itself ends earlier; a database
/// that hangs never would.
const LIMIT: Duration = Duration::from_secs(30);

/// One kind of call that is served in batches, each in one transaction.
pub trait Operation: Send + Sync + 'static {
    /// What a caller wants. Not consumed, so that a batch can be retried by halves.
    type Request: Send + Sync + 'static;
    /// What a caller gets.
    type Reply: Send + 'static;

    /// Batches that are served at the same time. Two let one be judged while
    /// the other is written; more would only be smaller.
    const AT_ONCE: usize = 1;

    /// The database that it works on, whose server may hang and be succeeded: a
    /// batch does not wait for it any longer then. `None`: it waits for none.
    fn db(&self) -> Option<&Db> {
        None
    }

    /// Serves a batch: one reply for each request, in order.
    ///
    /// # Errors
    /// When the transaction as a whole did not commit, or when nobody knows
    /// whether it did (`OUTCOME_UNKNOWN`).
    fn run(
        &self,
        requests: &[Self::Request],
    ) -> impl Future<Output = Result<Served<Self::Reply>>> + Send;
}

/// A batch that was served.
#[derive(Debug)]
pub struct Served<R> {
    /// One for each request, in order.
    pub replies: Vec<Result<R>>,
    /// What they have to wait for before they are told.
    pub confirmation: Confirmation,
}

impl<R> Served<R> {
    /// Replies that can be told at once.
    pub fn now(replies: Vec<Result<R>>) -> Self {
        Self {
            replies,
            confirmation: Confirmation::needless(),
        }
    }
}

/// The way into a batch operation. Cloning it is cheap.
pub struct Batcher<O: Operation> {
    queue: mpsc::Sender<Call<O>>,
}

struct Call<O: Operation> {
    request: O::Request,
    reply: oneshot::Sender<Result<O::Reply>>,
}

impl<O: Operation> Batcher<O> {
    /// Starts the operation's worker; it ends when the last [`Batcher`] is
    /// dropped and the queue is empty.
    pub fn spawn(operation: O) -> Self {
        let (queue, calls) = mpsc::channel(QUEUE);
        tokio::spawn(work(Arc::new(operation), calls));
        Self { queue }
    }

    /// Hands a call in and waits for its own result. Dropping the future while
    /// the call is queued withdraws it; once its transaction has begun, it
    /// runs to its end.
    ///
    /// # Errors
    /// The call's own error; `RESOURCE_EXHAUSTED` when the queue is full.
    pub async fn call(&self, request: O::Request) -> Result<O::Reply> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .try_send(Call { request, reply })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::new(
                    Reason::ResourceExhausted,
                    format!("{QUEUE} calls of this kind are waiting; try again later"),
                ),
                mpsc::error::TrySendError::Closed(_) => stopping(),
            })?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }
}

impl<O: Operation> Clone for Batcher<O> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<O: Operation> std::fmt::Debug for Batcher<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Batcher({} waiting)",
            self.queue.max_capacity() - self.queue.capacity()
        )
    }
}

async fn work<O: Operation>(operation: Arc<O>, mut calls: mpsc::Receiver<Call<O>>) {
    let serving = Arc::new(Semaphore::new(O::AT_ONCE));
    let confirming = Arc::new(Semaphore::new(CONFIRMING));
    let mut batch = Vec::with_capacity(MAX_BATCH);
    // calls gather while the turn is waited for; the semaphore is never closed
    while let Ok(turn) = Arc::clone(&serving).acquire_owned().await {
        if calls.recv_many(&mut batch, MAX_BATCH).await == 0 {
            return;
        }
        batch.retain(|call: &Call<O>| !call.reply.is_closed());
        let (requests, replies): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .map(|call| (call.request, call.reply))
            .unzip();
        if requests.is_empty() {
            continue;
        }
        let (operation, confirming) = (Arc::clone(&operation), Arc::clone(&confirming));
        tokio::spawn(async move {
            // a panic in one batch must not end the operation, nor leave its callers waiting
            let served = AssertUnwindSafe(serve(&*operation, &requests)).catch_unwind();
            if let Ok(parts) = served.await {
                tell(parts, replies, &confirming).await;
                // not before: what waits for confirmation holds a connection
                drop(turn);
            } else {
                tracing::error!("a batch failed");
                let error = Error::new(
                    Reason::OutcomeUnknown,
                    "the control plane failed; repeat the request with the same request id",
                );
                let count = replies.len();
                send(replies, share(error, count));
            }
        });
    }
}

/// Answers each part of a batch once it is confirmed, while the next batch is
/// served; only so many wait at a time.
async fn tell<R: Send + 'static>(
    parts: Vec<Served<R>>,
    replies: Vec<oneshot::Sender<Result<R>>>,
    confirming: &Arc<Semaphore>,
) {
    let mut replies = replies.into_iter();
    for part in parts {
        let waiting: Vec<_> = replies.by_ref().take(part.replies.len()).collect();
        if part.confirmation.is_needless() {
            send(waiting, part.replies);
            continue;
        }
        // never closed
        let Ok(permit) = Arc::clone(confirming).acquire_owned().await else {
            return;
        };
        tokio::spawn(async move {
            match part.confirmation.confirmed().await {
                Ok(()) => send(waiting, part.replies),
                Err(error) => {
                    let count = waiting.len();
                    send(waiting, share(error, count));
                }
            }
            drop(permit);
        });
    }
}

fn send<R>(waiting: Vec<oneshot::Sender<Result<R>>>, results: impl IntoIterator<Item = Result<R>>) {
    for (reply, result) in waiting.into_iter().zip(results) {
        // the caller may have left; its outcome stands all the same
        let _ = reply.send(result);
    }
}

/// Runs a batch; one that PostgreSQL rejects is retried by halves until the
/// bad call is alone. The parts are in the order of the requests.
async fn serve<O: Operation>(operation: &O, requests: &[O::Request]) -> Vec<Served<O::Reply>> {
    let mut parts = Vec::new();
    let mut pending = vec![requests];
    while let Some(part) = pending.pop() {
        match run_whole(operation, part).await {
            Ok(served) => {
                debug_assert_eq!(served.replies.len(), part.len());
                parts.push(served);
            }
            Err(error) if part.len() > 1 && is_rejection(&error) => {
                let (first, second) = part.split_at(part.len() / 2);
                pending.push(second);
                pending.push(first);
            }
            Err(error) => parts.push(Served::now(share(error, part.len()).collect())),
        }
    }
    parts
}

async fn run_whole<O: Operation>(operation: &O, part: &[O::Request]) -> Result<Served<O::Reply>> {
    let mut retries = Retries::default();
    loop {
        match unless_lost(operation.db(), operation.run(part)).await {
            Err(error) => retries.after(error).await?,
            served => return served,
        }
    }
}

/// Work on the database, until its server hangs and is succeeded, and at most
/// for [`LIMIT`].
async fn unless_lost<T>(db: Option<&Db>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(db) = db else { return work.await };
    let done = tokio::time::timeout(LIMIT, db.pools.unless_lost(work)).await;
    done.ok().flatten().unwrap_or_else(|| {
        Err(Error::new(
            Reason::OutcomeUnknown,
            "the database does not answer: it may or may not have happened; repeat the request with the same request id",
        ))
    })
}

/// Whether some call in the batch, and not the server, is at fault.
fn is_rejection(error: &Error) -> bool {
    !matches!(error.reason(), Reason::Unavailable | Reason::OutcomeUnknown)
}

/// The same error for every caller; the cause is logged by the first.
fn share<T>(error: Error, count: usize) -> impl Iterator<Item = Result<T>> {
    let problem = error.problem().clone();
    std::iter::once(Err(error)).chain((1..count).map(move |_| Err(problem.clone().into())))
}

fn stopping() -> Error {
    Error::new(
        Reason::Unavailable,
        "the control plane is stopping; try another or again later",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// Rejects every batch that contains a 13, as PostgreSQL would.
    struct Doubling {
        sizes: Arc<Mutex<Vec<usize>>>,
        gate: Arc<Semaphore>,
    }

    impl Operation for Doubling {
        type Request = u32;
        type Reply = u32;

        async fn run(&self, requests: &[u32]) -> Result<Served<u32>> {
            self.gate.acquire().await.unwrap().forget();
            self.sizes.lock().unwrap().push(requests.len());
            if requests.contains(&13) {
                return Err(Error::internal("value out of range"));
            }
            if requests.contains(&99) {
                return Err(Error::new(Reason::OutcomeUnknown, "lost"));
            }
            Ok(Served::now(requests.iter().map(|n| Ok(n * 2)).collect()))
        }
    }

    fn doubling(permits: usize) -> (Batcher<Doubling>, Arc<Mutex<Vec<usize>>>, Arc<Semaphore>) {
        let sizes = Arc::default();
        let gate = Arc::new(Semaphore::new(permits));
        let operation = Doubling {
            sizes: Arc::clone(&sizes),
            gate: Arc::clone(&gate),
        };
        (Batcher::spawn(operation), sizes, gate)
    }

    /// Calls with each number, all queued while the first is held at the gate.
    async fn call_all(
        numbers: &[u32],
        batcher: &Batcher<Doubling>,
        gate: &Semaphore,
    ) -> Vec<Result<u32>> {
        let calls = numbers.iter().map(|n| batcher.call(*n));
        let all = futures::future::join_all(calls);
        let open = async {
            while batcher.queue.capacity() > QUEUE - numbers.len() + 1 {
                tokio::task::yield_now().await;
            }
            gate.add_permits(Semaphore::MAX_PERMITS / 2);
        };
        tokio::join!(all, open).0
    }

    #[tokio::test]
    async fn calls_in_flight_form_the_next_batch() {
        let (batcher, sizes, gate) = doubling(0);
        let numbers: Vec<u32> = (100..200).collect();
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.call(1).await }
        });
        tokio::task::yield_now().await;
        let replies = call_all(&numbers, &batcher, &gate).await;
        assert_eq!(first.await.unwrap().unwrap(), 2);
        for (n, reply) in numbers.iter().zip(replies) {
            assert_eq!(reply.unwrap(), n * 2);
        }
        assert!(
            sizes.lock().unwrap().len() <= 3,
            "{:?}",
            sizes.lock().unwrap()
        );
    }

    #[tokio::test]
    async fn one_bad_call_fails_alone() {
        let (batcher, _, gate) = doubling(0);
        let numbers: Vec<u32> = (0..64).collect();
        let replies = call_all(&numbers, &batcher, &gate).await;
        for (n, reply) in numbers.iter().zip(replies) {
            match n {
                13 => assert_eq!(reply.unwrap_err().reason(), Reason::Internal),
                n => assert_eq!(reply.unwrap(), n * 2),
            }
        }
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_not_run_again() {
        let (batcher, sizes, gate) = doubling(0);
        let replies = call_all(&[98, 99, 100], &batcher, &gate).await;
        assert!(replies.iter().any(std::result::Result::is_err));
        let runs: usize = sizes.lock().unwrap().iter().sum();
        assert_eq!(runs, 3, "each call ran once");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (batcher, _, gate) = doubling(0);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut calls: Vec<_> = (0..=(QUEUE + MAX_BATCH))
            .map(|_| {
                let batcher = batcher.clone();
                let waiting = Arc::clone(&waiting);
                Box::pin(async move {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    batcher.call(1).await
                })
            })
            .collect();
        let mut refused = 0;
        for call in &mut calls {
            if let std::task::Poll::Ready(result) = futures::poll!(call) {
                assert_eq!(result.unwrap_err().reason(), Reason::ResourceExhausted);
                refused += 1;
            }
        }
        assert!(refused > 0);
        gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    #[tokio::test]
    async fn a_withdrawn_call_is_not_run() {
        let (batcher, sizes, gate) = doubling(0);
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.call(1).await }
        });
        tokio::task::yield_now().await;
        let mut withdrawn = Box::pin(batcher.call(2));
        assert!(futures::poll!(&mut withdrawn).is_pending());
        drop(withdrawn);
        gate.add_permits(10);
        first.await.unwrap().unwrap();
        assert_eq!(batcher.call(3).await.unwrap(), 6);
        assert_eq!(*sizes.lock().unwrap(), [1, 1]);
    }
}
