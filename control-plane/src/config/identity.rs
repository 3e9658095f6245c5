//! `[identity]`: trust domain, keys and certificates.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Seconds that a certificate may live: an hour to 90 days.
const CERTIFICATE_TTL: std::ops::RangeInclusive<u32> = 3_600..=7_776_000;

/// Seconds that a key may have to wait for its activation: up to a day.
const KEY_PUBLICATION: std::ops::RangeInclusive<u32> = 1..=86_400;

/// Who we are, and what we certify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// SPIFFE trust domain: machines are `spiffe://<trust_domain>/machine/<id>`.
    /// Fixed at the first start.
    pub trust_domain: String,
    /// File with the master keys that our own keys are sealed under, one a line:
    /// the first seals, all of them open.
    pub master_key_file: PathBuf,
    /// DNS names and addresses in the certificate of the gRPC listeners.
    pub server_names: Vec<String>,
    /// Seconds that a machine's certificate lives: 3,600 to 7,776,000.
    pub certificate_ttl_seconds: u32,
    /// Seconds that a key of ours is published before it may sign: 1 to
    /// 86,400. Longer than anybody keeps the key set without asking again.
    pub key_publication_seconds: u32,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            trust_domain: "authguardian.local".to_owned(),
            master_key_file: PathBuf::from("/etc/authguardian/master.key"),
            server_names: vec![
                "localhost".to_owned(),
                "127.0.0.1".to_owned(),
                "::1".to_owned(),
            ],
            certificate_ttl_seconds: 86_400,
            key_publication_seconds: 60,
        }
    }
}

impl Identity {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !is_trust_domain(&self.trust_domain) {
            let expected = "expected 1 to 255 characters of `a-z 0-9 - . _`";
            return Err(ConfigError::invalid("identity.trust_domain", expected));
        }
        if self.master_key_file.as_os_str().is_empty() {
            return Err(ConfigError::invalid(
                "identity.master_key_file",
                "expected a path",
            ));
        }
        if self.server_names.is_empty() {
            let expected = "expected at least one name that clients use";
            return Err(ConfigError::invalid("identity.server_names", expected));
        }
        if let Some(name) = self.server_names.iter().find(|name| !is_server_name(name)) {
            let expected = format!("`{name}` is neither a DNS name nor an IP address");
            return Err(ConfigError::invalid("identity.server_names", expected));
        }
        if !CERTIFICATE_TTL.contains(&self.certificate_ttl_seconds) {
            let expected = "expected 3600 to 7776000";
            return Err(ConfigError::invalid(
                "identity.certificate_ttl_seconds",
                expected,
            ));
        }
        if !KEY_PUBLICATION.contains(&self.key_publication_seconds) {
            let expected = "expected 1 to 86400";
            return Err(ConfigError::invalid(
                "identity.key_publication_seconds",
                expected,
            ));
        }
        Ok(())
    }
}

/// The SPIFFE ID standard, section 2.1.
fn is_trust_domain(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_server_name(text: &str) -> bool {
    rustls_pki_types::ServerName::try_from(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_at_fault(identity: &Identity) -> String {
        let error = identity.validate().unwrap_err().to_string();
        error.split('`').nth(1).unwrap().to_owned()
    }

    #[test]
    fn each_bad_value_is_refused_by_its_key() {
        let good = Identity::default();
        let bad = Identity {
            trust_domain: "Example.org".into(),
            ..good.clone()
        };
        assert_eq!(key_at_fault(&bad), "identity.trust_domain");
        let bad = Identity {
            server_names: vec!["a b".into()],
            ..good.clone()
        };
        assert_eq!(key_at_fault(&bad), "identity.server_names");
        let bad = Identity {
            server_names: vec![],
            ..good.clone()
        };
        assert_eq!(key_at_fault(&bad), "identity.server_names");
        let bad = Identity {
            master_key_file: PathBuf::new(),
            ..good.clone()
        };
        assert_eq!(key_at_fault(&bad), "identity.master_key_file");
        let bad = Identity {
            certificate_ttl_seconds: 10,
            ..good.clone()
        };
        assert_eq!(key_at_fault(&bad), "identity.certificate_ttl_seconds");
        let bad = Identity {
            key_publication_seconds: 0,
            ..good
        };
        assert_eq!(key_at_fault(&bad), "identity.key_publication_seconds");
    }
}
