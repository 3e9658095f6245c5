//! tonic with one unary call that does nothing, over mutual TLS.

use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use authguardian_proto::identity::v1::{
    CreateChallengeRequest, CreateChallengeResponse, CreateSessionRequest, CreateSessionResponse,
    EndSessionRequest, EndSessionResponse, GetSessionRequest, GetSessionResponse,
    RenewSessionRequest, RenewSessionResponse,
    session_service_client::SessionServiceClient,
    session_service_server::{SessionService, SessionServiceServer},
};
use edge_agent::dial::{self, Channel, ServerAddress};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use super::{Ready, listen, tell_ready};
use crate::load::Client;

/// What a client has to know and to show, PEM.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Credentials {
    authority: String,
    certificate: String,
    key: String,
}

struct Answers;

#[tonic::async_trait]
impl SessionService for Answers {
    async fn create_challenge(
        &self,
        _: Request<CreateChallengeRequest>,
    ) -> Result<Response<CreateChallengeResponse>, Status> {
        Ok(Response::new(CreateChallengeResponse {
            nonce: vec![7; 32],
            expires_at: None,
        }))
    }

    async fn create_session(
        &self,
        _: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        Err(Status::unimplemented("not trivial"))
    }

    async fn get_session(
        &self,
        _: Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        Err(Status::unimplemented("not trivial"))
    }

    async fn renew_session(
        &self,
        _: Request<RenewSessionRequest>,
    ) -> Result<Response<RenewSessionResponse>, Status> {
        Err(Status::unimplemented("not trivial"))
    }

    async fn end_session(
        &self,
        _: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionResponse>, Status> {
        Err(Status::unimplemented("not trivial"))
    }
}

pub(super) async fn serve() -> Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let issue = || -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        let certificate = params.signed_by(&key, &authority)?;
        Ok((certificate.pem(), key.serialize_pem()))
    };
    let ((own, own_key), (certificate, key)) = (issue()?, issue()?);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(own, own_key))
        .client_ca_root(Certificate::from_pem(authority.pem()));

    let listener = listen().await?;
    tell_ready(&Ready {
        address: listener.local_addr()?,
        credentials: Some(Credentials {
            authority: authority.pem(),
            certificate,
            key,
        }),
    })?;
    Server::builder()
        .tls_config(tls)?
        .add_service(SessionServiceServer::new(Answers))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

impl Ready {
    /// So many clients on one connection, for the runtime that calls this.
    pub(crate) fn grpc_clients(&self, count: usize) -> Result<Vec<Caller>> {
        let credentials = self.credentials.as_ref().context("it is the gRPC server")?;
        let server: ServerAddress = format!("https://{}", self.address).parse()?;
        let tls = Arc::new(ArcSwap::from_pointee(credentials.tls()?));
        let caller = Caller(SessionServiceClient::new(dial::channel(&[server], tls)));
        Ok(vec![caller; count])
    }
}

impl Credentials {
    fn tls(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes())?)?;
        let chain = vec![CertificateDer::from_pem_slice(self.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// Asks for nothing.
#[derive(Clone)]
pub(crate) struct Caller(SessionServiceClient<Channel>);

impl Client for Caller {
    async fn call(&mut self) -> Result<()> {
        let request = CreateChallengeRequest {
            api_key_id: "apk_019ab0f3-7d6e-7c59-9d10-0a1b2c3d4e5f".to_owned(),
        };
        self.0.create_challenge(request).await?;
        Ok(())
    }
}
