//! Who may call what: every RPC is tried without credentials and with too low
//! a role, over real listeners. A new RPC that is not in the table fails here.

use std::{collections::BTreeSet, sync::Arc};

use authguardian_proto::{
    DESCRIPTORS,
    reason::{Code, Reason},
    status::from_status,
};
use control_plane::{
    grpc::auth::{Access, TABLE},
    identity::{Role, ca::RequestedKey},
    metrics::Metrics,
    serve::{Addresses, Server},
};
use prost::Message;
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use crate::rig::{Rig, admin, anonymous};

/// A control plane that serves.
struct Serving {
    rig: Rig,
    addresses: Addresses,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    async fn start() -> Self {
        let rig = Rig::open_now().await;
        let server = Server::bind(&rig.config.listen).await.unwrap();
        let addresses = server.addresses;
        let (app, metrics) = (Arc::clone(&rig.app), Metrics::new(rig.app.started_at));
        let task = tokio::spawn(async move { Box::pin(server.run(app, metrics)).await.unwrap() });
        Self {
            rig,
            addresses,
            task,
        }
    }

    async fn stop(self) {
        self.rig.app.stop.cancel();
        self.task.await.unwrap();
    }

    fn ca(&self) -> Certificate {
        Certificate::from_pem(pem(
            "CERTIFICATE",
            self.rig.app.identity.keyring().ca().certificate(),
        ))
    }

    async fn admin(&self) -> Channel {
        connect(
            self.addresses.admin_grpc,
            ClientTlsConfig::new().ca_certificate(self.ca()),
        )
        .await
        .unwrap()
    }

    async fn edge(&self, identity: Option<Identity>) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(self.ca());
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        connect(self.addresses.edge_grpc, tls).await
    }

    /// The certificate of a machine that has joined.
    async fn machine(&self, name: &str) -> Identity {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = rcgen::CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let requested = RequestedKey::from_csr(csr.der()).unwrap();
        let ttl = time::Duration::seconds(600);
        let identity = &self.rig.app.identity;
        let (text, _) = identity
            .create_join_token(admin(), &name.parse().unwrap(), ttl)
            .await
            .unwrap();
        let joined = identity
            .join(anonymous(), &text.unwrap().parse().unwrap(), &requested)
            .await
            .unwrap();
        let chain: String = joined
            .certificate
            .chain
            .iter()
            .map(|certificate| pem("CERTIFICATE", certificate))
            .collect();
        Identity::from_pem(chain, key.serialize_pem())
    }
}

