//! Which zone a call came from: of the connection's other end, or of the client
//! that a trusted proxy names. Headers of anybody else make a call External.

use std::net::{IpAddr, Ipv6Addr};

use authguardian_proto::{network::Networks, zone::Zone};
use axum::http::{HeaderMap, HeaderName, header};

use crate::{config, core::Peer};

mod forwarded;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// A client that its proxy does not tell of.
const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The configured networks.
#[derive(Debug)]
pub(super) struct Zones {
    trusted: Networks,
    proxies: Networks,
}

/// What the proxies on the way say.
enum Told {
    /// Nothing.
    Nothing,
    /// Each one's client, the nearest proxy's last.
    Clients(Vec<IpAddr>),
    /// Something that cannot be read, or that contradicts itself.
    Nonsense,
}

impl Zones {
    pub(super) fn new(config: &config::Zones) -> Self {
        Self {
            trusted: config.trusted_networks.clone(),
            proxies: config.trusted_proxies.clone(),
        }
    }

    /// Where a call came from over TCP, from this address.
    pub(super) fn locate(&self, address: IpAddr, headers: &HeaderMap) -> Peer {
        let address = address.to_canonical();
        if !is_forwarded(headers) {
            return Peer::from_address(address, self.of(address));
        }
        if !self.proxies.contains(address) {
            return Peer::from_address(address, Zone::External);
        }
        match told(headers) {
            Told::Nothing => Peer::from_address(address, self.of(address)),
            Told::Clients(clients) => self.behind(address, &clients),
            Told::Nonsense => Peer::from_address(UNKNOWN, Zone::External),
        }
    }

    /// The nearest client that is no trusted proxy itself. Loopback of another
    /// machine is not this one's, whatever is said of it.
    fn behind(&self, proxy: IpAddr, clients: &[IpAddr]) -> Peer {
        let mut only_here = proxy.is_loopback();
        let mut client = proxy;
        for address in clients.iter().rev() {
            client = address.to_canonical();
            if !self.proxies.contains(client) {
                break;
            }
            only_here &= client.is_loopback();
        }
        let most = if only_here {
            Zone::LocalMachine
        } else {
            Zone::TrustedNetwork
        };
        Peer::from_address(client, self.of(client).min(most))
    }

