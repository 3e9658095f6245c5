//! A connection to the edge of another machine: TCP, then TLS.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::trust::{OwnCertificate, PeerAddress, PeerMachine, Trust};

/// TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    trust: Arc<Trust>,
    own: OwnCertificate,
}

/// A connection with the machine that is at its other end.
pub(super) struct PeerStream {
    stream: TokioIo<TlsStream<TcpStream>>,
    machine: PeerMachine,
}

impl Connector {
    pub(super) fn new(trust: Arc<Trust>, own: OwnCertificate) -> Self {
        Self { trust, own }
    }

    /// The expected machine stands in the URI as its user information.
    async fn connect(self, uri: Uri) -> io::Result<PeerStream> {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (expected, address) = match authority.split_once('@') {
            Some((machine, address)) => (Some(machine.parse().map_err(io::Error::other)?), address),
            None => (None, authority),
        };
        let address: PeerAddress = address.parse().map_err(io::Error::other)?;
        let name = address.server_name();
        let name = name.ok_or_else(|| io::Error::other("no name to dial"))?;
        let tls = self.trust.client(self.own.clone(), expected);
        let tls = TlsConnector::from(Arc::new(tls.map_err(io::Error::other)?));
        let stream = TcpStream::connect((address.host(), address.port())).await?;
        stream.set_nodelay(true)?;
        let stream = tls.connect(name, stream).await?;
        let (_, session) = stream.get_ref();
        let machine = session
            .peer_certificates()
            .and_then(<[_]>::first)
            .and_then(|certificate| self.trust.named(certificate))
            .ok_or_else(|| io::Error::other("it has shown no certificate"))?;
        Ok(PeerStream {
            stream: TokioIo::new(stream),
            machine: PeerMachine(machine),
        })
    }
}

impl tower::Service<Uri> for Connector {
    type Response = PeerStream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<PeerStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async move {
            tokio::time::timeout(CONNECT_TIMEOUT, connecting)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        })
    }
}

impl Connection for PeerStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.machine)
    }
}

impl Read for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }
}