async fn connect(
    address: std::net::SocketAddr,
    tls: ClientTlsConfig,
) -> Result<Channel, tonic::transport::Error> {
    let uri = format!("https://localhost:{}", address.port());
    Endpoint::from_shared(uri)
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

/// Calls a path with an empty message; tells the reason of the refusal, or
/// `None` when it was let through to its service.
async fn call(channel: Channel, path: &'static str, bearer: Option<&str>) -> Option<Reason> {
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

#[test]
fn the_table_lists_every_rpc_and_nothing_else() {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut rpcs = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                rpcs.insert(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    let listed: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(rpcs, listed);
    assert_eq!(listed.len(), TABLE.len(), "no path twice");
}

#[tokio::test]
async fn every_rpc_is_refused_without_credentials_and_with_too_low_a_role() {
    let serving = Serving::start().await;
    let identity = &serving.rig.app.identity;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        let (text, _) = identity
            .create_admin_token(admin(), "test", role, None)
            .await
            .unwrap();
        tokens.push((role, text.unwrap()));
    }
    let admin_channel = serving.admin().await;
    let nobody = serving.edge(None).await.unwrap();
    let machine = serving
        .edge(Some(serving.machine("host").await))
        .await
        .unwrap();
    for (path, access) in TABLE {
        match access {
            // the request itself carries the credential
            Access::Open => assert_eq!(
                call(nobody.clone(), path, None).await,
                Some(Reason::JoinTokenInvalid),
                "{path}"
            ),
            Access::Machine => {
                assert_eq!(
                    call(nobody.clone(), path, None).await,
                    Some(Reason::Unauthenticated),
                    "{path}"
                );
            }
            Access::Session => {
                assert_eq!(
                    call(nobody.clone(), path, None).await,
                    Some(Reason::Unauthenticated),
                    "{path}"
                );
                for token in [None, Some("rubbish")] {
                    let refused = call(machine.clone(), path, token).await;
                    assert_eq!(refused, Some(Reason::Unauthenticated), "{path} {token:?}");
                }
            }
            Access::Role(needed) => {
                for token in [None, Some("rubbish")] {
                    let refused = call(admin_channel.clone(), path, token).await;
                    assert_eq!(refused, Some(Reason::Unauthenticated), "{path} {token:?}");
                }
                for (role, token) in &tokens {
                    let refused = call(admin_channel.clone(), path, Some(token)).await;
                    let wanted = (role < needed).then_some(Reason::PermissionDenied);
                    assert_eq!(refused, wanted, "{path} as {}", role.as_str());
                }
            }
        }
    }
    for (path, token) in [
        ("/authguardian.secret.v1.NoService/NoMethod", None),
        ("/", None),
    ] {
        assert_eq!(
            call(admin_channel.clone(), path, token).await,
            Some(Reason::PermissionDenied)
        );
    }
    serving.stop().await;
}

#[tokio::test]
async fn an_edge_with_a_foreign_certificate_gets_no_connection() {
    let serving = Serving::start().await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::default();
    let own = serving.machine("host").await;
    drop(own);
    let name = "spiffe://example.org/machine/mch_0000000000000000000001";
    params.subject_alt_names = vec![rcgen::SanType::URI(name.try_into().unwrap())];
    let foreign = params.self_signed(&key).unwrap();
    let identity = Identity::from_pem(pem("CERTIFICATE", foreign.der()), key.serialize_pem());
    let refused = match serving.edge(Some(identity)).await {
        Err(_) => true,
        // TLS 1.3: the client may learn of the refusal with its first call only
        Ok(channel) => {
            let mut grpc = Grpc::new(channel);
            let codec: ProstCodec<(), ()> = ProstCodec::default();
            let path = PathAndQuery::from_static("/authguardian.events.v1.EventService/GetHeads");
            grpc.ready().await.is_err() || grpc.unary(Request::new(()), path, codec).await.is_err()
        }
    };
    assert!(refused);
    serving.stop().await;
}

#[tokio::test]
async fn refused_calls_stand_in_the_audit_log_equal_ones_as_one_with_a_count() {
    let serving = Serving::start().await;
    let nobody = serving.admin().await;
    for _ in 0..50 {
        call(
            nobody.clone(),
            "/authguardian.status.v1.StatusService/GetStatus",
            None,
        )
        .await;
    }
    // the app's own job may have written them already
    serving.rig.app.refusals.flush().await.unwrap();
    let written = async || -> (i64, i64) {
        sqlx::query_as(
            "SELECT count(*), coalesce(sum(count), 0)::bigint FROM audit_entry
             WHERE action = 'call.refuse' AND caller = 'anonymous' AND reason = 'UNAUTHENTICATED'
               AND peer_address = '127.0.0.1' AND subject LIKE '%/GetStatus'",
        )
        .fetch_one(serving.rig.database.pool())
        .await
        .unwrap()
    };
    let told = async {
        loop {
            let (rows, calls) = written().await;
            if calls == 50 {
                break rows;
            }
            tokio::task::yield_now().await;
        }
    };
    let rows = tokio::time::timeout(crate::wait::DEADLINE, told)
        .await
        .expect("all are told");
    assert!(rows <= 5, "{rows} rows: the test's clock stands still");
    serving.stop().await;
}
