//! Networks that addresses may come from (CIDR blocks, RFC 4632 and RFC 4291
//! §2.3).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// Text that is no [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no network; expected an address or a block such as `10.0.0.0/8` or `2001:db8::/32`"
)]
pub struct ParseNetworkError(String);

/// Several blocks; empty, they hold no address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Networks(Vec<Network>);

impl Network {
    /// Whether an address is within; an IPv4 address may come mapped into IPv6
    /// (RFC 4291 §2.5.5.2).
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    /// A single address is a block of one. Bits beyond the prefix do not count.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let block = text.parse::<IpNet>().or_else(|_| {
            text.parse()
                .map(|address: IpAddr| address.to_canonical().into())
        });
        block
            .map(|block| Self(block.trunc()))
            .map_err(|_| ParseNetworkError(text.chars().take(100).collect()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Network {
    type Error = ParseNetworkError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl Networks {
    /// Whether an address is within one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether a client may come, where none means all; the local socket has
    /// no address and counts as loopback.
    pub fn permit(&self, client: Option<IpAddr>) -> bool {
        let within = match client {
            Some(address) => self.contains(address),
            None => {
                self.contains(Ipv4Addr::LOCALHOST.into())
                    || self.contains(Ipv6Addr::LOCALHOST.into())
            }
        };
        within || self.is_empty()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.0.iter()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn no_networks_permit_everybody_and_the_local_socket_is_loopback() {
        let address = |text: &str| Some(text.parse().unwrap());
        for (allowed, client, permitted) in [
            (&[][..], address("192.0.2.1"), true),
            (&[], None, true),
            (&["10.0.0.0/8"], address("10.1.2.3"), true),
            (&["10.0.0.0/8"], address("192.0.2.1"), false),
            (&["10.0.0.0/8"], None, false),
            (&["127.0.0.0/8"], None, true),
            (&["::1"], None, true),
        ] {
            assert_eq!(
                networks(allowed).permit(client),
                permitted,
                "{allowed:?} {client:?}"
            );
        }
    }

    #[test]
    fn addresses_are_found_in_their_blocks_and_nowhere_else() {
        let networks = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]);
        let holds = |address: &str| networks.contains(address.parse().unwrap());
        for inside in [
            "10.255.0.1",
            "192.0.2.7",
            "2001:db8:1::1",
            "::ffff:10.1.2.3",
        ] {
            assert!(holds(inside), "{inside}");
        }
        for outside in [
            "11.0.0.1",
            "192.0.2.8",
            "2001:db9::1",
            "::1",
            "::",
            "0.0.0.0",
        ] {
            assert!(!holds(outside), "{outside}");
        }
        assert!(!Networks::default().contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn everything_of_one_family_does_not_hold_the_other() {
        let all = networks(&["0.0.0.0/0"]);
        assert!(all.contains("203.0.113.9".parse().unwrap()));
        assert!(!all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains("::".parse().unwrap()));
    }

    #[test]
    fn texts_read_back_and_what_is_none_is_quoted() {
        for (text, shown) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "example.org", "10.0.0.0/-1"] {
            let error = bad.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[test]
    fn lists_travel_as_texts() {
        let networks = networks(&["10.0.0.0/8", "::1"]);
        let json = serde_json::to_string(&networks).unwrap();
        assert_eq!(json, r#"["10.0.0.0/8","::1/128"]"#);
        assert_eq!(serde_json::from_str::<Networks>(&json).unwrap(), networks);
        assert!(serde_json::from_str::<Networks>(r#"["nowhere"]"#).is_err());
    }
}
