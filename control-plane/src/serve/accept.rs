//! Taking connections in: from allowed networks, while there are places, and
//! so that nobody who is silent holds up others.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use authguardian_proto::{network::Networks, places::Places, reason::Reason};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::handshakes::Handshakes;
use crate::{
    audit::{Actor, Context, Refusals},
    config::Limits,
    grpc::socket::Socket,
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// After an accept that failed for want of file descriptors or memory.
const AGAIN: Duration = Duration::from_millis(50);

/// Who gets in at a listener.
pub(super) struct Door {
    /// As the configuration calls the listener.
    name: &'static str,
    /// Empty: all.
    networks: Networks,
    places: Arc<Places>,
    handshakes: Handshakes,
    refusals: Arc<Refusals>,
}

/// What a TCP connection becomes.
pub(super) trait Handshake: Send + Sync + 'static {
    /// A connection that can be served.
    type Made: Send + 'static;

    /// Makes it.
    fn make(
        &self,
        socket: Socket,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Made>> + Send;
}

impl Door {
    pub(super) fn new(
        name: &'static str,
        networks: Networks,
        limits: &Limits,
        refusals: Arc<Refusals>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            networks,
            places: Places::new(limits.max_connections, limits.max_connections_per_address),
            handshakes: Handshakes::default(),
            refusals,
        })
    }

    /// A place, where one is to be had.
    fn admit(&self, stream: TcpStream, address: SocketAddr) -> Option<Socket> {
        let peer = address.ip().to_canonical();
        if !self.networks.is_empty() && !self.networks.contains(peer) {
            let context = Context {
                actor: Actor::Anonymous,
                peer: Some(peer),
                ..Context::system()
            };
            self.refusals
                .note(context, self.name, Reason::AddressNotAllowed);
            return None;
        }
        match self.places.take(Some(peer)) {
            Ok(place) => Some(Socket::new(stream, place)),
            Err(full) => {
                tracing::debug!(listener = self.name, %peer, reason = %full, "a connection was closed at once");
                None
            }
        }
    }
}

/// Accepts connections until `stop`; those whose handshake is done come out.
pub(super) fn accept<H: Handshake>(
    listener: TcpListener,
    door: Arc<Door>,
    handshake: H,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> mpsc::Receiver<io::Result<H::Made>> {
    let (ready, connections) = mpsc::channel(64);
    let (handshake, tracker, stop) = (Arc::new(handshake), tasks.clone(), stop.clone());
    tasks.spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // out of file descriptors and the like: let others finish first
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            let Some(socket) = door.admit(stream, address) else {
                continue;
            };
            let (door, handshake, ready) =
                (Arc::clone(&door), Arc::clone(&handshake), ready.clone());
            tracker.spawn(async move {
                let mut turn = door.handshakes.begin();
                let making = tokio::time::timeout(HANDSHAKE, handshake.make(socket, address));
                let made = tokio::select! {
                    made = making => made,
                    () = turn.is_over() => {
                        tracing::debug!(peer = %address, "a TLS handshake made room for newer ones");
                        return;
                    }
                };
                drop(turn);
                match made {
                    Ok(Ok(connection)) => {
                        // closed only while stopping
                        let _ = ready.send(Ok(connection)).await;
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(%error, peer = %address, "TLS handshake failed");
                    }
                    Err(_) => tracing::debug!(peer = %address, "TLS handshake took too long"),
                }
            });
        }
    });
    connections
}
