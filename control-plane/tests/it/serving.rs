//! A control plane whose gRPC listeners are served, and calls to them.

use std::sync::Arc;

use authguardian_proto::{
    ids::AdminTokenId,
    reason::{Code, Reason},
    status::from_status,
};
use control_plane::{
    config::Config,
    identity::{Role, join::NewJoinToken},
    metrics::Metrics,
    serve::{Addresses, Server},
};
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use crate::rig::{Rig, admin, anonymous, requested_key};

/// A control plane that serves.
pub(crate) struct Serving {
    pub(crate) rig: Rig,
    pub(crate) addresses: Addresses,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// One whose listeners are configured differently.
    pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        let mut rig = Rig::open_now().await;
        configure(&mut rig.config);
        Self::of(rig).await
    }

    /// A second one on the same database.
    pub(crate) async fn beside(&self) -> Self {
        Self::of(self.rig.beside().await).await
    }

    async fn of(rig: Rig) -> Self {
        let server = Server::bind(&rig.config).await.unwrap();
        let addresses = server.addresses;
        let (app, metrics) = (Arc::clone(&rig.app), Metrics::new(rig.app.started_at));
        let task = tokio::spawn(async move { Box::pin(server.run(app, metrics)).await.unwrap() });
        Self {
            rig,
            addresses,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.rig.app.stop.cancel();
        self.task.await.unwrap();
    }

    pub(crate) fn ca(&self) -> Certificate {
        Certificate::from_pem(pem(
            "CERTIFICATE",
            self.rig.app.identity.keyring().ca().certificate(),
        ))
    }

    pub(crate) async fn admin(&self) -> Channel {
        self.admin_by(None).await.unwrap()
    }

    /// A connection to the admin listener with a client certificate.
    pub(crate) async fn admin_by(
        &self,
        identity: Option<Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        self.connect(self.addresses.admin_grpc, self.ca(), identity)
            .await
    }

    /// A connection to the admin socket.
    pub(crate) async fn socket(&self) -> Channel {
        let path = self.rig.config.listen.admin_socket.to_str().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix:{path}")).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub(crate) async fn edge(
        &self,
        identity: Option<Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        self.connect(self.addresses.edge_grpc, self.ca(), identity)
            .await
    }

    /// A connection to one of its listeners that trusts this CA alone.
    pub(crate) async fn connect(
        &self,
        address: std::net::SocketAddr,
        ca: Certificate,
        identity: Option<Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(ca);
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let uri = format!("https://localhost:{}", address.port());
        Endpoint::from_shared(uri)
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect()
            .await
    }

    /// Fails unless an edge with this certificate gets no connection.
    pub(crate) async fn is_shut_out(&self, identity: Option<Identity>) {
        let refused = match self.edge(identity).await {
            Err(_) => true,
            // TLS 1.3: the client may learn of the refusal with its first call only
            Ok(channel) => {
                let mut grpc = Grpc::new(channel);
                let codec: ProstCodec<(), ()> = ProstCodec::default();
                let path =
                    PathAndQuery::from_static("/authguardian.events.v1.EventService/GetHeads");
                grpc.ready().await.is_err()
                    || grpc.unary(Request::new(()), path, codec).await.is_err()
            }
        };
        assert!(refused, "a connection was made");
    }

    /// The certificate of a machine that has joined.
    pub(crate) async fn machine(&self, name: &str) -> Identity {
        let (key, requested) = requested_key();
        let identity = &self.rig.app.identity;
        let new = NewJoinToken::of(name.parse().unwrap());
        let (text, _) = identity.create_join_token(admin(), new).await.unwrap();
        let joined = identity
            .join(anonymous(), &text.unwrap().parse().unwrap(), &requested)
            .await
            .unwrap();
        pem_identity(&joined.certificate.chain, &key)
    }

    /// The certificate of a new admin, which lives for a day.
    pub(crate) async fn admin_certificate(&self, role: Role) -> (Identity, AdminTokenId) {
        let (key, requested) = requested_key();
        let ttl = time::Duration::days(1);
        let identity = &self.rig.app.identity;
        let made = identity
            .create_admin_certificate(admin(), "test", role, ttl, &requested)
            .await
            .unwrap();
        (pem_identity(&made.chain, &key), made.info.id)
    }

    /// What only who has the CA's key could make: the name of an admin, for a
    /// key that is not this admin's.
    pub(crate) fn impostor(&self, id: AdminTokenId) -> Identity {
        let (key, requested) = requested_key();
        let app = &self.rig.app;
        let now = app.ambient.clock.now();
        let until = now + time::Duration::days(1);
        let keyring = app.identity.keyring();
        let entropy = &app.ambient.entropy;
        let certified =
            keyring
                .ca()
                .certify_admin("example.org", id, &requested, entropy, now, until);
        let chain: Vec<Vec<u8>> = certified.unwrap().iter().map(|der| der.to_vec()).collect();
        pem_identity(&chain, &key)
    }
}

fn pem_identity(chain: &[Vec<u8>], key: &rcgen::KeyPair) -> Identity {
    let chain: String = chain
        .iter()
        .map(|certificate| pem("CERTIFICATE", certificate))
        .collect();
    Identity::from_pem(chain, key.serialize_pem())
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

/// Calls a path with an empty message; tells the reason of the refusal, or
/// `None` when it was let through to its service.
pub(crate) async fn call(
    channel: Channel,
    path: &'static str,
    bearer: Option<&str>,
) -> Option<Reason> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = Request::new(());
    if let Some(token) = bearer {
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let codec: ProstCodec<(), ()> = ProstCodec::default();
    let answer = grpc
        .server_streaming(request, PathAndQuery::from_static(path), codec)
        .await;
    let problem = from_status(&answer.err()?);
    matches!(
        problem.reason.code(),
        Code::Unauthenticated | Code::PermissionDenied
    )
    .then_some(problem.reason)
}
