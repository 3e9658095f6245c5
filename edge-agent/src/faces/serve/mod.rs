//! Serving connections: one loop for TCP, TLS and the Unix socket. HTTP/1.1
//! only: a connection has one answer on its way at a time, which is what its
//! limit in time can be held by.

use std::{
    convert::Infallible, future::poll_fn, io, net::IpAddr, pin::pin, sync::Arc, task::Poll,
    time::Duration,
};

use authguardian_memory::Wiping;
use authguardian_proto::{
    ids::AgentId,
    places::{Place, Places},
};
use axum::Router;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tower::Service;

mod pace;
mod stream;
mod tls;

pub use tls::{CertificateError, CertificateFiles};

use pace::Pace;
use stream::Stream;

use super::socket::{Listen, Users};
use crate::{
    clock::Clock,
    config::{Limits, TlsVersion},
    core::AnswerBy,
    identity::CertificateSource,
    trust::{PeerMachine, Trust},
};

/// After an accept that failed for want of file descriptors or memory.
const AGAIN: Duration = Duration::from_millis(50);

/// What all connections are served with.
pub struct Server {
    router: Router,
    http: http1::Builder,
    limits: Limits,
    users: Arc<Users>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    connections: TaskTracker,
}

/// The other end of a connection, before anything that it says counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// A user of this machine at the Unix socket, with the only agents that it
    /// may speak for; `None`: all that its credential allows.
    User {
        uid: u32,
        agents: Option<Arc<[AgentId]>>,
    },
    /// An address.
    Address(IpAddr),
}

impl End {
    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::User { .. } => None,
            Self::Address(address) => Some(*address),
        }
    }
}

/// How a listener speaks TLS.
#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    /// Whose certificates clients have to show, where they have to.
    trust: Option<Arc<Trust>>,
}

impl Tls {
    fn machine<S>(&self, stream: &TlsStream<S>) -> Option<PeerMachine> {
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates()?.first()?;
        self.trust.as_ref()?.named(certificate).map(PeerMachine)
    }
}

/// The connection that a request came on, as one of its extensions.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) end: End,
    /// The limit of its next answer.
    pub(super) answer: AnswerBy,
    /// Held by whoever goes on with the connection after HTTP: the edge waits
    /// for it when it ends.
    pub(super) open: TaskTrackerToken,
}

impl Server {
    /// Serves these routes until `stop`.
    pub fn new(
        router: Router,
        limits: &Limits,
        users: Users,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let mut http = http1::Builder::new();
        http.max_header_size(usize::try_from(limits.max_header_bytes).unwrap_or(usize::MAX))
            // the pace of a connection is kept here, its idleness told from a slow head
            .header_read_timeout(None);
        Arc::new(Self {
            // once instead of at every request
            router: router.with_state(()),
            http,
            limits: limits.clone(),
            users: Arc::new(users),
            clock,
            stop,
            connections: TaskTracker::new(),
        })
    }

    /// The same with other routes, for another listener; both end together.
    pub fn beside(&self, router: Router) -> Arc<Self> {
        Arc::new(Self {
            router: router.with_state(()),
            http: self.http.clone(),
            limits: self.limits.clone(),
            users: self.users.clone(),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            connections: self.connections.clone(),
        })
    }

    /// Serves TCP in clear text.
    pub async fn tcp(self: Arc<Self>, listener: TcpListener) {
        self.listen(listener, None).await;
    }

