//! One control plane's services on a database of the test's own.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use authguardian_proto::{
    credential::{self, ApiKey},
    ids::{AgentId, MachineId},
    network::Networks,
    rate::RateLimits,
    zone::Zone,
};
use control_plane::{
    app::{self, App},
    audit::{Actor, Context},
    clock::{Ambient, Clock, Entropy, ManualClock, SharedClock, SystemClock},
    config::Config,
    error::Result,
    grants::{Ask, Decision},
    identity::{Session, Terms, api_key::NewApiKey, ca::RequestedKey, join::NewJoinToken},
    registry::PutAgent,
    testing::TestDatabase,
};
use tempfile::TempDir;
use time::macros::datetime;

/// The roadmap's justification.
pub(crate) const JUSTIFICATION: &str = "Q4 analysis task";

pub(crate) struct Rig {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) database: Arc<TestDatabase>,
    pub(crate) config: Config,
    files: Arc<TempDir>,
}

impl Rig {
    /// Opens a control plane at a fixed time.
    pub(crate) async fn open() -> Self {
        Self::open_at(datetime!(2026-11-23 09:30 UTC)).await
    }

    /// Opens one at the real time, as TLS checks certificates by it.
    pub(crate) async fn open_now() -> Self {
        Self::open_at(SystemClock::default().now()).await
    }

    async fn open_at(time: time::OffsetDateTime) -> Self {
        let database = Arc::new(TestDatabase::new().await);
        let files = Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(files.path().join("master.key"), "07".repeat(32)).unwrap();
        let mut config = Config::default();
        config.database.url = database.url().into();
        config.database.max_connections = 16;
        "example.org".clone_into(&mut config.identity.trust_domain);
        config.identity.master_key_file = files.path().join("master.key");
        config.identity.key_publication_seconds = 1;
        config.listen.admin_socket = files.path().join("admin.sock");
        for address in [
            &mut config.listen.http,
            &mut config.listen.admin_grpc,
            &mut config.listen.edge_grpc,
        ] {
            *address = "127.0.0.1:0".parse().unwrap();
        }
        app::migrate(config.database.url.expose()).await.unwrap();
        let clock = Arc::new(ManualClock::at(time));
        let app = open_app(&config, clock.clone(), seed()).await.unwrap();
        Self {
            app,
            clock,
            database,
            config,
            files,
        }
    }

    /// A second control plane on the same database.
    pub(crate) async fn beside(&self) -> Self {
        let app = open_app(&self.config, self.clock.clone(), seed())
            .await
            .unwrap();
        Self {
            app,
            clock: Arc::clone(&self.clock),
            database: Arc::clone(&self.database),
            config: self.config.clone(),
            files: Arc::clone(&self.files),
        }
    }

    /// Ends the control plane, does something to its database, and opens it
    /// again.
    pub(crate) async fn reopened_after(self, act: impl AsyncFnOnce(&sqlx::PgPool)) -> Self {
        let app = Arc::into_inner(self.app).expect("nobody else has the control plane");
        app.close().await;
        act(self.database.pool()).await;
        let app = open_app(&self.config, self.clock.clone(), seed())
            .await
            .unwrap();
        Self { app, ..self }
    }

    /// One with the same keys on another database, which this one was restored to.
    pub(crate) async fn on(&self, url: &str) -> Self {
        let mut config = self.config.clone();
        config.database.url = url.to_owned().into();
        let app = open_app(&config, self.clock.clone(), seed()).await.unwrap();
        Self {
            app,
            clock: Arc::clone(&self.clock),
            database: Arc::clone(&self.database),
            config,
            files: Arc::clone(&self.files),
        }
    }

    /// An enrolled machine.
    pub(crate) async fn machine(&self, name: &str) -> MachineId {
        self.machine_for(name, Terms::default()).await
    }

    /// An enrolled machine for something.
    pub(crate) async fn machine_for(&self, name: &str, terms: Terms) -> MachineId {
        let new = NewJoinToken {
            terms,
            ..NewJoinToken::of(name.parse().unwrap())
        };
        let (text, _) = self
            .app
            .identity
            .create_join_token(admin(), new)
            .await
            .unwrap();
        let token: credential::JoinToken = text.unwrap().parse().unwrap();
        self.app
            .identity
            .join(anonymous(), &token, &requested_key().1)
            .await
            .unwrap()
            .machine_id
    }

