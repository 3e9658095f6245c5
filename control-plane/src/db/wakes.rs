//! Word of commits, for who publishes what they have changed.

use tokio::sync::Notify;

/// What a commit has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Some of the change streams.
    Streams,
    /// Nothing but boards, which only their watchers wait for.
    Boards,
}

/// Wakes whoever listens, once for all commits since it last did.
#[derive(Debug, Default)]
pub struct Wakes {
    streams: Notify,
    boards: Notify,
}

impl Wakes {
    /// Something was committed.
    pub fn wake(&self, wake: Wake) {
        match wake {
            Wake::Streams => self.streams.notify_one(),
            Wake::Boards => self.boards.notify_one(),
        }
    }

    /// Waits until something was.
    pub async fn woken(&self) -> Wake {
        tokio::select! {
            biased;
            () = self.streams.notified() => Wake::Streams,
            () = self.boards.notified() => Wake::Boards,
        }
    }
}
