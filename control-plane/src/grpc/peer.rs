//! What a connection says of its other end.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use authguardian_memory::{Wiping, wipe_spare};
use authguardian_proto::ids::MachineId;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{connections::Registered, socket::Socket};
use crate::identity::{AdminCertificate, machine::RENEWABLE};

/// Who is at the other end, as TCP and TLS know it.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The real peer address.
    pub address: IpAddr,
    /// The machine that a verified client certificate names. It may have ended:
    /// see [`Peer::expired`].
    pub machine: Option<MachineId>,
    /// The admin that it names.
    pub admin: Option<AdminCertificate>,
    /// The verified client certificate; `None` when none was shown.
    pub certificate: Option<ClientCertificate>,
}

/// What was read of a client certificate when its connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of the CA certificate that it was verified with.
    pub issuer: [u8; 32],
    /// Its last moment.
    pub ends: OffsetDateTime,
}

impl Peer {
    /// Whether the certificate has ended, before the connection was made or
    /// since: then it counts for its renewal only.
    pub fn expired(&self, now: OffsetDateTime) -> bool {
        self.certificate
            .is_some_and(|certificate| certificate.ends < now)
    }

    /// Whether the certificate may be renewed: it counts, or has not ended for
    /// longer than [`RENEWABLE`].
    pub fn renewable(&self, now: OffsetDateTime) -> bool {
        self.certificate
            .is_some_and(|certificate| now <= certificate.ends + RENEWABLE)
    }
}

/// A TLS connection with its peer, read once when it was made. It breaks when
/// the registry of connections is told to close it.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<Wiping<Socket>>,
    registered: Registered,
}

impl Connection {
    /// Takes a connection after its handshake.
    pub fn new(stream: TlsStream<Wiping<Socket>>, registered: Registered) -> Self {
        Self { stream, registered }
    }

    /// Fails once it is to be closed, and sees to it that the task is woken then.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.registered.poll_closed(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.registered.peer()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_open(cx)?;
        // the last call's credential may stand in it
        wipe_spare(buffer);
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_open(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_open(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_open(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
