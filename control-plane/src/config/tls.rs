//! `[tls]`: how the listeners prove who they are, and what they speak.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// How the http listener proves who it is, and the oldest version of TLS that
/// it and the admin listener speak; edges are always spoken to in TLS 1.3.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Where the certificate of the http listener comes from.
    pub http: HttpTls,
    /// Certificate chain, PEM, the listener's own first; with `http = "files"`.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// Where the certificate of the http listener comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpTls {
    /// There is none: clear text, which only loopback may hear.
    #[default]
    Off,
    /// Our own CA, with `identity.server_names`.
    Own,
    /// Files.
    Files,
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

impl Tls {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let is_set = |path: &Path| !path.as_os_str().is_empty();
        let files = [
            ("tls.certificate_file", &self.certificate_file),
            ("tls.key_file", &self.key_file),
        ];
        for (key, path) in files {
            match self.http {
                HttpTls::Files if !is_set(path) => {
                    let expected = "expected a path, since `tls.http` is `files`";
                    return Err(ConfigError::invalid(key, expected));
                }
                HttpTls::Off | HttpTls::Own if is_set(path) => {
                    let expected = "expected no path, unless `tls.http` is `files`";
                    return Err(ConfigError::invalid(key, expected));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_there_exactly_when_they_are_asked_for() {
        let tls = |http, chain: &str, key: &str| Tls {
            http,
            certificate_file: chain.into(),
            key_file: key.into(),
            ..Tls::default()
        };
        for good in [
            tls(HttpTls::Off, "", ""),
            tls(HttpTls::Own, "", ""),
            tls(HttpTls::Files, "c", "k"),
        ] {
            assert!(good.validate().is_ok(), "{good:?}");
        }
        for (bad, key) in [
            (tls(HttpTls::Files, "", "k"), "tls.certificate_file"),
            (tls(HttpTls::Files, "c", ""), "tls.key_file"),
            (tls(HttpTls::Off, "c", "k"), "tls.certificate_file"),
            (tls(HttpTls::Own, "", "k"), "tls.key_file"),
        ] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{key}`")), "{error}");
        }
    }
}
