//! The listeners: gRPC for edges, gRPC for admins, HTTP.

mod accept;
mod announce;
mod client_verifier;
mod expulsion;
mod handshakes;
mod https;
mod server_certificate;
mod socket;
mod tls;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use accept::{Door, accept};
use authguardian_discovery::Mdns;
use authguardian_proto::network::Networks;
use authguardian_proto::{
    DESCRIPTORS,
    audit::v1::{
        audit_admin_service_server::AuditAdminServiceServer,
        audit_service_server::AuditServiceServer,
    },
    blackboard::v1::{
        blackboard_admin_service_server::BlackboardAdminServiceServer,
        blackboard_service_server::BlackboardServiceServer,
        replica_service_server::ReplicaServiceServer,
    },
    budgets::v1::{
        budget_admin_service_server::BudgetAdminServiceServer,
        budget_service_server::BudgetServiceServer, slice_service_server::SliceServiceServer,
    },
    events::v1::event_service_server::EventServiceServer,
    grants::v1::{
        grant_admin_service_server::GrantAdminServiceServer,
        grant_service_server::GrantServiceServer,
    },
    identity::v1::{
        admin_token_service_server::AdminTokenServiceServer,
        api_key_service_server::ApiKeyServiceServer,
        bootstrap_service_server::BootstrapServiceServer,
        enrolment_service_server::EnrolmentServiceServer,
        join_token_service_server::JoinTokenServiceServer, key_service_server::KeyServiceServer,
        machine_service_server::MachineServiceServer, rate_service_server::RateServiceServer,
        session_service_server::SessionServiceServer,
        signing_key_admin_service_server::SigningKeyAdminServiceServer,
        suspension_service_server::SuspensionServiceServer,
    },
    policy::v1::{
        policy_service_server::PolicyServiceServer,
        resource_type_service_server::ResourceTypeServiceServer,
    },
    registry::v1::{
        agent_service_server::AgentServiceServer, registry_service_server::RegistryServiceServer,
    },
    status_api::v1::status_service_server::StatusServiceServer,
};
use https::Incoming;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::task::TaskTracker;
use tonic::transport::{Server as Grpc, server::Router};
use tonic_health::server::HealthReporter;
use tower::layer::util::{Identity as NoLayer, Stack};

use self::server_certificate::ServerCertificate;
use crate::{
    app::App,
    config::{Config, Limits, Listen, Tls},
    error::{Error, Result},
    grpc::{
        admin_token::AdminTokens,
        agent::AgentAdmin,
        api_key::ApiKeys,
        audit::Audit,
        audit_admin::AuditAdmin,
        auth::AuthLayer,
        blackboard::{BlackboardAdmin, BlackboardFace, ReplicaFace},
        bootstrap::Bootstrap,
        budgets::{BudgetAdmin, BudgetFace, SliceFace},
        enrolment::Enrolment,
        event::Events,
        grant::GrantFace,
        grant_admin::GrantAdmin,
        join_token::JoinTokens,
        key::Keys,
        machine::Machines,
        policy::PolicyAdmin,
        rate::Rates,
        record::Recorder,
        registry::RegistryFace,
        resource_type::ResourceTypes,
        session::Sessions,
        signing_key::SigningKeys,
        suspension::Suspensions,
        system::System,
    },
    http::{self, Check, HttpState},
    metrics::Metrics,
};

/// How often health is looked at for `grpc.health.v1`.
const HEALTH: Duration = Duration::from_secs(1);

/// How long that may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Bound listeners, not yet serving.
#[derive(Debug)]
pub struct Server {
    http: TcpListener,
    admin: TcpListener,
    /// `None`: not wanted.
    socket: Option<UnixListener>,
    edge: TcpListener,
    /// For whom.
    listen: Listen,
    tls: Tls,
    limits: Limits,
    /// Where they are told of, if anywhere.
    mdns: Option<Mdns>,
    /// Where they are.
    pub addresses: Addresses,
}

