//! SIGHUP: reading the configuration again.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::peers::seeds;
use crate::{
    config::{Config, ConfigError},
    core::{Core, Gossip, StaticAgent, Tool},
    dial::{self, Addresses, Channel, ServerAddress, TlsSource},
};

/// Reads the configuration as the start did, and checks it.
#[derive(Clone)]
pub struct Reload(Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>);

impl Reload {
    /// By this function.
    pub fn new(read: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Reads it again for each SIGHUP, until `stop`, and does what can be done
    /// while the edge runs. What cannot be used leaves everything as it is.
    pub(super) async fn follow(
        self,
        core: Arc<Core>,
        mut used: Used,
        mut hangups: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        while let Some(Ok(())) = stop.run_until_cancelled(hangups.changed()).await {
            match (self.0)() {
                Ok(config) => {
                    apply(&core, &config);
                    used.take(&config);
                    if config == used.config {
                        tracing::info!("the configuration was read again");
                    } else {
                        tracing::warn!(
                            "the configuration was read again; what is different besides `[tools]`, `[server]`, `discovery.agents` and `discovery.peers` counts after a restart"
                        );
                    }
                }
                Err(error) => tracing::error!(%error, "the configuration from before stays in use"),
            }
        }
    }
}

/// What is in use.
pub(super) struct Used {
    pub(super) config: Config,
    pub(super) servers: Servers,
    pub(super) gossip: Option<Arc<Gossip>>,
}

impl Used {
    /// Uses what it can of another configuration.
    fn take(&mut self, config: &Config) {
        self.servers.configure(config);
        if let Some(gossip) = &self.gossip {
            gossip.set_seeds(seeds(config));
        }
        let used = &mut self.config;
        used.tools = config.tools.clone();
        used.server = config.server.clone();
        used.discovery.agents.clone_from(&config.discovery.agents);
        used.discovery.peers.clone_from(&config.discovery.peers);
    }
}

/// Does what can be done at the start and again at any time.
pub(super) fn apply(core: &Core, config: &Config) {
    offer_tools(core, config);
    know_agents(core, config);
}

/// Offers the tools that are not switched off.
fn offer_tools(core: &Core, config: &Config) {
    let disabled = config.tools.disabled.iter();
    core.withhold_tools(disabled.filter_map(|name| Tool::parse(name)).collect());
}

/// Finds the agents that the operator has written down.
fn know_agents(core: &Core, config: &Config) {
    let written = config.discovery.agents.iter().filter_map(|agent| {
        Some(StaticAgent {
            agent_id: agent.agent_id.clone(),
            machine_id: agent.machine_id,
            // read once already, when the configuration was checked
            capabilities: agent.capabilities().ok()?,
            endpoint: agent.endpoint().ok()?,
            trust_level: agent.trust_level,
            labels: agent.labels.clone(),
        })
    });
    core.set_static_agents(written.collect());
}

/// Where control planes are: as configured, else where this machine has joined.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    pub(super) addresses: Addresses,
    joined_at: ServerAddress,
    pub(super) channel: Channel,
    known: Arc<Mutex<Known>>,
}

/// By whom addresses are known.
#[derive(Debug, Default)]
struct Known {
    configured: Vec<ServerAddress>,
    found: Vec<ServerAddress>,
}

impl Known {
    /// Those that were found come last.
    fn all(&self) -> Vec<ServerAddress> {
        let found = self.found.iter();
        let found = found.filter(|address| !self.configured.contains(address));
        self.configured.iter().chain(found).cloned().collect()
    }
}

impl Servers {
    /// Nothing is connected yet.
    pub(super) fn new(config: &Config, joined_at: &ServerAddress, tls: TlsSource) -> Self {
        let configured = Self::of(config, joined_at);
        let addresses = Addresses::new(&configured);
        let known = Known {
            configured,
            ..Known::default()
        };
        Self {
            known: Arc::new(Mutex::new(known)),
            channel: dial::channel_to(addresses.clone(), tls),
            addresses,
            joined_at: joined_at.clone(),
        }
    }

    /// The addresses of a configuration that was checked.
    fn of(config: &Config, joined_at: &ServerAddress) -> Vec<ServerAddress> {
        match config.server.addresses() {
            Ok(configured) if !configured.is_empty() => configured,
            _ => vec![joined_at.clone()],
        }
    }

    fn configure(&self, config: &Config) {
        let configured = Self::of(config, &self.joined_at);
        let mut known = self.known();
        let are_others = known.configured != configured;
        known.configured = configured;
        self.addresses.set(known.all());
        if are_others {
            tracing::info!("the control planes are others: connecting anew");
            self.channel.replace();
        }
    }

    /// Follows what is found, until nobody looks any more: TLS shows at each of these
    /// whether a control plane of ours is there, when the others do not answer.
    pub(super) async fn find(self, mut found: watch::Receiver<Vec<ServerAddress>>) {
        while found.changed().await.is_ok() {
            let mut known = self.known();
            known.found.clone_from(&found.borrow_and_update());
            tracing::info!(
                found = known.found.len(),
                "control planes of the local network"
            );
            self.addresses.set(known.all());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}
