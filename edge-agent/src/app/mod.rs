//! Putting the edge together and running it.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use authguardian_proto::{
    credential::JoinToken,
    ids::MachineId,
    reason::{Problem, Reason},
};

use futures::FutureExt;
use rmcp::ServerHandler;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    agents::Agents,
    clock::Ambient,
    config::{Alone, Certificate, Config, ConfigError},
    core::{
        BudgetFollower, CertificateFollower, Core, Here, MachineFollower, Rooms, VerifierFollower,
    },
    dial::{Channel, ServerAddress, follow_service},
    endpoints::Endpoints,
    faces::{self, CertificateError, CertificateFiles, Health, MakeHandler, Server, Users},
    freshness::Freshness,
    identity::{
        self, CertificateSource, Identity, IdentityError, JoinError, Renewal, Store, StoreError,
    },
    journal::Journal,
    lifecycle::{self, Addresses},
    replica::{self, Replica},
    slices::{self, Slices},
    upstream::{Feed, Follower, Guard, Sessions, Upstream},
    verify::Verifier,
    witness::Witness,
};

mod peers;
mod reload;

use peers::PeerSide;
pub use reload::Reload;
use reload::{Servers, Used};

/// How long a first start waits for a control plane that is not there yet.
const JOIN_PATIENCE: Duration = Duration::from_mins(1);

/// What a start is told besides the configuration.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// Join with this token when the machine has not joined yet.
    pub join_token: Option<Arc<JoinToken>>,
    /// Written when the edge is ready.
    pub ready_file: Option<PathBuf>,
    /// End when stdin ends.
    pub exit_with_parent: bool,
    /// Reads the configuration again on SIGHUP.
    pub reload: Option<Reload>,
}

