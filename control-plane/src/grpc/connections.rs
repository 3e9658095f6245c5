//! The open connections of the gRPC listeners, so that those of one peer can be
//! closed while they live.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::peer::Peer;

/// Every open connection, with who is at its other end.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<HashMap<u64, (Peer, CancellationToken)>>,
    next: AtomicU64,
}

impl Connections {
    /// Takes a connection in. Whoever decides by something that can change
    /// looks at it again **after** this: what changes from now on closes it.
    pub fn register(self: &Arc<Self>, peer: Peer) -> Registered {
        let (id, close) = (
            self.next.fetch_add(1, Ordering::Relaxed),
            CancellationToken::new(),
        );
        self.open().insert(id, (peer, close.clone()));
        Registered {
            id,
            peer,
            closed: Box::pin(close.cancelled_owned()),
            connections: Arc::clone(self),
        }
    }

    /// Closes those whose peer is one of these, with all calls on them;
    /// returns how many.
    pub fn close(&self, mut these: impl FnMut(&Peer) -> bool) -> usize {
        let open = self.open();
        let closing = open.values().filter(|(peer, _)| these(peer));
        closing.map(|(_, close)| close.cancel()).count()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, (Peer, CancellationToken)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the open ones, left when it is dropped.
#[derive(Debug)]
pub struct Registered {
    id: u64,
    peer: Peer,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    connections: Arc<Connections>,
}

impl Registered {
    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Ready once the connection is to be closed.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.closed.as_mut().poll(cx)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn peer(last: u8) -> Peer {
        Peer {
            address: [127, 0, 0, last].into(),
            machine: None,
            admin: None,
            certificate: None,
        }
    }

    #[test]
    fn only_the_connections_of_a_peer_are_closed_and_only_open_ones() {
        let connections = Arc::new(Connections::default());
        let [mut one, mut other] = [1, 2].map(|last| connections.register(peer(last)));
        let gone = connections.register(peer(1));
        drop(gone);
        assert_eq!(connections.close(|of| of.address == peer(1).address), 1);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(one.poll_closed(&mut cx).is_ready());
        assert!(other.poll_closed(&mut cx).is_pending());
    }
}