    /// A registered key for these agents.
    pub(crate) async fn api_key(&self, agents: &[&str], validator: bool) -> ApiKey {
        let seed = self.app.ambient.entropy.bytes::<32>();
        let draft = ApiKey::new(
            authguardian_proto::ids::ApiKeyId::from_uuid(self.app.ambient.uuid()),
            seed,
        );
        let new = NewApiKey {
            name: "test".to_owned(),
            public_key: draft.public_key().unwrap(),
            agent_ids: agents.iter().map(|agent| agent.parse().unwrap()).collect(),
            validator,
            expires_at: None,
            rate_limits: RateLimits::default(),
            allowed_networks: Networks::default(),
        };
        let registered = self
            .app
            .identity
            .create_api_key(admin(), new)
            .await
            .unwrap();
        ApiKey::new(registered.id, seed)
    }

    /// A session of a key at a machine.
    pub(crate) async fn session(&self, machine: MachineId, key: &ApiKey) -> Arc<Session> {
        let (nonce, _) = self
            .app
            .identity
            .create_challenge(machine, key.id())
            .await
            .unwrap();
        let signature = key.sign_nonce(&nonce).unwrap();
        self.app
            .identity
            .create_session(
                anonymous(),
                machine,
                key.id(),
                &nonce,
                &signature,
                Zone::LocalMachine,
            )
            .await
            .unwrap()
            .session
    }

    /// data_analyst with trust 800 at an enrolled machine, its key not a validator.
    pub(crate) async fn analyst(&self) -> Arc<Session> {
        self.agent("data_analyst", 800).await
    }

    /// An agent with trust, its own key and a session at a machine of its own.
    pub(crate) async fn agent(&self, name: &str, trust: u32) -> Arc<Session> {
        let agent: AgentId = name.parse().unwrap();
        self.app
            .agents
            .put(admin(), put(&agent, trust))
            .await
            .unwrap();
        let machine = self
            .machine(&format!("host-of-{}", name.replace('_', "-")))
            .await;
        let key = self.api_key(&[name], false).await;
        self.session(machine, &key).await
    }

    /// A grant like the roadmap's, for the session's first agent.
    pub(crate) async fn granted(&self, session: &Arc<Session>) -> Decision {
        self.request(session, ask(session)).await.unwrap()
    }

    pub(crate) async fn request(&self, session: &Arc<Session>, ask: Ask) -> Result<Decision> {
        self.app
            .grants
            .request(caller(session), Arc::clone(session), ask)
            .await
    }
}

/// What the roadmap's example asks for, for the session's first agent.
pub(crate) fn ask(session: &Session) -> Ask {
    Ask {
        agent_id: session.agents[0].clone(),
        resource_type: "SAP_API".parse().unwrap(),
        justification: JUSTIFICATION.to_owned(),
        scope: None,
        ttl_seconds: None,
    }
}

/// The context of a session's call.
pub(crate) fn caller(session: &Session) -> Context {
    Context {
        actor: Actor::Agent(None, session.api_key_id),
        machine_id: Some(session.machine),
        peer: None,
        zone: Some(session.zone),
        request_id: None,
        trace_id: None,
    }
}

/// The same context with a request id.
pub(crate) fn with_id(mut context: Context, request_id: &str) -> Context {
    context.request_id = Some(request_id.parse().unwrap());
    context
}

pub(crate) fn admin() -> Context {
    Context::system()
}

pub(crate) fn anonymous() -> Context {
    Context {
        actor: Actor::Anonymous,
        ..Context::system()
    }
}

/// A machine's key and what its signing request says of it.
pub(crate) fn requested_key() -> (rcgen::KeyPair, RequestedKey) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let requested = RequestedKey::from_csr(csr.der()).unwrap();
    (key, requested)
}

pub(crate) async fn open_app(config: &Config, clock: SharedClock, seed: u64) -> Result<Arc<App>> {
    let ambient = Ambient {
        clock,
        entropy: Arc::new(Entropy::from_seed(seed)),
    };
    App::open(config, ambient).await.map(Arc::new)
}

/// An agent as an operator puts it.
pub(crate) fn put(agent: &AgentId, trust: u32) -> PutAgent {
    PutAgent {
        id: agent.clone(),
        trust,
        description: String::new(),
    }
}

/// Another one for each control plane: the same seed would make the same keys.
fn seed() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
