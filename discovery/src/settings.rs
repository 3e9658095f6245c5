//! What operators say of mDNS, in the configuration of either program.

use serde::{Deserialize, Serialize};

/// Longest name of an interface (Linux, IFNAMSIZ less the closing zero).
const MAX_NAME: usize = 15;

/// Whether mDNS is spoken, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether it is.
    pub enabled: bool,
    /// Interfaces to do so on, such as `eth0`; there is no default.
    pub interfaces: Vec<String>,
}

impl Settings {
    /// What is wrong with `interfaces`, in words that go on after its name.
    ///
    /// # Errors
    /// For what is no name of an interface, and for none where it is enabled.
    pub fn check(&self) -> Result<(), String> {
        let is_name = |name: &String| {
            (1..=MAX_NAME).contains(&name.len())
                && !name.bytes().any(|b| b == b'/' || b.is_ascii_whitespace())
        };
        if let Some(bad) = self.interfaces.iter().find(|name| !is_name(name)) {
            return Err(format!(
                "has `{bad}`, expected names of interfaces such as `eth0`"
            ));
        }
        if self.enabled && self.interfaces.is_empty() {
            return Err("is empty: mDNS is spoken on named interfaces only".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_spoken_on_named_interfaces_only() {
        let settings = |enabled, interfaces: &[&str]| Settings {
            enabled,
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
        };
        assert!(Settings::default().check().is_ok());
        assert!(settings(true, &["eth0", "veth-a"]).check().is_ok());
        for bad in [
            settings(true, &[]),
            settings(true, &[""]),
            settings(false, &["a b"]),
            settings(true, &["sixteen-letters-"]),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
