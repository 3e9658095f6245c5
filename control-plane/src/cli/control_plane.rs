//! A control plane running in this process.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::failure::Failure;
use crate::{
    app::App,
    clock::Ambient,
    config::Config,
    error::Result,
    lifecycle::{DRAIN_BOUND, Drained, Shutdown},
    metrics::Metrics,
    serve::Server,
};

/// How long background work and connections may take to end after the calls.
const CLOSE_BOUND: Duration = Duration::from_secs(5);

/// Services and listeners, serving.
pub(super) struct ControlPlane {
    app: Arc<App>,
    serving: JoinHandle<Result<()>>,
}

impl ControlPlane {
    /// Opens the services on a migrated database and serves bound listeners.
    pub(super) async fn start(config: &Config, ambient: Ambient, server: Server) -> Result<Self> {
        let app = Arc::new(App::open(config, ambient).await?);
        let metrics = Metrics::new(app.started_at);
        let serving = tokio::spawn(server.run(Arc::clone(&app), metrics));
        Ok(Self { app, serving })
    }

    /// The services.
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// Ends when serving ends without being told to, and tells why.
    pub(super) async fn failed(&mut self) -> Failure {
        match (&mut self.serving).await {
            Ok(Ok(())) => Failure::internal("serving ended by itself"),
            Ok(Err(error)) => error.into(),
            Err(error) => Failure::internal(format!("serving ended: {error}")),
        }
    }

    /// Lets calls in flight end, then background work, each for a bounded time.
    pub(super) async fn stop(mut self, shutdown: &Shutdown) {
        shutdown.begin();
        self.app.stop.cancel();
        if !self.serving.is_finished() {
            let drained = shutdown.drain(DRAIN_BOUND, &mut self.serving).await;
            if matches!(drained, Drained::CutShort) {
                tracing::warn!("some calls did not end in time and are cut off");
                self.serving.abort();
            }
        }
        let Some(app) = Arc::into_inner(self.app) else {
            tracing::debug!("a call that was cut off still holds the services");
            return;
        };
        if tokio::time::timeout(CLOSE_BOUND, app.close())
            .await
            .is_err()
        {
            tracing::warn!("background work did not end in time");
        }
    }
}
