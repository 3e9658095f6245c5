//! `dev`: the whole system on this machine. PostgreSQL, the control plane in
//! this process, one edge, a demo API key and admin token; all of it ends with
//! this process, however that ends.

mod demo;
mod directory;
mod edge;
mod ports;
mod ready;
mod standbys;
mod summary;

use std::path::PathBuf;

use clap::Args;

use self::{
    demo::Demo,
    directory::Directory,
    edge::{Edge, EdgeOptions},
    ports::Ports,
    ready::{ReadyFile, Running},
    standbys::{Standbys, write_quorum},
};
use super::{ambient, control_plane::ControlPlane, failure::Failure};
use crate::{
    app,
    clock::Ambient,
    config::{Config, Sources},
    db::private_postgres::{self, PrivatePostgres},
    lifecycle::Shutdown,
    serve::Server,
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  control-plane dev
  control-plane dev --replicas 3
  control-plane dev --port-base 4000 --data-dir ./dev --ready-file ./dev/ready.json

Ports from N: N http, N+1 edge HTTP, N+2 edge WebSocket (reserved), N+3 admin
gRPC, N+4 edge gRPC. Ctrl-C stops all of it; a second start on the same
directory finds its data and keys. AUTHGUARDIAN_LOG__LEVEL=info shows the logs.

With --replicas 3, two standbys follow the PostgreSQL server, and every write is
acknowledged once one of them has it too. None of them takes over: failover is
for Patroni, see deploy/ha/README.md.

Not for production: the demo API key and admin token lie in the data directory
and in the ready file, readable for you alone.";

/// What logs are shown unless the environment says otherwise.
const LOG_LEVEL: &str = "warn";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DevArgs {
    /// Where everything is kept; else $XDG_STATE_HOME/authguardian/dev or
    /// ~/.local/state/authguardian/dev, as root /var/lib/authguardian/dev
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// First of five ports
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u16).range(1..=65_531))]
    port_base: u16,

    /// PostgreSQL servers, the primary among them: a majority confirms every
    /// write; no failover
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=5))]
    replicas: u16,

    /// Written, as JSON, when everything is ready; removed at a clean stop
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// What a run works with.
struct Dev {
    directory: Directory,
    replicas: u16,
    ports: Ports,
    config: Config,
    ready_file: Option<ReadyFile>,
    edge_binary: PathBuf,
    ambient: Ambient,
    shutdown: Shutdown,
}

impl DevArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let ready_file = self.ready_file.as_deref().map(ReadyFile::new).transpose()?;
        if let Some(file) = &ready_file {
            file.remove()?;
        }
        let ports = Ports::from(self.port_base);
        ports.check()?;
        let edge_binary = edge::binary()?;
        let directory = Directory::create(self.data_dir)?;
        let config = config(&directory, &ports, self.replicas)?;
        telemetry::install(&config.log).map_err(|error| Failure::internal(error.to_string()))?;
        telemetry::keep_memory_private();
        let shutdown = Shutdown::on_signals()
            .map_err(|error| Failure::internal(format!("signals cannot be handled: {error}")))?;
        let ambient = ambient()?;
        let mut dev = Dev {
            directory,
            replicas: self.replicas,
            ports,
            config,
            ready_file,
            edge_binary,
            ambient,
            shutdown,
        };
        dev.run().await
    }
}

impl Dev {
    /// Each level starts one part, runs what stands on it, and stops it again.
    async fn run(&mut self) -> Result<(), Failure> {
        let server = Server::bind(&self.config).await?;
        progress(&format!(
            "PostgreSQL in {}",
            self.directory.postgres().display()
        ));
        let mut postgres = self.unless_stopped(self.start_postgres()).await?;
        self.config.database.url = postgres.url().into();
        let outcome = self.with_standbys(&mut postgres, server).await;
        postgres.stop().await;
        progress("stopped");
        outcome
    }

    async fn with_standbys(
        &self,
        postgres: &mut PrivatePostgres,
        server: Server,
    ) -> Result<(), Failure> {
        if self.replicas > 1 {
            progress("standbys");
        }
        let starting = Standbys::start(postgres, &self.directory, self.replicas);
        let mut standbys = self.unless_stopped(starting).await?;
        let outcome = self.with_postgres(postgres, &mut standbys, server).await;
        standbys.stop().await;
        outcome
    }

    async fn with_postgres(
        &self,
        postgres: &mut PrivatePostgres,
        standbys: &mut Standbys,
        server: Server,
    ) -> Result<(), Failure> {
        progress("control plane");
        let mut control_plane = self
            .unless_stopped(self.start_control_plane(server))
            .await?;
        let outcome = self
            .with_control_plane(postgres, standbys, &mut control_plane)
            .await;
        control_plane.stop(&self.shutdown).await;
        outcome
    }