    /// Serves TCP with TLS.
    ///
    /// # Errors
    /// When the crypto library does not know the version.
    pub async fn tls(
        self: Arc<Self>,
        listener: TcpListener,
        certificate: CertificateSource,
        min_version: TlsVersion,
    ) -> Result<(), rustls::Error> {
        let config = tls::config(certificate, min_version)?;
        let tls = Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            trust: None,
        };
        self.listen(listener, Some(tls)).await;
        Ok(())
    }

    /// Serves TCP with TLS to machines of the trust domain only; requests carry which
    /// one they are of, as [`PeerMachine`].
    ///
    /// # Errors
    /// When the crypto library does not know the version.
    pub async fn peers(
        self: Arc<Self>,
        listener: TcpListener,
        certificate: CertificateSource,
        trust: Arc<Trust>,
    ) -> Result<(), rustls::Error> {
        let config = trust.server(certificate)?;
        let tls = Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            trust: Some(trust),
        };
        self.listen(listener, Some(tls)).await;
        Ok(())
    }

    /// Serves the Unix socket.
    pub async fn unix(self: Arc<Self>, listener: UnixListener) {
        self.listen(listener, None).await;
    }

    /// Returns when all connections have ended; none is taken any more.
    pub async fn drained(&self) {
        self.connections.close();
        self.connections.wait().await;
    }

    async fn listen<L: Listen>(self: Arc<Self>, listener: L, tls: Option<Tls>) {
        let places = Places::new(
            self.limits.max_connections,
            self.limits.max_connections_per_address,
        );
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept(&self.users) => accepted,
                () = self.stop.cancelled() => return,
            };
            let (socket, end) = match accepted {
                Ok(Some(accepted)) => accepted,
                Ok(None) => continue,
                Err(error) => {
                    if !is_of_one_connection(&error) {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(AGAIN).await;
                    }
                    continue;
                }
            };
            match places.take(end.address()) {
                Ok(place) => {
                    let serving = self.clone().serve(socket, end, place, tls.clone());
                    self.connections.spawn(serving);
                }
                Err(full) => {
                    tracing::debug!(?end, reason = %full, "a connection was closed at once");
                }
            }
        }
    }

    async fn serve<S>(self: Arc<Self>, socket: S, end: End, taken: Place, tls: Option<Tls>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pace = Pace::begin(&self.limits);
        let line = Line {
            end,
            answer: AnswerBy::default(),
            open: self.connections.token(),
        };
        let stream = Stream {
            socket,
            clock: self.clock.clone(),
            answer: line.answer.clone(),
            pace: pace.clone(),
            send_timeout: self.limits.send_timeout(),
            held_up: None,
            has_read: false,
            _place: taken,
        };
        let Some(tls) = tls else {
            return self.speak(stream, line, None, &pace).await;
        };
        let handshake = tls.acceptor.accept(stream);
        let handshake = tokio::time::timeout(self.limits.header_timeout(), handshake);
        match self.stop.run_until_cancelled(handshake).await {
            // what is decrypted has a buffer of its own
            Some(Ok(Ok(stream))) => {
                let machine = tls.machine(&stream);
                self.speak(Wiping(stream), line, machine, &pace).await;
            }
            Some(Ok(Err(error))) => {
                tracing::debug!(%error, end = ?line.end, "the TLS handshake failed");
            }
            Some(Err(_)) => tracing::debug!(end = ?line.end, "the TLS handshake took too long"),
            None => {}
        }
    }

    /// HTTP, until one side ends it, or the client takes too long.
    async fn speak<S>(&self, stream: S, line: Line, machine: Option<PeerMachine>, pace: &Arc<Pace>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|mut request: hyper::Request<hyper::body::Incoming>| {
            let exchange = pace.asked();
            request.extensions_mut().insert(line.clone());
            if let Some(machine) = machine {
                request.extensions_mut().insert(machine);
            }
            let answering = self.router.clone().call(request);
            async move {
                let response = answering.await?;
                Ok::<_, Infallible>(response.map(|body| exchange.with(body)))
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection.with_upgrades());
        let mut stop = pin!(self.stop.child_token().cancelled_owned());
        let mut stopping = false;
        let first = pace.deadline().unwrap_or_else(tokio::time::Instant::now);
        let mut timer = pin!(tokio::time::sleep_until(first));
        let ended = poll_fn(|context| {
            if !stopping && stop.as_mut().poll(context).is_ready() {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(ended));
            }
            // set for an earlier time at once, for a later one when it has run off
            while let Some(deadline) = pace.deadline() {
                if deadline < timer.deadline() {
                    timer.as_mut().reset(deadline);
                }
                if timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                if deadline <= tokio::time::Instant::now() {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        });
        match ended.await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, end = ?line.end, "a connection broke"),
            None => tracing::debug!(end = ?line.end, "a connection took too long"),
        }
    }
}

/// The other end has given up before it was accepted: accept(2), "Error
/// handling".
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
