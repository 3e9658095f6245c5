//! TLS of the gRPC listeners: our own CA on both sides.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use authguardian_memory::Wiping;
use rustls::{
    ServerConfig, SupportedProtocolVersion, crypto::aws_lc_rs, server::NoServerSessionStorage,
    time_provider::TimeProvider,
};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    accept::Handshake,
    client_verifier::{ClientVerifier, Ended, is_among},
    https,
    server_certificate::ServerCertificate,
};
use crate::{
    app::App,
    clock::SharedClock,
    config::TlsVersion,
    error::{Error, Result},
    grpc::{
        connections::Connections,
        peer::{ClientCertificate, Connection, Peer},
        socket::Socket,
    },
    identity::{Identity, ca},
};

/// What a listener needs for its handshakes.
pub(super) struct Tls {
    config: ServerConfig,
    verifier: Arc<ClientVerifier>,
}

/// TLS for edges: a client certificate is verified where one is shown, and
/// only `Join` is served without.
pub(super) fn edge(app: &App, certificate: Arc<ServerCertificate>) -> Result<Tls> {
    let versions = [&rustls::version::TLS13];
    tls(app, certificate, Ended::MayRenew, &versions)
}

/// TLS for admins, who show a certificate, or a token instead.
pub(super) fn admin(
    app: &App,
    certificate: Arc<ServerCertificate>,
    min_version: TlsVersion,
) -> Result<Tls> {
    let versions = https::versions(min_version);
    tls(app, certificate, Ended::Refused, versions)
}

fn tls(
    app: &App,
    certificate: Arc<ServerCertificate>,
    ended: Ended,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Tls> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let identity = app.identity.clone();
    let verifier =
        ClientVerifier::new(identity, ended, Arc::clone(&provider)).map_err(Error::internal)?;
    let config = ServerConfig::builder_with_details(provider, time_of(app))
        .with_protocol_versions(versions)
        .map_err(Error::internal)?
        .with_client_cert_verifier(verifier.clone())
        .with_cert_resolver(certificate);
    Ok(Tls {
        config: finish(config),
        verifier,
    })
}

/// HTTP/2, and nothing to resume: a resumed connection would keep a client
/// certificate that was verified long ago.
fn finish(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// The clock that everything else goes by.
#[derive(Debug)]
struct ServerTime(SharedClock);

impl TimeProvider for ServerTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since_1970 = self.0.now() - OffsetDateTime::UNIX_EPOCH;
        Duration::try_from(since_1970)
            .ok()
            .map(UnixTime::since_unix_epoch)
    }
}

fn time_of(app: &App) -> Arc<ServerTime> {
    Arc::new(ServerTime(app.ambient.clock.clone()))
}

impl Tls {
    /// How TCP connections become ones with TLS, known to the app.
    pub(super) fn handshake(self, app: &App) -> MutualTls {
        MutualTls {
            acceptor: TlsAcceptor::from(Arc::new(self.config)),
            verifier: self.verifier,
            identity: app.identity.clone(),
            connections: Arc::clone(&app.connections),
        }
    }
}

/// How TCP connections become TLS ones.
pub(super) struct MutualTls {
    acceptor: TlsAcceptor,
    verifier: Arc<ClientVerifier>,
    identity: Identity,
    connections: Arc<Connections>,
}

impl Handshake for MutualTls {
    type Made = Connection;

    async fn make(&self, socket: Socket, address: SocketAddr) -> std::io::Result<Connection> {
        socket.set_nodelay(true)?;
        let stream = self.acceptor.accept(Wiping(socket)).await?;
        let peer = self.peer(&stream, address)?;
        let registered = self.connections.register(peer);
        // a CA that was dropped meanwhile closed those that stood before it
        let dropped = peer
            .certificate
            .is_some_and(|certificate| !self.trusts(&certificate));
        if dropped {
            let foreign = rustls::CertificateError::UnknownIssuer;
            return Err(std::io::Error::other(rustls::Error::from(foreign)));
        }
        Ok(Connection::new(stream, registered))
    }
}

impl MutualTls {
    fn peer(
        &self,
        stream: &TlsStream<Wiping<Socket>>,
        address: SocketAddr,
    ) -> std::io::Result<Peer> {
        let chain = stream.get_ref().1.peer_certificates();
        let (mut machine, mut admin, mut certificate) = (None, None, None);
        if let Some(leaf) = chain.and_then(<[_]>::first) {
            let now = ServerTime(self.identity.clock()).current_time();
            let now = now.ok_or(std::io::ErrorKind::Unsupported)?;
            let verified = self
                .verifier
                .verify(leaf, now)
                .map_err(std::io::Error::other)?;
            certificate = Some(verified);
            let trust_domain = &self.identity.settings().trust_domain;
            machine = ca::machine_of(leaf, trust_domain);
            admin = ca::admin_of(leaf, trust_domain);
        }
        Ok(Peer {
            address: address.ip(),
            machine,
            admin,
            certificate,
        })
    }

    fn trusts(&self, certificate: &ClientCertificate) -> bool {
        self.verifier.trusts(&certificate.issuer)
    }
}

/// Closes the connections whose CA was dropped, whenever one is, until `stop`.
pub(super) fn close_distrusted(app: Arc<App>, stop: CancellationToken) -> impl Future<Output = ()> {
    // from now on, and not from when this is polled first
    let mut changes = app.identity.keyring_changes();
    async move {
        loop {
            tokio::select! {
                heard = changes.changed() => if heard.is_err() { return },
                () = stop.cancelled() => return,
            }
            let keyring = app.identity.keyring();
            let closed = app.connections.close(|peer| {
                let certificate = peer.certificate.as_ref();
                certificate.is_some_and(|certificate| !is_among(&certificate.issuer, &keyring))
            });
            if closed > 0 {
                tracing::info!(closed, "closed connections of a CA that no longer counts");
            }
        }
    }
}
