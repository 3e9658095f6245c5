//! The http listener with TLS.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use authguardian_memory::Wiping;
use axum::serve::Listener;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{accept::Handshake, server_certificate::ServerCertificate};
use crate::{
    config::{HttpTls, Tls, TlsVersion},
    error::{Error, Result},
    grpc::socket::Socket,
};

/// TLS for the http listener; `None` is clear text.
///
/// # Errors
/// `INVALID_ARGUMENT` with the key of a file that cannot be used.
pub(super) fn handshake(tls: &Tls, own: &Arc<ServerCertificate>) -> Result<Option<Https>> {
    let certificate: Arc<dyn ResolvesServerCert> = match tls.http {
        HttpTls::Off => return Ok(None),
        HttpTls::Own => Arc::clone(own) as _,
        HttpTls::Files => Arc::new(SingleCertAndKey::from(read(
            &tls.certificate_file,
            &tls.key_file,
        )?)),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(tls.min_version))
        .map_err(Error::internal)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Https(TlsAcceptor::from(Arc::new(config)))))
}

/// This version and newer ones.
pub(super) fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
    match min {
        TlsVersion::V1_2 => &ALL,
        TlsVersion::V1_3 => &ALL[..1],
    }
}

/// Checks the files of the http listener before anything is served.
///
/// # Errors
/// As [`handshake`].
pub(super) fn check_files(tls: &Tls) -> Result<()> {
    match tls.http {
        HttpTls::Files => read(&tls.certificate_file, &tls.key_file).map(|_| ()),
        HttpTls::Off | HttpTls::Own => Ok(()),
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| unusable("tls.certificate_file", chain, error))?;
    if certificates.is_empty() {
        let detail = format!("there is no PEM certificate in `{}`", chain.display());
        return Err(Error::invalid("tls.certificate_file", detail));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("tls.key_file", key, error))?;
    CertifiedKey::from_der(certificates, private, &aws_lc_rs::default_provider())
        .map_err(|error| unusable("tls.key_file", key, error))
}

fn unusable(
    field: &'static str,
    path: &Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let detail = format!("`{}` cannot be used: {error}", path.display());
    Error::invalid(field, detail).caused_by(error)
}

/// How TCP connections become those of the http listener.
pub(super) struct Https(TlsAcceptor);

type Stream = Wiping<TlsStream<Wiping<Socket>>>;

impl Handshake for Https {
    type Made = (Stream, SocketAddr);

    async fn make(&self, socket: Socket, address: SocketAddr) -> io::Result<Self::Made> {
        socket.set_nodelay(true)?;
        let stream = self.0.accept(Wiping(socket)).await?;
        Ok((Wiping(stream), address))
    }
}

/// What axum takes its connections from.
pub(super) struct Incoming {
    pub(super) connections: mpsc::Receiver<io::Result<(Stream, SocketAddr)>>,
    pub(super) address: SocketAddr,
}

impl Listener for Incoming {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        loop {
            match self.connections.recv().await {
                Some(Ok(connection)) => return connection,
                Some(Err(_)) => {}
                // stopping; axum is told by itself
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
