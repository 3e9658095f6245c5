//! TLS of the gRPC listeners: our own CA on both sides.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use authguardian_memory::Wiping;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::App,
    error::{Error, Result},
    grpc::peer::{Connection, Peer},
    identity::ca,
};

/// How long a server certificate lives; it is replaced at half of that.
const SERVER_CERTIFICATE: time::Duration = time::Duration::days(7);

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many handshakes are under way at the most.
const HANDSHAKES: usize = 256;

/// The server certificate in use; new connections get the newest.
#[derive(Debug)]
pub(super) struct ServerCertificate(ArcSwap<CertifiedKey>);

impl ServerCertificate {
    pub(super) fn issue(app: &App) -> Result<Arc<Self>> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certify(app)?))))
    }

    /// Replaces the certificate at half of its life, until `stop`.
    pub(super) async fn renew(self: Arc<Self>, app: Arc<App>, stop: CancellationToken) {
        let half = SERVER_CERTIFICATE.unsigned_abs() / 2;
        loop {
            tokio::select! {
                () = tokio::time::sleep(half.mul_f64(app.ambient.entropy.jitter())) => {}
                () = stop.cancelled() => return,
            }
            match certify(&app) {
                Ok(key) => self.0.store(Arc::new(key)),
                Err(error) => tracing::error!(%error, "cannot renew the server certificate"),
            }
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certify(app: &App) -> Result<CertifiedKey> {
    let now = app.ambient.clock.now();
    let settings = app.identity.settings();
    let identity = app.identity.keyring().ca().certify_server(
        &settings.server_names,
        &settings.trust_domain,
        &app.ambient.entropy,
        now,
        now + SERVER_CERTIFICATE,
    )?;
    let key = aws_lc_rs::sign::any_supported_type(&identity.key).map_err(Error::internal)?;
    Ok(CertifiedKey::new(identity.chain, key))
}

/// TLS for edges: a client certificate is verified where one is shown, and
/// only `Join` is served without.
pub(super) fn edge_config(app: &App, certificate: Arc<ServerCertificate>) -> Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for ca in app.identity.keyring().ca_certificates() {
        roots.add(ca.clone()).map_err(Error::internal)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(Error::internal)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::internal)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    Ok(with_http2(config))
}

/// TLS for admins, who show a token instead of a certificate.
pub(super) fn admin_config(certificate: Arc<ServerCertificate>) -> Result<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(Error::internal)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    Ok(with_http2(config))
}

fn with_http2(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Accepts connections until `stop`; those whose handshake is done come out.
/// A slow or broken handshake holds up nobody else.
pub(super) fn accept(
    listener: TcpListener,
    config: ServerConfig,
    trust_domain: &str,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> mpsc::Receiver<std::io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(64);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (trust_domain, stop, handshakes) = (
        Arc::<str>::from(trust_domain),
        stop.clone(),
        Arc::new(Semaphore::new(HANDSHAKES)),
    );
    let tracker = tasks.clone();
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
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
                return;
            };
            let (acceptor, trust_domain, ready) =
                (acceptor.clone(), Arc::clone(&trust_domain), ready.clone());
            tracker.spawn(async move {
                let shaken = tokio::time::timeout(
                    HANDSHAKE,
                    handshake(&acceptor, stream, address, &trust_domain),
                )
                .await;
                drop(permit);
                match shaken {
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

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    trust_domain: &str,
) -> std::io::Result<Connection> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(Wiping(stream)).await?;
    let machine = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(|leaf| ca::machine_of(leaf, trust_domain));
    Ok(Connection::new(
        stream,
        Peer {
            address: address.ip(),
            machine,
        },
    ))
}
