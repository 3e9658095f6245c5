//! A gRPC channel to the control plane: TCP, TLS, HTTP/2, connected when it is
//! first used and again after every break, at the first address that answers,
//! and replaced when the machine has another certificate to show.

mod address;
mod gate;
mod serving;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

pub use address::{Addresses, ParseServerAddressError, ServerAddress};
use arc_swap::ArcSwap;
use authguardian_proto::status::to_status;
use futures::{
    FutureExt,
    future::{BoxFuture, Either, Ready},
};
pub use gate::Gate;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
pub use serving::follow_service;
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    body::Body,
    transport::{self, Endpoint, Uri},
};

/// TCP and TLS together, for one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection is broken when a ping has no answer: this often …
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// … and within this time.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The TLS configuration that the next connection uses; renewal swaps it.
pub type TlsSource = Arc<ArcSwap<ClientConfig>>;

/// No connection could be made, so nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to the control plane at `{address}`")]
pub struct DialError {
    /// The address that was tried last.
    pub address: String,
    #[source]
    source: std::io::Error,
}

/// A channel to the control plane. Clones share one connection.
pub struct Channel {
    shared: Arc<Shared>,
    /// Has said that it is ready for a call.
    ready: Option<transport::Channel>,
}

struct Shared {
    dialer: Dialer,
    current: ArcSwap<transport::Channel>,
    replaced: watch::Sender<()>,
    gate: Gate,
}

/// A channel to the first of `addresses` that answers; the one that answered
/// last is tried first. Nothing is connected yet.
pub fn channel(addresses: &[ServerAddress], tls: TlsSource) -> Channel {
    channel_to(Addresses::new(addresses), tls)
}

/// A channel to the first that answers of those that the list has when somebody
/// dials.
pub fn channel_to(addresses: Addresses, tls: TlsSource) -> Channel {
    let dialer = Dialer {
        addresses,
        preferred: Arc::new(AtomicUsize::new(0)),
        tls,
    };
    Channel {
        shared: Arc::new(Shared {
            current: ArcSwap::from_pointee(dialer.open()),
            dialer,
            replaced: watch::Sender::new(()),
            gate: Gate::default(),
        }),
        ready: None,
    }
}

impl Channel {
    /// Lets the next calls go over a connection that is made anew; those under
    /// way end on the one that they began on, streams included: who holds one
    /// learns of it by [`Channel::replacements`].
    pub fn replace(&self) {
        self.shared
            .current
            .store(Arc::new(self.shared.dialer.open()));
        self.shared.replaced.send_replace(());
    }

    /// What calls through this channel and its clones have to pass.
    pub fn gate(&self) -> Gate {
        self.shared.gate.clone()
    }

    /// As [`Channel::replace`], and at the address of this index first.
    fn prefer(&self, index: usize) {
        self.shared.dialer.preferred.store(index, Ordering::Relaxed);
        self.replace();
    }

    /// Where it dials first, by its index, and all addresses.
    fn places(&self) -> (usize, Arc<Vec<ServerAddress>>) {
        let dialer = &self.shared.dialer;
        (
            dialer.preferred.load(Ordering::Relaxed),
            dialer.addresses.get(),
        )
    }

    /// Another channel, to one address alone.
    fn to(&self, address: &ServerAddress) -> Self {
        channel(
            std::slice::from_ref(address),
            self.shared.dialer.tls.clone(),
        )
    }

    /// Changes with every [`Channel::replace`] from now on.
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.shared.replaced.subscribe()
    }

    fn current(&self) -> transport::Channel {
        self.shared.current.load().as_ref().clone()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("addresses", &self.shared.dialer.addresses)
            .finish_non_exhaustive()
    }
}

impl Clone for Channel {
    /// Readiness is for one call.
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            ready: None,
        }
    }
}

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = transport::Error;
    type Future = Either<
        Ready<Result<Self::Response, Self::Error>>,
        <transport::Channel as tower::Service<http::Request<Body>>>::Future,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let current = self.current();
        self.ready.get_or_insert(current).poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let ready = self.ready.take();
        if let Some(problem) = self.shared.gate.refuses(request.uri().path()) {
            let refused = to_status(&problem).into_http();
            return futures::future::ready(Ok(refused)).left_future();
        }
        let mut ready = ready.unwrap_or_else(|| self.current());
        ready.call(request).right_future()
    }
}

#[derive(Clone)]
struct Dialer {
    addresses: Addresses,
    preferred: Arc<AtomicUsize>,
    tls: TlsSource,
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial().await.map(TokioIo::new) })
    }
}

impl Dialer {
    fn open(&self) -> transport::Channel {
        let addresses = u32::try_from(self.addresses.get().len().max(1)).unwrap_or(u32::MAX);
        // the scheme of the endpoint is `http`, since TLS is the dialer's work
        Endpoint::from_static("http://control-plane")
            .origin(Uri::from_static("https://control-plane"))
            .connect_timeout(CONNECT_TIMEOUT * addresses)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(self.clone())
    }

    async fn dial(&self) -> Result<TlsStream<TcpStream>, DialError> {
        let addresses = self.addresses.get();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = DialError {
            address: String::new(),
            source: std::io::Error::other("no address is configured"),
        };
        for step in 0..addresses.len() {
            let index = (first + step) % addresses.len();
            let address = &addresses[index];
            match tokio::time::timeout(CONNECT_TIMEOUT, self.connect(address)).await {
                Ok(Ok(stream)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(stream);
                }
                Ok(Err(source)) => {
                    last = DialError {
                        address: address.to_string(),
                        source,
                    }
                }
                Err(_) => {
                    let source = std::io::ErrorKind::TimedOut.into();
                    last = DialError {
                        address: address.to_string(),
                        source,
                    };
                }
            }
        }
        Err(last)
    }

    async fn connect(&self, address: &ServerAddress) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(address.host.clone()).map_err(std::io::Error::other)?;
        TlsConnector::from(self.tls.load_full())
            .connect(name, stream)
            .await
    }
}

/// Why an error stems from dialling; `None` when the
/// connection stood, so that something may have been sent.
pub fn dial_failure<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a DialError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return Some(dial);
        }
        next = error.source();
    }
    None
}

/// A channel to an address where nobody listens.
#[cfg(test)]
pub(crate) fn nobody() -> Channel {
    let config = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let address = "https://127.0.0.1:1".parse().unwrap();
    channel(&[address], Arc::new(ArcSwap::from_pointee(config)))
}
