//! `validate-config`: what a configuration comes to.

use clap::Args;

use super::{
    ConfigArgs,
    failure::Failure,
    output::{note, write_stdout},
};

const EXAMPLES: &str = "\
Examples:
  control-plane validate-config --config /etc/authguardian/control-plane.toml
  AUTHGUARDIAN_LOG__FORMAT=json control-plane validate-config --set database.max_connections=40";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ValidateConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

impl ValidateConfigArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let shown = shown(&config)?;
        write_stdout(&shown)?;
        note("the configuration is valid")
    }
}

/// The configuration as TOML, without the database's password.
fn shown(config: &crate::config::Config) -> Result<String, Failure> {
    let mut config = config.clone();
    config.database.url = config.database.url.to_string().into();
    toml::to_string(&config)
        .map_err(|error| Failure::internal(format!("the configuration cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_shown_is_a_configuration_without_a_password() {
        let mut config = Config::default();
        config.database.url = "postgres://u:secret@h/d".to_owned().into();
        let shown = shown(&config).unwrap();
        assert!(!shown.contains("secret"), "{shown}");
        let read: Config = toml::from_str(&shown).unwrap();
        assert_eq!(read.listen, config.listen);
    }
}
