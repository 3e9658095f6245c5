//! The bench as a machine of its own, that calls the control plane as an edge
//! does: one HTTP/2 connection with mutual TLS, a session as credential.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use authguardian_proto::{
    credential::ApiKey,
    grants::v1::{Outcome, RequestPermissionRequest, grant_service_client::GrantServiceClient},
    identity::v1::{
        CreateChallengeRequest, CreateSessionRequest, session_service_client::SessionServiceClient,
    },
    zone::Zone,
};
use edge_agent::{
    dial::{self, Channel, ServerAddress, TlsSource},
    identity::{self, Store},
};
use tonic::metadata::{Ascii, MetadataValue};

use crate::{
    load::{self, Client},
    system::{AGENT, JUSTIFICATION, RESOURCE_TYPE, System, TTL_SECONDS},
};

/// A machine that has joined.
pub(crate) struct Machine {
    server: ServerAddress,
    tls: TlsSource,
    api_key: String,
}

impl Machine {
    /// Joins.
    pub(crate) async fn join(system: &mut System) -> Result<Self> {
        let server = system.control_plane.server()?;
        let dir = tempfile::tempdir()?;
        let token = system.join_token()?.parse()?;
        let identity = identity::join(&Store::open(dir.path())?, &server, &token).await?;
        Ok(Self {
            server,
            tls: Arc::new(ArcSwap::from_pointee(identity.tls()?)),
            api_key: system.api_key.clone(),
        })
    }

    /// So many clients on one connection, for the runtime that calls this.
    pub(crate) async fn clients(&self, count: usize) -> Result<Vec<Asker>> {
        let channel = dial::channel(std::slice::from_ref(&self.server), self.tls.clone());
        let bearer = log_in(&channel, &self.api_key).await?;
        let asker = Asker {
            grants: GrantServiceClient::new(channel),
            bearer,
        };
        Ok(vec![asker; count])
    }

    /// So many grants' tokens.
    pub(crate) fn tokens(&self, count: usize) -> Result<Vec<String>> {
        let collect = async {
            let left = Arc::new(AtomicU64::new(count as u64));
            let mut tasks = Vec::new();
            for mut asker in self.clients(64).await? {
                let left = left.clone();
                let one_less = |left: u64| left.checked_sub(1);
                tasks.push(tokio::spawn(async move {
                    let mut tokens = Vec::new();
                    while left
                        .try_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                        .is_ok()
                    {
                        tokens.push(asker.ask().await?);
                    }
                    Ok::<_, anyhow::Error>(tokens)
                }));
            }
            let mut tokens = Vec::with_capacity(count);
            for task in tasks {
                tokens.append(&mut task.await??);
            }
            Ok(tokens)
        };
        load::on_own_thread(collect)
    }
}

/// Logs a key in through the machine of a channel: the credential of its calls.
pub(crate) async fn log_in(channel: &Channel, api_key: &str) -> Result<MetadataValue<Ascii>> {
    let key: ApiKey = api_key.parse()?;
    let mut sessions = SessionServiceClient::new(channel.clone());
    let challenge = sessions
        .create_challenge(CreateChallengeRequest {
            api_key_id: key.id().to_string(),
        })
        .await?
        .into_inner();
    let signature = key.sign_nonce(&challenge.nonce).context("a usable key")?;
    let session = sessions
        .create_session(CreateSessionRequest {
            api_key_id: key.id().to_string(),
            nonce: challenge.nonce,
            signature,
            zone: Zone::LocalMachine.to_proto().into(),
            client_address: String::new(),
        })
        .await?
        .into_inner();
    Ok(format!("Bearer {}", session.session_token).parse()?)
}

/// Asks for grants by gRPC.
#[derive(Clone)]
pub(crate) struct Asker {
    grants: GrantServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
}

impl Client for Asker {
    async fn call(&mut self) -> Result<()> {
        self.ask().await.map(drop)
    }
}

impl Asker {
    /// Asks for a grant and returns its token.
    async fn ask(&mut self) -> Result<String> {
        let mut request = tonic::Request::new(RequestPermissionRequest {
            agent_id: AGENT.to_owned(),
            resource_type: RESOURCE_TYPE.to_owned(),
            justification: JUSTIFICATION.to_owned(),
            scope: String::new(),
            ttl_seconds: TTL_SECONDS,
            request_id: next_request_id(),
        });
        request
            .metadata_mut()
            .insert("authorization", self.bearer.clone());
        let response = self.grants.request_permission(request).await?.into_inner();
        let decision = response.decision.context("a decision")?;
        if decision.outcome() != Outcome::Granted || decision.token.is_empty() {
            bail!("not granted: {decision:?}");
        }
        Ok(decision.token)
    }
}

/// Never the same on one database, which lives no longer than this process.
pub(crate) fn next_request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
