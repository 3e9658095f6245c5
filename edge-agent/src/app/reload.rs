//! SIGHUP: reading the configuration again.

use std::{fmt, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, ConfigError},
    core::{Core, Tool},
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
        mut used: Config,
        mut hangups: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        while let Some(Ok(())) = stop.run_until_cancelled(hangups.changed()).await {
            match (self.0)() {
                Ok(config) => {
                    offer_tools(&core, &config);
                    used.tools = config.tools.clone();
                    if config == used {
                        tracing::info!("the configuration was read again");
                    } else {
                        tracing::warn!(
                            "the configuration was read again; what is different besides `[tools]` counts after a restart"
                        );
                    }
                }
                Err(error) => tracing::error!(%error, "the configuration from before stays in use"),
            }
        }
    }
}

/// Offers the tools that are not switched off.
pub(super) fn offer_tools(core: &Core, config: &Config) {
    let disabled = config.tools.disabled.iter();
    core.withhold_tools(disabled.filter_map(|name| Tool::parse(name)).collect());
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}