/// Where a control plane listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Health, metrics, JWKS.
    pub http: SocketAddr,
    /// gRPC for admins.
    pub admin_grpc: SocketAddr,
    /// gRPC for edges.
    pub edge_grpc: SocketAddr,
}

impl Server {
    /// Binds all listeners.
    ///
    /// # Errors
    /// Names the configuration key of the address that cannot be bound, or of
    /// the certificate that cannot be used.
    pub async fn bind(config: &Config) -> Result<Self> {
        let listen = &config.listen;
        https::check_files(&config.tls)?;
        let bind = async |field: &str, address: SocketAddr| {
            TcpListener::bind(address).await.map_err(|error| {
                Error::invalid(field, format!("cannot listen on `{address}`: {error}"))
                    .caused_by(error)
            })
        };
        let http = bind("listen.http", listen.http).await?;
        let admin = bind("listen.admin_grpc", listen.admin_grpc).await?;
        let edge = bind("listen.edge_grpc", listen.edge_grpc).await?;
        let path = &listen.admin_socket;
        let socket = if path.as_os_str().is_empty() {
            None
        } else {
            let bound = socket::bind(path).map_err(|error| {
                let detail = format!("cannot listen on `{}`: {error}", path.display());
                Error::invalid("listen.admin_socket", detail).caused_by(error)
            });
            Some(bound?)
        };
        let mdns = if config.mdns.enabled {
            let opened = Mdns::open(&config.mdns.interfaces).map_err(|error| {
                Error::invalid("mdns.interfaces", error.to_string()).caused_by(error)
            });
            Some(opened?)
        } else {
            None
        };
        let address = |listener: &TcpListener| listener.local_addr().map_err(Error::internal);
        let addresses = Addresses {
            http: address(&http)?,
            admin_grpc: address(&admin)?,
            edge_grpc: address(&edge)?,
        };
        Ok(Self {
            http,
            admin,
            socket,
            edge,
            listen: listen.clone(),
            tls: config.tls.clone(),
            limits: config.limits.clone(),
            mdns,
            addresses,
        })
    }

    /// Serves until the app's `stop` is cancelled, then lets calls in flight
    /// end; streams are ended.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run(self, app: Arc<App>, metrics: Metrics) -> Result<()> {
        let tasks = TaskTracker::new();
        let certificate = ServerCertificate::issue(app.identity.clone(), app.ambient.clone())?;
        tasks.spawn(Arc::clone(&certificate).renew(app.stop.clone()));
        tasks.spawn(tls::close_distrusted(Arc::clone(&app), app.stop.clone()));
        tasks.spawn(expulsion::close_connections(
            Arc::clone(&app),
            app.stop.clone(),
        ));
        if let Some(mdns) = self.mdns {
            let (app, stop) = (Arc::clone(&app), app.stop.clone());
            tasks.spawn(announce::announce(
                app,
                mdns,
                self.addresses.edge_grpc,
                stop,
            ));
        }
        let door = |name, networks: &Networks| {
            let refusals = Arc::clone(&app.refusals);
            Door::new(name, networks.clone(), &self.limits, refusals)
        };
        let edge_door = door("listen.edge_grpc", &self.listen.edge_allowed_networks);
        let edge = tls::edge(&app, Arc::clone(&certificate))?.handshake(&app);
        let edge = accept(self.edge, edge_door, edge, &tasks, &app.stop);
        let admin_door = door("listen.admin_grpc", &self.listen.admin_allowed_networks);
        let admin = tls::admin(&app, Arc::clone(&certificate), self.tls.min_version)?;
        let admin = accept(
            self.admin,
            admin_door,
            admin.handshake(&app),
            &tasks,
            &app.stop,
        );
        let http_door = door("listen.http", &Networks::default());
        let https = https::handshake(&self.tls, &certificate)?;

        let (health, health_service) = tonic_health::server::health_reporter();
        tasks.spawn(report_health(Arc::clone(&app), metrics.clone(), health));
        let edge_router = edge_services(&app, &metrics).add_service(health_service.clone());
        let admin_router = admin_services(&app, &metrics)?.add_service(health_service);

