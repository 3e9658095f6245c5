//! Which names a request may come to, and which pages it may come from:
//! against DNS rebinding and cross-site requests.

use std::net::IpAddr;

use authguardian_proto::reason::{Problem, Reason};
use axum::http::{HeaderMap, Uri, header, uri::Authority};

use super::authority;
use crate::config::Http;

/// Loopback names on any port, and what is configured.
pub(super) struct AllowList {
    hosts: Vec<Allowed>,
    origins: Vec<(String, Allowed)>,
}

/// A host with a port, or with any.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    host: String,
    /// `None`: any port.
    port: Option<u16>,
}

impl AllowList {
    pub(super) fn new(http: &Http) -> Self {
        let hosts = http.allowed_hosts.iter().filter_map(|text| {
            let (host, port) = split(text)?;
            Some(Allowed { host, port })
        });
        let origins = http.allowed_origins.iter().filter_map(|text| {
            let (scheme, rest) = text.split_once("://")?;
            let allowed = if let Some(host) = rest.strip_suffix(":*") {
                Allowed {
                    host: split(host)?.0,
                    port: None,
                }
            } else {
                let (host, port) = split(rest)?;
                Allowed {
                    host,
                    port: Some(port.or_else(|| default_port(scheme))?),
                }
            };
            Some((scheme.to_ascii_lowercase(), allowed))
        });
        Self {
            hosts: hosts.collect(),
            origins: origins.collect(),
        }
    }

    /// Refuses a foreign or missing host and a foreign origin; no origin is no
    /// browser.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let host = authority(uri, headers);
        if !host.is_some_and(|host| self.is_host_allowed(host)) {
            return Err(refused("Host", host));
        }
        for origin in headers.get_all(header::ORIGIN) {
            let origin = origin.to_str().ok();
            if !origin.is_some_and(|origin| self.is_origin_allowed(origin)) {
                return Err(refused("Origin", origin));
            }
        }
        Ok(())
    }

    fn is_host_allowed(&self, text: &str) -> bool {
        let Some((host, port)) = split(text) else {
            return false;
        };
        is_loopback(&host) || self.hosts.iter().any(|allowed| allowed.fits(&host, port))
    }

    pub(super) fn is_origin_allowed(&self, text: &str) -> bool {
        let Some((scheme, rest)) = text.split_once("://") else {
            return false;
        };
        let Some((host, port)) = split(rest) else {
            return false;
        };
        let scheme = scheme.to_ascii_lowercase();
        if matches!(scheme.as_str(), "http" | "https") && is_loopback(&host) {
            return true;
        }
        let port = port.or_else(|| default_port(&scheme));
        self.origins
            .iter()
            .any(|(allowed, at)| *allowed == scheme && at.fits(&host, port))
    }
}

impl Allowed {
    fn fits(&self, host: &str, port: Option<u16>) -> bool {
        self.host == host && (self.port.is_none() || self.port == port)
    }
}

/// Host in lower case without brackets, and port.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let host = authority
        .host()
        .trim_matches(['[', ']'])
        .to_ascii_lowercase();
    match authority.as_str().rsplit_once(':') {
        // a port that is none must not count as any
        Some((_, port)) if !port.ends_with(']') && authority.port_u16().is_none() => None,
        _ => Some((host, authority.port_u16())),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

fn refused(name: &str, value: Option<&str>) -> Problem {
    let value: String = value.unwrap_or_default().chars().take(100).collect();
    let detail = format!("the {name} `{value}` is not allowed here");
    Problem::new(Reason::OriginNotAllowed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> AllowList {
        AllowList::new(&Http {
            allowed_hosts: vec!["edge.example".into(), "edge2.example:8443".into()],
            allowed_origins: vec![
                "https://app.example".into(),
                "http://dev.example:*".into(),
                "http://one.example:8080".into(),
            ],
        })
    }

    #[test]
    fn loopback_and_configured_hosts_pass() {
        let list = list();
        for host in [
            "localhost",
            "LOCALHOST:3001",
            "127.0.0.1:3001",
            "[::1]:3001",
            "127.1.2.3",
            "edge.example:1",
            "edge.example",
            "edge2.example:8443",
        ] {
            assert!(list.is_host_allowed(host), "{host}");
        }
    }

    #[test]
    fn foreign_hosts_do_not() {
        let list = list();
        for host in [
            "",
            "evil.example",
            "evil.example:3001",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "edge2.example",
            "edge2.example:1",
            "10.0.0.1",
            "0.0.0.0:3001",
            "user@localhost",
            "localhost:x",
        ] {
            assert!(!list.is_host_allowed(host), "{host}");
        }
    }

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        let list = list();
        for origin in [
            "http://localhost:5173",
            "https://127.0.0.1",
            "http://[::1]:3001",
            "https://app.example",
            "https://app.example:443",
            "http://dev.example:9",
            "http://dev.example",
            "http://one.example:8080",
        ] {
            assert!(list.is_origin_allowed(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://evil.example",
            "http://app.example",
            "https://app.example:8443",
            "http://one.example",
            "http://localhost.evil.example",
            "file://localhost",
            "https://app.example.evil",
        ] {
            assert!(!list.is_origin_allowed(origin), "{origin}");
        }
    }

    #[test]
    fn a_request_without_a_host_is_refused_and_one_without_an_origin_is_not() {
        let list = list();
        let mut headers = HeaderMap::new();
        let uri = Uri::from_static("/mcp");
        assert_eq!(
            list.check(&uri, &headers).unwrap_err().reason,
            Reason::OriginNotAllowed
        );
        headers.insert(header::HOST, "localhost:3001".parse().unwrap());
        assert!(list.check(&uri, &headers).is_ok());
        headers.insert(header::ORIGIN, "https://evil.example".parse().unwrap());
        assert_eq!(
            list.check(&uri, &headers).unwrap_err().reason,
            Reason::OriginNotAllowed
        );
    }
}
