//! `[tools]`: what callers of this edge may do at all.

use authguardian_proto::rate::TOOLS;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// What callers of this edge may do at all; read again on SIGHUP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tools {
    /// Tools that this edge does not offer.
    pub disabled: Vec<String>,
}

impl Tools {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let is_known = |name: &&String| TOOLS.contains(&name.as_str());
        match self.disabled.iter().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => {
                let problem = format!("has `{name}`, expected tools: {}", TOOLS.join(", "));
                Err(ConfigError::value("tools.disabled", problem))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tools_that_exist_can_be_disabled() {
        let disabled = |name: &str| Tools {
            disabled: vec![name.to_owned()],
        };
        assert!(disabled("revoke_token").validate().is_ok());
        let error = disabled("rewoke_token").validate().unwrap_err().to_string();
        assert!(
            error.contains("`rewoke_token`") && error.contains("revoke_token"),
            "{error}"
        );
    }
}