        let socket_router = guarded(&app, &metrics)
            .add_service(BootstrapServiceServer::new(Bootstrap(app.identity.clone())));

        let stopped = || app.stop.clone().cancelled_owned();
        let serving = async {
            tokio::try_join!(
                async {
                    let incoming = ReceiverStream::new(edge);
                    edge_router
                        .serve_with_incoming_shutdown(incoming, stopped())
                        .await
                        .map_err(Error::internal)
                },
                async {
                    let incoming = ReceiverStream::new(admin);
                    admin_router
                        .serve_with_incoming_shutdown(incoming, stopped())
                        .await
                        .map_err(Error::internal)
                },
                async {
                    let Some(socket) = self.socket else {
                        return Ok(());
                    };
                    socket_router
                        .serve_with_incoming_shutdown(UnixListenerStream::new(socket), stopped())
                        .await
                        .map_err(Error::internal)
                },
                async {
                    let router = http::router(http_state(&app, metrics));
                    let Some(https) = https else {
                        return axum::serve(self.http, router)
                            .with_graceful_shutdown(stopped())
                            .await
                            .map_err(Error::internal);
                    };
                    let incoming = Incoming {
                        connections: accept(self.http, http_door, https, &tasks, &app.stop),
                        address: self.addresses.http,
                    };
                    axum::serve(incoming, router)
                        .with_graceful_shutdown(stopped())
                        .await
                        .map_err(Error::internal)
                },
            )
        };
        let served = Box::pin(serving).await.map(|_| ());
        tasks.close();
        tasks.wait().await;
        served
    }
}

type Guarded = Router<Stack<AuthLayer, NoLayer>>;

fn guarded(app: &App, metrics: &Metrics) -> Grpc<Stack<AuthLayer, NoLayer>> {
    let recorder = Recorder {
        metrics: metrics.clone(),
        refusals: Arc::clone(&app.refusals),
    };
    Grpc::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(4096)
        .layer(AuthLayer::new(app.identity.clone(), recorder))
}

fn edge_services(app: &App, metrics: &Metrics) -> Guarded {
    guarded(app, metrics)
        .add_service(EnrolmentServiceServer::new(Enrolment(app.identity.clone())))
        .add_service(SessionServiceServer::new(Sessions(app.identity.clone())))
        .add_service(RateServiceServer::new(Rates(app.identity.clone())))
        .add_service(KeyServiceServer::new(Keys(app.identity.clone())))
        .add_service(EventServiceServer::new(Events {
            publisher: Arc::clone(&app.publisher),
            grants: app.grants.clone(),
            ambient: app.ambient.clone(),
            stop: app.stop.clone(),
            refusals: Arc::clone(&app.refusals),
            metrics: metrics.clone(),
        }))
        .add_service(GrantServiceServer::new(GrantFace {
            grants: app.grants.clone(),
            policies: app.policies.clone(),
            identity: app.identity.clone(),
        }))
        .add_service(RegistryServiceServer::new(RegistryFace(
            app.registry.clone(),
        )))
        .add_service(BlackboardServiceServer::new(BlackboardFace {
            blackboard: app.blackboard.clone(),
            ambient: app.ambient.clone(),
            stop: app.stop.clone(),
        }))
        .add_service(ReplicaServiceServer::new(ReplicaFace {
            blackboard: app.blackboard.clone(),
            stop: app.stop.clone(),
        }))
        .add_service(SliceServiceServer::new(SliceFace(app.budgets.clone())))
        .add_service(BudgetServiceServer::new(BudgetFace(app.budgets.clone())))
        .add_service(AuditServiceServer::new(audit(app)))
}

