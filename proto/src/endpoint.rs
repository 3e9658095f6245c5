//! Where an agent's MCP server is, as its own machine reaches it.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Longest text, bytes.
const MAX_LEN: usize = 512;

/// A checked URL of an MCP server: `http` on loopback, or `https`; without
/// user, query and fragment; never an address that only a machine's own network
/// equipment answers at. That it is checked does not make it trusted: no
/// credential is ever sent there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(Url);

/// Text that is no [`Endpoint`]: what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseEndpointError(&'static str);

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why| Err(ParseEndpointError(why));
        if text.len() > MAX_LEN {
            return wrong("expected at most 512 bytes");
        }
        // the parser would pass over these without a word
        if text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return wrong("expected a URL without blanks, control characters and backslashes");
        }
        let Ok(url) = Url::parse(text) else {
            return wrong("expected the URL of an MCP server, such as `http://127.0.0.1:8000/mcp`");
        };
        if !matches!(url.scheme(), "http" | "https") {
            return wrong("expected a URL that begins with `http://` or `https://`");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("expected a URL without user and password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("expected a URL without query and fragment");
        }
        if url.port() == Some(0) {
            return wrong("expected a URL with another port than 0");
        }
        let endpoint = Self(url);
        match endpoint.address() {
            Some(address) if !is_host(address) => {
                return wrong(
                    "expected the address of a host, not one that is link-local, unspecified, multicast or broadcast",
                );
            }
            _ => {}
        }
        if endpoint.0.scheme() == "http" && !endpoint.is_loopback() {
            return wrong("expected `https` beyond loopback");
        }
        Ok(endpoint)
    }
}

impl Endpoint {
    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The address, where it names one.
    pub fn address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address).to_canonical()),
            Host::Domain(_) => None,
        }
    }

    /// Whether it is on the machine itself, by address or as `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self.address() {
            Some(address) => address.is_loopback(),
            None => self.0.host_str() == Some("localhost"),
        }
    }
}

fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => !(v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast()),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl TryFrom<String> for Endpoint {
    type Error = ParseEndpointError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mcp_urls_are_taken_and_others_are_not() {
        for good in [
            "http://127.0.0.1:8000/mcp",
            "http://localhost:8000/mcp",
            "http://[::1]:8000/",
            "https://agents.example/mcp",
            "https://10.0.0.7:8443/mcp",
        ] {
            assert_eq!(good.parse::<Endpoint>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "mcp",
            "/mcp",
            "ftp://a/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "http://",
            "http://agents.example/mcp",
            "http://10.0.0.7/mcp",
            "https://user@agents.example/",
            "https://u:p@agents.example/",
            "https://agents.example/?a=b",
            "https://agents.example/#a",
            "https://169.254.169.254/latest",
            "http://169.254.169.254/",
            "https://0.0.0.0/",
            "https://[fe80::1]/",
            "https://[::]/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://[::ffff:169.254.169.254]/",
            "https://0xa9fea9fe/",
            "https://2852039166/",
            "https://a b/",
            "https://a/\n",
            "https:\\\\a/",
            "https://a:0/",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
        assert!(
            format!("https://a/{}", "x".repeat(512))
                .parse::<Endpoint>()
                .is_err()
        );
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        let is_loopback = |text: &str| text.parse::<Endpoint>().unwrap().is_loopback();
        for text in [
            "http://127.8.9.1/",
            "http://localhost/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
        ] {
            assert!(is_loopback(text), "{text}");
        }
        for text in ["https://localhost.example/", "https://10.0.0.1/"] {
            assert!(!is_loopback(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_the_same_again(text in "https?://[a-z0-9.:@\\[\\]/?#%-]{0,40}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }
    }
}