/// The edge cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The identity's files cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Joining failed.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// There is no identity and no way to get one.
    #[error(
        "this machine has not joined: run `edge-agent join --server https://host:port --token agj_…` first"
    )]
    NotJoined,
    /// The replica of boards cannot be used.
    #[error("the replica of boards cannot be used: {0}")]
    Replica(#[from] replica::OpenError),
    /// This machine's slices of budgets cannot be used.
    #[error("the slices of budgets cannot be used: {0}")]
    Slices(#[from] slices::OpenError),
    /// The journal of calls cannot be used.
    #[error("the journal of calls cannot be used: {0}")]
    Journal(io::Error),
    /// What is kept of the audit log cannot be used.
    #[error("what is kept of the audit log cannot be used: {0}")]
    Witness(io::Error),
    /// What is known of the control plane's streams cannot be used.
    #[error("what was followed of the control plane's streams cannot be used: {0}")]
    Followed(io::Error),
    /// The client of agents' MCP servers cannot be made.
    #[error("cannot make an HTTP client: {0}")]
    Endpoints(#[from] reqwest::Error),
    /// The CAs that other machines are known by cannot be used.
    #[error("the CAs of the machines cannot be used: {0}")]
    Trust(String),
    /// The faces' certificate cannot be shown.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A socket cannot be bound.
    #[error("cannot listen at `{address}`: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl RunError {
    fn signals(source: io::Error) -> Self {
        Self::System {
            what: "cannot wait for signals",
            source,
        }
    }
}

/// Runs the edge until it is told to stop, with this behind its MCP faces; the
/// configuration is valid.
///
/// # Errors
/// [`RunError`] when it cannot start.
pub async fn run<H: ServerHandler>(
    config: &Config,
    mut options: RunOptions,
    ambient: Ambient,
    make: impl MakeHandler<H>,
) -> Result<(), RunError> {
    let store = Store::open(&config.data.dir)?;
    let token = options.join_token.take();
    let identity = enrolled(&store, config, token, &ambient).await?;
    let users = Users::new(&config.socket)?;
    let shown = Arc::new(ArcSwap::from_pointee(identity.certified_key()?));
    let certificate = Shown::choose(config, &shown)?;
    lifecycle::allow_many_connections();
    let listeners = Listeners::bind(config, users.has_others()).await?;
    let among_peers = PeerSide::open(config, &identity, shown.clone(), &ambient).await?;
    let mut addresses = listeners.addresses(identity.machine_id, certificate.is_some())?;
    addresses.peer = among_peers.address();
    let background = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let tls = Arc::new(ArcSwap::from_pointee(identity.tls()?));
    let servers = Servers::new(config, &identity.server, tls.clone());
    let channel = servers.channel.clone();
    let clock = ambient.clock.clone();
    let freshness = Freshness::new(clock.clone());
    let verifier = Verifier::new(freshness.clone());
    let sessions = sessions(config, &channel, &ambient, &freshness);
    let changed = Arc::new(Notify::new());
    let slices = opened(config, &ambient, Slices::open).await?;
    let followers: Vec<Arc<dyn Follower>> = vec![
        Arc::new(VerifierFollower(verifier.clone())),
        Arc::new(CertificateFollower(changed.clone())),
        Arc::new(MachineFollower(among_peers.trust.clone())),
        Arc::new(BudgetFollower(slices.clone())),
        sessions.clone(),
    ];
    let (id, gate) = (identity.machine_id, channel.gate());
    let guard = opened(config, &ambient, move |dir, _| {
        Guard::open(dir, id, gate).map_err(RunError::Followed)
    });
    let guard = guard.await?;
    let feed = Feed::new(ambient.clone(), freshness, identity.machine_id, followers).guarded(guard);
    let upstream = Upstream::new(channel.clone(), ambient.clone(), sessions, feed.clone());
    let mut hearing = among_peers.hearing(config, &verifier, &ambient);
    let rooms = rooms(config, &among_peers, slices, &ambient, identity.machine_id).await?;
    let id = identity.machine_id;
    let core = Core::new(upstream, verifier, rooms, id, ambient.clone());
    let health = health(&feed, &identity, &core);
    let renewal = Renewal {
        store,
        identity,
        tls,
        shown,
        trust: among_peers.trust.clone(),
        channel: channel.clone(),
        addresses: servers.addresses.clone(),
        ambient,
        changed,
    };
    tasks.spawn(feed.clone().run(channel.clone(), background.clone()));
    let serving = follow_service(channel, core.ambient().clone());
    tasks.spawn(until(&background, serving));
    let peer_address = among_peers.peer_address();
    keep_up(&core, config, peer_address, &mut tasks, &background);
    tasks.spawn(renewal.run(background.clone()));

    let stop = CancellationToken::new();
    let hangups = lifecycle::hangups().map_err(RunError::signals)?;
    reload::apply(&core, config);
    hearing.begin(&core, config, &servers, &mut tasks, &background);
    if let Some(reload) = options.reload {
        let used = Used {
            config: config.clone(),
            gossip: hearing.gossip(),
            servers,
        };
        tasks.spawn(reload.follow(core.clone(), used, hangups.clone(), background.clone()));
    }
    let certificate = certificate.map(|shown| shown.follow(hangups, &mut tasks, &background));
    let routers = faces::routers(&core, make, health, config, &stop);
    let server = Server::new(routers.http, &config.limits, users, clock, stop.clone());
    let websocket = server.beside(routers.websocket);
    listeners.serve(
        &server,
        &websocket,
        config,
        certificate.as_ref(),
        &mut tasks,
    );
    let further = faces::agents_router(&core, &config.limits);
    among_peers.serve(&server, config, hearing.gossip(), further, &mut tasks);
    tracing::info!(http = addresses.url(), socket = %addresses.socket.display(), machine = %addresses.machine_id, "listening");
    let ready = tell_when_ready(core.clone(), feed, options.ready_file, addresses.clone());
    tasks.spawn(until(&background, ready));

    let why = lifecycle::told_to_stop(options.exit_with_parent);
    let why = why.await.map_err(RunError::signals)?;
    tracing::info!(why, "stopping");
    lifecycle::tell_stopping();
    stop.cancel();
    drain(&server).await;
    core.give_slices_back().await;
    background.cancel();
    while tasks.join_next().await.is_some() {}
    remove_socket(&addresses);
    Ok(())
}

/// Some work, until the end of what goes on in the background.
fn until<F: Future>(background: &CancellationToken, work: F) -> impl Future<Output = ()> + use<F> {
    let background = background.clone();
    background.run_until_cancelled_owned(work).map(drop)
}

fn remove_socket(addresses: &Addresses) {
    if let Err(error) = std::fs::remove_file(&addresses.socket) {
        tracing::debug!(%error, "the socket was removed by someone else");
    }
}

/// Starts what keeps the commands' knowledge and leases as they should be.
/// `peer_address`: where other edges call.
fn keep_up(
    core: &Arc<Core>,
    config: &Config,
    peer_address: String,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    tasks.spawn(core.clone().keep_keys(stop.clone()));
    tasks.spawn(core.clone().keep_small(stop.clone()));
    tasks.spawn(core.clone().keep_leases(stop.clone()));
    if !peer_address.is_empty() {
        tasks.spawn(core.clone().keep_telling(stop.clone()));
    }
    tasks.spawn(core.clone().keep_slices(stop.clone()));
    tasks.spawn(core.clone().tend_slices(stop.clone()));
    tasks.spawn(core.clone().keep_lease(peer_address, stop.clone()));
    tasks.spawn(core.clone().follow_registry(stop.clone()));
    tasks.spawn(core.clone().keep_replica(stop.clone()));
    tasks.spawn(core.clone().keep_journal(stop.clone()));
    let every = Duration::from_secs(config.audit.witness_seconds);
    tasks.spawn(core.clone().keep_witness(every, stop.clone()));
}

fn health(feed: &Feed, identity: &Identity, core: &Core) -> Health {
    Health {
        feed: feed.clone(),
        witness: core.witness().clone(),
        machine_id: identity.machine_id,
        machine_name: identity.machine_name.clone(),
        trust_domain: identity.trust_domain.clone(),
    }
}

fn sessions(
    config: &Config,
    channel: &Channel,
    ambient: &Ambient,
    freshness: &Arc<Freshness>,
) -> Arc<Sessions> {
    Sessions::new(
        channel.clone(),
        ambient.clone(),
        freshness.clone(),
        Duration::from_secs(config.replica.offline_seconds),
    )
}

/// What the commands about agents, boards and budgets work on.
async fn rooms(
    config: &Config,
    among_peers: &PeerSide,
    slices: Arc<Slices>,
    ambient: &Ambient,
    machine: MachineId,
) -> Result<Rooms, RunError> {
    let file = config.data.dir.join("agents.json");
    let journal = opened(config, ambient, |dir, ambient| {
        Journal::open(dir, ambient).map_err(RunError::Journal)
    });
    let journal = journal.await?;
    let witness = opened(config, ambient, move |dir, ambient| {
        Witness::open(dir, machine, ambient).map_err(RunError::Witness)
    });
    let witness = witness.await?;
    Ok(Rooms {
        here: open_replica(config, machine, ambient).await?.map(Here::new),
        slices,
        journal,
        witness,
        agents: Arc::new(Agents::open(file, ambient.clock.since_boot())),
        neighbours: among_peers.neighbours.clone(),
        peers: among_peers.peers.clone(),
        endpoints: Arc::new(Endpoints::new(config.peer.endpoint_networks.clone())?),
    })
}

async fn open_replica(
    config: &Config,
    machine: MachineId,
    ambient: &Ambient,
) -> Result<Option<Replica>, RunError> {
    let settings = &config.replica;
    if !settings.enabled {
        return Ok(None);
    }
    let limits = replica::Limits {
        max_bytes: settings.max_bytes,
        cache_bytes: usize::try_from(settings.cache_bytes).unwrap_or(usize::MAX),
        ..replica::Limits::default()
    };
    // the whole file is read where the last process was killed
    let opening = opened(config, ambient, move |dir, ambient| {
        Replica::open(dir, machine, limits, ambient)
    });
    opening.await.map(Some)
}

/// Opens something among what the edge keeps, which waits for the disk.
async fn opened<T: Send + 'static, E: Into<RunError> + Send + 'static>(
    config: &Config,
    ambient: &Ambient,
    open: impl FnOnce(&Path, Ambient) -> Result<T, E> + Send + 'static,
) -> Result<T, RunError> {
    let (dir, ambient) = (config.data.dir.clone(), ambient.clone());
    let opening = tokio::task::spawn_blocking(move || open(&dir, ambient));
    let opened = opening.await.map_err(|source| RunError::System {
        what: "cannot open what the edge keeps",
        source: io::Error::other(source),
    })?;
    opened.map_err(Into::into)
}

/// The machine's identity, got now where a join token was given.
async fn enrolled(
    store: &Store,
    config: &Config,
    token: Option<Arc<JoinToken>>,
    ambient: &Ambient,
) -> Result<Identity, RunError> {
    if let Some(identity) = store.load()? {
        return Ok(identity);
    }
    let (Some(token), Some(server)) = (token, config.server.addresses()?.into_iter().next()) else {
        return Err(RunError::NotJoined);
    };
    let joining = join_patiently(store, &server, &token, ambient);
    let identity = tokio::time::timeout(JOIN_PATIENCE, joining)
        .await
        .unwrap_or_else(|_| {
            let detail = format!("the control plane at `{server}` did not answer in time");
            Err(JoinError::Refused(Problem::new(
                Reason::Unavailable,
                detail,
            )))
        })?;
    tracing::info!(machine = %identity.machine_id, name = identity.machine_name, "joined");
    Ok(identity)
}

async fn join_patiently(
    store: &Store,
    server: &ServerAddress,
    token: &JoinToken,
    ambient: &Ambient,
) -> Result<Identity, JoinError> {
    loop {
        match identity::join(store, server, token).await {
            Err(JoinError::Refused(problem)) if problem.reason == Reason::Unavailable => {
                tracing::warn!(detail = problem.detail, "cannot join yet");
                tokio::time::sleep(ambient.jittered(Duration::from_millis(500))).await;
            }
            outcome => return outcome,
        }
    }
}

/// The bound sockets, before they are served.
struct Listeners {
    http: TcpListener,
    websocket: Option<TcpListener>,
    unix: UnixListener,
    socket: PathBuf,
}

impl Listeners {
    async fn bind(config: &Config, for_others: bool) -> Result<Self, RunError> {
        let http = bind(config.listen.http()?).await?;
        let websocket = match config.listen.websocket()? {
            _ if !config.faces.websocket => None,
            Alone::Nowhere => None,
            Alone::At(address) => Some(bind(address).await?),
            Alone::Beside(address) => bind(address)
                .await
                .inspect_err(|error| tracing::warn!(%error, "WebSocket is at `/ws` only"))
                .ok(),
        };
        let unbound = |source| RunError::Listen {
            address: config.socket().display().to_string(),
            source,
        };
        let socket = std::path::absolute(config.socket()).map_err(unbound)?;
        let unix = faces::bind_unix(&socket, for_others).map_err(unbound)?;
        Ok(Self {
            http,
            websocket,
            unix,
            socket,
        })
    }

    fn addresses(&self, machine_id: MachineId, has_tls: bool) -> Result<Addresses, RunError> {
        let bound = |listener: &TcpListener| {
            listener.local_addr().map_err(|source| RunError::System {
                what: "cannot tell the bound address",
                source,
            })
        };
        Ok(Addresses {
            http: bound(&self.http)?,
            websocket: self.websocket.as_ref().map(bound).transpose()?,
            has_tls,
            peer: None,
            socket: self.socket.clone(),
            machine_id,
        })
    }

    /// Serves all of them until the servers are stopped.
    fn serve(
        self,
        server: &Arc<Server>,
        websocket: &Arc<Server>,
        config: &Config,
        certificate: Option<&CertificateSource>,
        tasks: &mut JoinSet<()>,
    ) {
        let min_version = config.tls.min_version;
        let listeners = [(server, Some(self.http)), (websocket, self.websocket)];
        for (server, listener) in listeners {
            let (Some(listener), server) = (listener, server.clone()) else {
                continue;
            };
            match certificate.cloned() {
                None => tasks.spawn(server.tcp(listener)),
                Some(certificate) => tasks.spawn(async move {
                    if let Err(error) = server.tls(listener, certificate, min_version).await {
                        tracing::error!(%error, "the HTTP faces cannot speak TLS");
                    }
                }),
            };
        }
        tasks.spawn(server.clone().unix(self.unix));
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen {
            address: address.to_string(),
            source,
        })
}

/// The certificate that the faces show.
struct Shown {
    source: CertificateSource,
    /// To be followed.
    files: Option<CertificateFiles>,
}

impl Shown {
    /// What is configured; `None` is clear text.
    fn choose(config: &Config, machine: &CertificateSource) -> Result<Option<Self>, RunError> {
        Ok(match config.tls.certificate() {
            None => None,
            Some(Certificate::Machine) => Some(Self {
                source: machine.clone(),
                files: None,
            }),
            Some(Certificate::Files { chain, key }) => {
                let files = CertificateFiles::open(chain, key)?;
                Some(Self {
                    source: files.source(),
                    files: Some(files),
                })
            }
        })
    }

    /// What is shown, from now on read again when its files change.
    fn follow(
        self,
        hangups: watch::Receiver<u64>,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> CertificateSource {
        if let Some(files) = self.files {
            tasks.spawn(files.follow(hangups, stop.clone()));
        }
        self.source
    }
}

async fn drain(server: &Server) {
    let drained = tokio::time::timeout(lifecycle::DRAIN, server.drained()).await;
    if drained.is_err() {
        tracing::warn!("some calls did not end in time and are cut off");
    }
}

/// Ready is: bound, enrolled, the control plane was heard, and boards are here.
async fn tell_when_ready(core: Arc<Core>, feed: Feed, file: Option<PathBuf>, addresses: Addresses) {
    feed.reached().await;
    core.replica_caught_up().await;
    match lifecycle::tell_ready(file.as_deref(), &addresses) {
        Ok(()) => tracing::info!("ready"),
        Err(error) => tracing::error!(%error, "cannot write the ready file"),
    }
}