fn admin_services(app: &App, metrics: &Metrics) -> Result<Guarded> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(Error::internal)?;
    let system = System {
        db: app.db.clone(),
        identity: app.identity.clone(),
        policies: app.policies.clone(),
        agents: app.agents.clone(),
        grants: app.grants.clone(),
        publisher: Arc::clone(&app.publisher),
        started_at: app.started_at,
    };
    Ok(guarded(app, metrics)
        .add_service(reflection)
        .add_service(StatusServiceServer::new(system))
        .add_service(JoinTokenServiceServer::new(JoinTokens(
            app.identity.clone(),
        )))
        .add_service(MachineServiceServer::new(Machines {
            identity: app.identity.clone(),
            grants: app.grants.clone(),
        }))
        .add_service(ApiKeyServiceServer::new(ApiKeys(app.identity.clone())))
        .add_service(AdminTokenServiceServer::new(AdminTokens(
            app.identity.clone(),
        )))
        .add_service(SigningKeyAdminServiceServer::new(SigningKeys(
            app.identity.clone(),
        )))
        .add_service(SuspensionServiceServer::new(Suspensions {
            identity: app.identity.clone(),
            grants: app.grants.clone(),
        }))
        .add_service(AgentServiceServer::new(AgentAdmin {
            agents: app.agents.clone(),
            grants: app.grants.clone(),
            registry: app.registry.clone(),
        }))
        .add_service(ResourceTypeServiceServer::new(ResourceTypes(
            app.policies.clone(),
        )))
        .add_service(PolicyServiceServer::new(PolicyAdmin(app.policies.clone())))
        .add_service(GrantAdminServiceServer::new(GrantAdmin(app.grants.clone())))
        .add_service(BlackboardAdminServiceServer::new(BlackboardAdmin {
            blackboard: app.blackboard.clone(),
            stop: app.stop.clone(),
        }))
        .add_service(BudgetAdminServiceServer::new(BudgetAdmin(
            app.budgets.clone(),
        )))
        .add_service(AuditAdminServiceServer::new(AuditAdmin {
            db: app.db.clone(),
            ambient: app.ambient.clone(),
            identity: app.identity.clone(),
            stop: app.stop.clone(),
        })))
}

fn audit(app: &App) -> Audit {
    Audit {
        db: app.db.clone(),
        ambient: app.ambient.clone(),
        identity: app.identity.clone(),
    }
}

/// Whether calls would be served now.
async fn checks(app: &App) -> Vec<Check> {
    let database = match app.db.read().await {
        Ok(_) => None,
        Err(error) => Some(error.problem().detail.clone()),
    };
    let quorum = app
        .db
        .quorum
        .check()
        .err()
        .map(|error| error.problem().detail.clone());
    let unopened = (!app.identity.has_keys_of_now())
        .then(|| "the stored signing keys cannot be opened with the master keys here".to_owned());
    vec![
        Check {
            name: "database",
            problem: database,
        },
        Check {
            name: "write_quorum",
            problem: quorum,
        },
        Check {
            name: "signing_keys",
            problem: unopened,
        },
    ]
}

async fn report_health(app: Arc<App>, metrics: Metrics, mut health: HealthReporter) {
    loop {
        let quorum = &app.db.quorum;
        let lease = quorum.lease().and_then(|lease| lease.remaining().ok());
        metrics.database(quorum.copies(), lease.unwrap_or_default());
        // a database that hangs answers no question
        let well = tokio::time::timeout(ANSWER, checks(&app)).await;
        let well = well.is_ok_and(|checks| checks.iter().all(|check| check.problem.is_none()));
        let status = if well && !app.stop.is_cancelled() {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        health.set_service_status("", status).await;
        tokio::select! {
            () = tokio::time::sleep(HEALTH) => {}
            () = app.stop.cancelled() => {
                health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
                // ends the streams of who watches it, which would keep the listeners from closing
                health.clear_service_status("").await;
                return;
            }
        }
    }
}

fn http_state(app: &Arc<App>, metrics: Metrics) -> HttpState {
    let (readiness, jwks) = (Arc::clone(app), Arc::clone(app));
    HttpState {
        readiness: Arc::new(move || {
            let app = Arc::clone(&readiness);
            Box::pin(async move { checks(&app).await })
        }),
        jwks: Arc::new(move || {
            let app = Arc::clone(&jwks);
            Box::pin(async move { app.identity.jwks().await })
        }),
        metrics,
    }
}
