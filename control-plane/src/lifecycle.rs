//! Starting and ending a process: signals, the bound on draining, and what the
//! service manager is told.

use std::{future::Future, io, time::Duration};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long calls in flight may take after the wish to stop.
pub const DRAIN_BOUND: Duration = Duration::from_secs(20);

/// The wish to stop, in two steps: the first SIGTERM or SIGINT lets calls in
/// flight end, the second one does not wait for them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    gentle: CancellationToken,
    hard: CancellationToken,
}

/// How draining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained<T> {
    /// The work came to its end.
    Finished(T),
    /// The bound was reached, or a second signal came; the work was dropped.
    CutShort,
}

impl Shutdown {
    /// One that only [`Shutdown::begin`] sets off.
    pub fn manual() -> Self {
        Self::default()
    }

    /// One that SIGTERM and SIGINT set off.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        tokio::spawn(shutdown.clone().watch(terminate, interrupt));
        Ok(shutdown)
    }

    /// Cancelled when no new work is to begin.
    pub fn token(&self) -> CancellationToken {
        self.gentle.clone()
    }

    /// Begins the shutdown.
    pub fn begin(&self) {
        self.gentle.cancel();
    }

    /// Ends when the shutdown has begun.
    pub async fn begun(&self) {
        self.gentle.cancelled().await;
    }

    /// Runs `work` until it ends by itself; once the shutdown has begun, for
    /// `bound` at most.
    pub async fn drain<T>(&self, bound: Duration, work: impl Future<Output = T>) -> Drained<T> {
        let too_late = async {
            self.gentle.cancelled().await;
            tokio::select! {
                () = self.hard.cancelled() => {}
                () = tokio::time::sleep(bound) => {}
            }
        };
        tokio::select! {
            biased;
            outcome = work => Drained::Finished(outcome),
            () = too_late => Drained::CutShort,
        }
    }

    async fn watch(self, mut terminate: Signal, mut interrupt: Signal) {
        for token in [&self.gentle, &self.hard] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
            token.cancel();
        }
    }
}

/// Tells the service manager that the process is ready, and from then on, if
/// it asked for a watchdog, that the runtime still turns. Without a service
/// manager this does nothing.
pub fn notify_ready(shutdown: &Shutdown) {
    notify(&[NotifyState::Ready]);
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let stop = shutdown.hard.clone();
    tokio::spawn(async move {
        // sd_watchdog_enabled(3): half of the limit
        let mut beat = tokio::time::interval(limit / 2);
        while stop.run_until_cancelled(beat.tick()).await.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
    });
}

/// Tells the service manager that the process is stopping.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_ends_in_time_is_waited_for() {
        let shutdown = Shutdown::manual();
        shutdown.begin();
        let work = tokio::task::yield_now();
        assert_eq!(
            shutdown.drain(DRAIN_BOUND, work).await,
            Drained::Finished(())
        );
    }

    #[tokio::test]
    async fn work_that_never_ends_is_cut_short_at_the_bound() {
        let shutdown = Shutdown::manual();
        shutdown.begin();
        let work = std::future::pending::<()>();
        assert_eq!(
            shutdown.drain(Duration::from_millis(1), work).await,
            Drained::CutShort
        );
    }

    #[tokio::test]
    async fn a_second_signal_does_not_wait_for_the_bound() {
        let shutdown = Shutdown::manual();
        shutdown.begin();
        shutdown.hard.cancel();
        let drained = shutdown
            .drain(Duration::MAX / 4, std::future::pending::<()>())
            .await;
        assert_eq!(drained, Drained::CutShort);
    }

    #[tokio::test]
    async fn without_a_shutdown_there_is_no_bound() {
        let shutdown = Shutdown::manual();
        let work = tokio::time::sleep(Duration::from_millis(5));
        assert_eq!(
            shutdown.drain(Duration::ZERO, work).await,
            Drained::Finished(())
        );
    }
}
