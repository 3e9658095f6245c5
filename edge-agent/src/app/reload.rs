//! SIGHUP: reading the configuration again.

use std::{fmt, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, ConfigError},
    core::{Core, StaticAgent, Tool},
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
        servers: Servers,
        mut used: Config,
        mut hangups: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        while let Some(Ok(())) = stop.run_until_cancelled(hangups.changed()).await {
            match (self.0)() {
                Ok(config) => {
                    apply(&core, &config);
                    used.tools = config.tools.clone();
                    used.discovery.agents.clone_from(&config.discovery.agents);
                    servers.configure(&config);
                    used.server = config.server.clone();
                    if config == used {
                        tracing::info!("the configuration was read again");
                    } else {
                        tracing::warn!(
                            "the configuration was read again; what is different besides `[tools]`, `[server]` and `discovery.agents` counts after a restart"
                        );
                    }
                }
                Err(error) => tracing::error!(%error, "the configuration from before stays in use"),
            }
        }
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
}

impl Servers {
    /// Nothing is connected yet.
    pub(super) fn new(config: &Config, joined_at: &ServerAddress, tls: TlsSource) -> Self {
        let addresses = Addresses::new(&Self::of(config, joined_at));
        Self {
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
        if self.addresses.set(Self::of(config, &self.joined_at)) {
            tracing::info!("the control planes are others: connecting anew");
            self.channel.replace();
        }
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}