    fn of(&self, address: IpAddr) -> Zone {
        if address.is_loopback() {
            Zone::LocalMachine
        } else if self.trusted.contains(address) {
            Zone::TrustedNetwork
        } else {
            Zone::External
        }
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    [header::FORWARDED, X_FORWARDED_FOR, X_REAL_IP]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// A proxy sets one of these headers and may pass on the others as its client
/// sent them: so all that are there have to name the same client last.
fn told(headers: &HeaderMap) -> Told {
    let readings = [
        read(headers, &header::FORWARDED, forwarded::clients),
        read(headers, &X_FORWARDED_FOR, forwarded::addresses),
        read(headers, &X_REAL_IP, forwarded::one_address),
    ];
    let mut told = Told::Nothing;
    for reading in readings {
        told = match (told, reading) {
            (told, Told::Nothing) => told,
            (Told::Nothing, reading) => reading,
            (Told::Clients(one), Told::Clients(other)) if one.last() == other.last() => {
                Told::Clients(if one.len() < other.len() { other } else { one })
            }
            _ => return Told::Nonsense,
        };
    }
    told
}

/// All values of a header, which are one list (RFC 9110 §5.3).
fn read(headers: &HeaderMap, name: &HeaderName, parse: fn(&str) -> Option<Vec<IpAddr>>) -> Told {
    let mut clients = Vec::new();
    for value in headers.get_all(name) {
        match value.to_str().ok().and_then(parse) {
            Some(more) => clients.extend(more),
            None => return Told::Nonsense,
        }
    }
    if clients.is_empty() {
        Told::Nothing
    } else {
        Told::Clients(clients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Zones {
            trusted: networks(&["10.0.0.0/8", "fd00::/8"]),
            proxies: networks(&["127.0.0.1", "10.9.9.0/24"]),
        }
    }

    fn located(address: &str, headers: &[(&'static str, &str)]) -> (String, Zone) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let peer = zones().locate(address.parse().unwrap(), &map);
        (peer.source().to_string(), peer.zone())
    }

    fn at(address: &str, zone: Zone) -> (String, Zone) {
        (address.to_owned(), zone)
    }

    #[test]
    fn without_headers_the_zone_is_that_of_the_other_end() {
        for (address, zone) in [
            ("127.0.0.1", Zone::LocalMachine),
            ("127.8.8.8", Zone::LocalMachine),
            ("::1", Zone::LocalMachine),
            ("10.0.0.1", Zone::TrustedNetwork),
            ("fd00::1", Zone::TrustedNetwork),
            ("192.0.2.1", Zone::External),
            ("2001:db8::1", Zone::External),
        ] {
            assert_eq!(located(address, &[]), at(address, zone));
        }
        assert_eq!(
            located("::ffff:127.0.0.1", &[]),
            at("127.0.0.1", Zone::LocalMachine)
        );
        assert_eq!(
            located("::ffff:10.0.0.1", &[]),
            at("10.0.0.1", Zone::TrustedNetwork)
        );
    }

    #[test]
    fn headers_of_anybody_else_make_a_call_external_whatever_they_say() {
        for header in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
            ("x-forwarded-for", ""),
        ] {
            for address in ["::1", "10.0.0.1", "192.0.2.1"] {
                assert_eq!(located(address, &[header]), at(address, Zone::External));
            }
        }
    }

    #[test]
    fn the_last_client_that_is_no_trusted_proxy_counts() {
        let through = |proxy: &str, text: &str| located(proxy, &[("x-forwarded-for", text)]);
        for proxy in ["127.0.0.1", "10.9.9.1"] {
            assert_eq!(
                through(proxy, "127.0.0.1, 203.0.113.5"),
                at("203.0.113.5", Zone::External),
                "what the client claims does not count"
            );
            assert_eq!(
                through(proxy, "203.0.113.5, 10.0.0.7"),
                at("10.0.0.7", Zone::TrustedNetwork)
            );
            assert_eq!(
                through(proxy, "203.0.113.5, 10.9.9.7"),
                at("203.0.113.5", Zone::External),
                "two proxies"
            );
        }
        let twice = [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-for", "203.0.113.5"),
        ];
        assert_eq!(
            located("10.9.9.1", &twice),
            at("203.0.113.5", Zone::External)
        );
    }

    #[test]
    fn only_a_proxy_on_this_machine_can_speak_of_this_machine() {
        let through = |proxy: &str, text: &str| located(proxy, &[("x-forwarded-for", text)]);
        assert_eq!(
            through("127.0.0.1", "127.0.0.2"),
            at("127.0.0.2", Zone::LocalMachine)
        );
        assert_eq!(
            through("10.9.9.1", "127.0.0.2"),
            at("127.0.0.2", Zone::TrustedNetwork)
        );
        assert_eq!(
            through("127.0.0.1", "127.0.0.2, 10.9.9.1"),
            at("127.0.0.2", Zone::TrustedNetwork),
            "it came through another machine"
        );
        assert_eq!(
            located("10.9.9.1", &[]),
            at("10.9.9.1", Zone::TrustedNetwork)
        );
    }

    #[test]
    fn what_cannot_be_read_is_from_nobody_known() {
        for header in [
            ("x-forwarded-for", "nonsense"),
            ("x-forwarded-for", "10.0.0.1, "),
            ("x-real-ip", "10.0.0.1, 10.0.0.2"),
            ("forwarded", "for=unknown"),
            ("forwarded", "for=\"10.0.0.1, for=10.0.0.2"),
            ("forwarded", "proto=https"),
        ] {
            assert_eq!(
                located("127.0.0.1", &[header]),
                at("::", Zone::External),
                "{header:?}"
            );
        }
    }

    #[test]
    fn headers_that_disagree_are_from_nobody_known() {
        let real = ("x-forwarded-for", "203.0.113.5");
        assert_eq!(
            located("127.0.0.1", &[real, ("forwarded", "for=127.0.0.1")]),
            at("::", Zone::External),
            "one was set by the client"
        );
        assert_eq!(
            located("127.0.0.1", &[real, ("x-real-ip", "203.0.113.5")]),
            at("203.0.113.5", Zone::External)
        );
    }
}
