//! `[tls]`: how the HTTP faces prove who they are.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// How the HTTP faces on TCP prove who they are; without a certificate they
/// speak clear text, which only loopback may hear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, PEM, the faces' own first; empty: none.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Use the machine's own certificate, with the names that the control
    /// plane put there.
    pub machine_certificate: bool,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446
    #[default]
    #[serde(rename = "1.3")]
    V1_3,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate<'a> {
    /// Files.
    Files {
        /// The chain.
        chain: &'a Path,
        /// The key.
        key: &'a Path,
    },
    /// The machine's own.
    Machine,
}

impl Tls {
    /// The certificate; `None` means clear text.
    pub fn certificate(&self) -> Option<Certificate<'_>> {
        if self.machine_certificate {
            return Some(Certificate::Machine);
        }
        (!is_empty(&self.certificate_file)).then_some(Certificate::Files {
            chain: &self.certificate_file,
            key: &self.key_file,
        })
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match (is_empty(&self.certificate_file), is_empty(&self.key_file)) {
            (false, true) => Err(ConfigError::value(
                "tls.key_file",
                "is missing, expected the key of `tls.certificate_file`",
            )),
            (true, false) => Err(ConfigError::value(
                "tls.certificate_file",
                "is missing, expected the certificate of `tls.key_file`",
            )),
            (false, false) if self.machine_certificate => Err(ConfigError::value(
                "tls.machine_certificate",
                "is `true` beside `tls.certificate_file`, expected one of them",
            )),
            _ => Ok(()),
        }
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_comes_from_one_place_and_with_its_key() {
        let files = |chain: &str, key: &str, machine_certificate| Tls {
            certificate_file: chain.into(),
            key_file: key.into(),
            machine_certificate,
            ..Tls::default()
        };
        assert_eq!(files("", "", false).certificate(), None);
        assert_eq!(
            files("", "", true).certificate(),
            Some(Certificate::Machine)
        );
        assert!(matches!(
            files("c", "k", false).certificate(),
            Some(Certificate::Files { .. })
        ));
        for (bad, key) in [
            (files("c", "", false), "tls.key_file"),
            (files("", "k", false), "tls.certificate_file"),
            (files("c", "k", true), "tls.machine_certificate"),
        ] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{key}`")), "{error}");
        }
    }
}