    async fn with_control_plane(
        &self,
        postgres: &mut PrivatePostgres,
        standbys: &mut Standbys,
        control_plane: &mut ControlPlane,
    ) -> Result<(), Failure> {
        let app = control_plane.app();
        self.directory
            .write_ca(app.identity.keyring().ca_certificates())?;
        let demo = self
            .unless_stopped(demo::prepare(app, &self.directory))
            .await?;
        progress("edge");
        let options = EdgeOptions {
            binary: self.edge_binary.clone(),
            data_dir: self.directory.edge(),
            ready_file: self.directory.edge_ready(),
            socket: self.directory.edge_socket(),
            listen: Ports::address(self.ports.edge_http),
            listen_websocket: Ports::address(self.ports.edge_ws),
            server: format!("https://{}", Ports::address(self.ports.edge_grpc)),
            log_level: self.config.log.level.clone(),
            join_token: demo.join_token.clone(),
        };
        let edge = self.unless_stopped(Edge::start(options)).await?;
        let outcome = match self.directory.forget_join_token() {
            Ok(()) => {
                self.with_edge(postgres, standbys, control_plane, &demo)
                    .await
            }
            Err(failure) => Err(failure),
        };
        edge.stop().await;
        outcome
    }

    /// Tells that all is ready, and keeps it running until the wish to stop.
    async fn with_edge(
        &self,
        postgres: &mut PrivatePostgres,
        standbys: &mut Standbys,
        control_plane: &mut ControlPlane,
        demo: &Demo,
    ) -> Result<(), Failure> {
        let running = Running::new(&self.ports, &self.directory, demo, &postgres.url());
        if let Some(file) = &self.ready_file {
            file.write(&running)?;
        }
        summary::print(&running, &self.directory, &self.edge_binary);
        let outcome = self.keep_running(postgres, standbys, control_plane).await;
        progress("stopping");
        if let Some(file) = &self.ready_file {
            file.remove()?;
        }
        outcome
    }

    async fn keep_running(
        &self,
        postgres: &mut PrivatePostgres,
        standbys: &mut Standbys,
        control_plane: &mut ControlPlane,
    ) -> Result<(), Failure> {
        loop {
            let status = tokio::select! {
                () = self.shutdown.begun() => return Ok(()),
                failure = control_plane.failed() => return Err(failure),
                status = postgres.exited() => status,
                again = standbys.keep_running(postgres, &self.directory) => {
                    again?;
                    continue;
                }
            };
            let status = status.map_or_else(
                || "for an unknown reason".to_owned(),
                |status| format!("with {status}"),
            );
            progress(&format!("PostgreSQL ended {status}; starting it again"));
            let again = self.unless_stopped(self.start_postgres()).await?;
            let moved = again.url() != postgres.url();
            *postgres = again;
            if moved {
                return Err(Failure::internal(
                    "PostgreSQL came back under another address; start again",
                ));
            }
        }
    }

    async fn start_postgres(&self) -> Result<PrivatePostgres, Failure> {
        let options = private_postgres::Options::new(self.directory.postgres());
        PrivatePostgres::start(options)
            .await
            .map_err(|error| Failure::internal(error.to_string()))
    }

    async fn start_control_plane(&self, server: Server) -> Result<ControlPlane, Failure> {
        self.directory.ensure_master_key(&self.ambient)?;
        app::migrate(self.config.database.url.expose()).await?;
        Ok(ControlPlane::start(&self.config, self.ambient.clone(), server).await?)
    }

    /// Gives up on `starting` when the wish to stop comes first.
    async fn unless_stopped<T>(
        &self,
        starting: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            started = starting => started,
            () = self.shutdown.begun() => Err(Failure::Told(130)),
        }
    }
}

/// The environment may say how to log; everything else is ours to decide.
fn config(directory: &Directory, ports: &Ports, replicas: u16) -> Result<Config, Failure> {
    let mut sources = Sources::of_process(None, Vec::new());
    sources
        .environment
        .retain(|(name, _)| name.starts_with("AUTHGUARDIAN_LOG__"));
    sources.environment.insert(
        0,
        ("AUTHGUARDIAN_LOG__LEVEL".to_owned(), LOG_LEVEL.to_owned()),
    );
    let mut config = Config::load(&sources)?;
    config.listen = ports.listen();
    config.database.write_quorum = u32::from(write_quorum(replicas));
    // nothing is ever promoted here
    config.database.leader_lease.watchdog = replicas > 1;
    config.identity.master_key_file = directory.master_key();
    config.validate()?;
    Ok(config)
}

/// Tells what is being done; whether anybody reads it does not matter.
fn progress(text: &str) {
    let _ = super::output::note(&format!("dev: {text}"));
}
