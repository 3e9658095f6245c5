//! `[discovery.mdns]`: whether edges of the local network find each other, and the
//! control plane.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Longest name of an interface (Linux, IFNAMSIZ less the closing zero).
const MAX_NAME: usize = 15;

/// Whether edges of the local network find each other, and the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mdns {
    /// Whether this one listens for others, and announces itself where it is reached
    /// by them (`[peer]`).
    pub enabled: bool,
    /// Interfaces to do so on, such as `eth0`; there is no default.
    pub interfaces: Vec<String>,
}

impl Mdns {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let is_name = |name: &String| {
            (1..=MAX_NAME).contains(&name.len())
                && !name.bytes().any(|b| b == b'/' || b.is_ascii_whitespace())
        };
        if let Some(bad) = self.interfaces.iter().find(|name| !is_name(name)) {
            let problem = format!("has `{bad}`, expected names of interfaces such as `eth0`");
            return Err(ConfigError::value("discovery.mdns.interfaces", problem));
        }
        if self.enabled && self.interfaces.is_empty() {
            return Err(ConfigError::value(
                "discovery.mdns.interfaces",
                "is empty: mDNS is spoken on named interfaces only",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_spoken_on_named_interfaces_only() {
        let mdns = |enabled, interfaces: &[&str]| Mdns {
            enabled,
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
        };
        assert!(Mdns::default().validate().is_ok());
        assert!(mdns(true, &["eth0", "veth-a"]).validate().is_ok());
        for bad in [mdns(true, &[]), mdns(true, &[""]), mdns(false, &["a b"])] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.contains("discovery.mdns.interfaces"), "{error}");
        }
    }
}
