//! `serve`: the control plane as a daemon.

use clap::Args;

use super::{ConfigArgs, ambient, control_plane::ControlPlane, failure::Failure};
use crate::{
    lifecycle::{Shutdown, notify_ready, notify_stopping},
    serve::Server,
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  control-plane serve --config /etc/authguardian/control-plane.toml
  AUTHGUARDIAN_DATABASE__URL=postgres://ag@db/ag control-plane serve --set log.format=json

SIGTERM and SIGINT let calls in flight end, for 20 s at most; a second one does
not wait. The schema has to be there: run `control-plane migrate` first.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

impl ServeArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        telemetry::install(&config.log).map_err(|error| Failure::internal(error.to_string()))?;
        telemetry::keep_memory_private();
        let shutdown = Shutdown::on_signals()
            .map_err(|error| Failure::internal(format!("signals cannot be handled: {error}")))?;
        let server = Server::bind(&config).await?;
        let addresses = server.addresses;
        let mut control_plane = tokio::select! {
            started = ControlPlane::start(&config, ambient()?, server) => started?,
            () = shutdown.begun() => return Ok(()),
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            http = %addresses.http,
            admin_grpc = %addresses.admin_grpc,
            edge_grpc = %addresses.edge_grpc,
            database = %config.database.url,
            "ready"
        );
        notify_ready(&shutdown);
        let outcome = tokio::select! {
            () = shutdown.begun() => Ok(()),
            failure = control_plane.failed() => Err(failure),
        };
        notify_stopping();
        control_plane.stop(&shutdown).await;
        outcome
    }
}
