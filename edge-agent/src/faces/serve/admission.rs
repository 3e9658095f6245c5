//! Which connections are taken at all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use crate::config::Limits;

use super::End;

/// The open connections of one listener.
#[derive(Debug)]
pub(super) struct Admission {
    max: usize,
    max_per_address: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    count: usize,
    /// Those that are counted by address.
    by_address: HashMap<IpAddr, u32>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

/// Why a connection is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("there are too many connections")]
    Full,
    #[error("there are too many connections of this address")]
    FullOfAddress,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            max: usize::try_from(limits.max_connections).unwrap_or(usize::MAX),
            max_per_address: limits.max_connections_per_address,
            open: Mutex::default(),
        })
    }

    pub(super) fn admit(self: &Arc<Self>, end: &End) -> Result<Place, Refused> {
        let address = counted(end);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.count >= self.max {
            return Err(Refused::Full);
        }
        if let Some(address) = address {
            let of_address = open.by_address.entry(address).or_default();
            if *of_address >= self.max_per_address {
                return Err(Refused::FullOfAddress);
            }
            *of_address += 1;
        }
        open.count += 1;
        Ok(Place {
            admission: self.clone(),
            address,
        })
    }
}

/// Whom a connection is counted for; nobody on this machine. Who has an IPv6
/// address has all of its /64 (RFC 6177).
fn counted(end: &End) -> Option<IpAddr> {
    let End::Address(address) = end else {
        return None;
    };
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        ))),
        address @ IpAddr::V4(_) => Some(address),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self
            .admission
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.count -= 1;
        if let Some(address) = self.address
            && let Some(of_address) = open.by_address.get_mut(&address)
        {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        Admission::new(&Limits {
            max_connections: 5,
            max_connections_per_address: 2,
            ..Limits::default()
        })
    }

    fn from(address: &str) -> End {
        End::Address(address.parse().unwrap())
    }

    #[test]
    fn one_address_cannot_take_all_places_and_gives_its_own_back() {
        let admission = admission();
        let first = admission.admit(&from("192.0.2.1")).unwrap();
        let _second = admission.admit(&from("::ffff:192.0.2.1")).unwrap();
        assert_eq!(
            admission.admit(&from("192.0.2.1")).unwrap_err(),
            Refused::FullOfAddress
        );
        let _other = admission.admit(&from("192.0.2.2")).unwrap();
        drop(first);
        let _again = admission.admit(&from("192.0.2.1")).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let admission = admission();
        let _first = admission.admit(&from("2001:db8:0:1::1")).unwrap();
        let _second = admission.admit(&from("2001:db8:0:1:ffff::2")).unwrap();
        assert!(admission.admit(&from("2001:db8:0:1::3")).is_err());
        assert!(admission.admit(&from("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn this_machine_is_bounded_by_all_places_only() {
        let admission = admission();
        let user = End::User {
            uid: 0,
            agents: None,
        };
        let mut places: Vec<_> = (0..4)
            .map(|_| admission.admit(&from("127.0.0.1")).unwrap())
            .collect();
        places.push(admission.admit(&user).unwrap());
        assert_eq!(admission.admit(&user).unwrap_err(), Refused::Full);
        assert_eq!(
            admission.admit(&from("192.0.2.1")).unwrap_err(),
            Refused::Full
        );
        places.pop();
        assert!(admission.admit(&user).is_ok());
        drop(places);
        let open = admission.open.lock().unwrap();
        assert_eq!((open.count, open.by_address.len()), (0, 0));
    }
}
