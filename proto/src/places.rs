//! How many connections a listener has open, in all and of one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The places of one listener.
#[derive(Debug)]
pub struct Places {
    max: u32,
    max_of_address: u32,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: u32,
    /// Those that are counted by address.
    by_address: HashMap<IpAddr, u32>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All are taken.
    #[error("there are too many connections")]
    All,
    /// All that one address may have are taken.
    #[error("there are too many connections of this address")]
    OfAddress,
}

impl Places {
    /// So many in all, and so many of them for one address.
    pub fn new(max: u32, max_of_address: u32) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_of_address,
            taken: Mutex::default(),
        })
    }

    /// Takes a place for a connection from an address; `None` is another one of
    /// this machine's, such as a Unix socket.
    ///
    /// # Errors
    /// When all are taken.
    pub fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, Full> {
        let address = address.and_then(counted);
        let mut taken = self.taken();
        if taken.count >= self.max {
            return Err(Full::All);
        }
        if let Some(address) = address {
            let of_address = taken.by_address.entry(address).or_default();
            if *of_address >= self.max_of_address {
                return Err(Full::OfAddress);
            }
            *of_address += 1;
        }
        taken.count += 1;
        Ok(Place {
            places: Arc::clone(self),
            address,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an address is counted as; loopback as nobody. Who has one IPv6 address
/// has all of its /64 (RFC 6177).
fn counted(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    if address.is_loopback() {
        return None;
    }
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
    })
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.count -= 1;
        let Some(address) = self.address else {
            return;
        };
        if let Some(of_address) = taken.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Arc<Places> {
        Places::new(5, 2)
    }

    fn from(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_all_places_and_gives_its_own_back() {
        let places = places();
        let first = places.take(Some(from("192.0.2.1"))).unwrap();
        let _second = places.take(Some(from("::ffff:192.0.2.1"))).unwrap();
        assert_eq!(
            places.take(Some(from("192.0.2.1"))).unwrap_err(),
            Full::OfAddress
        );
        let _other = places.take(Some(from("192.0.2.2"))).unwrap();
        drop(first);
        let _again = places.take(Some(from("192.0.2.1"))).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let places = places();
        let _first = places.take(Some(from("2001:db8:0:1::1"))).unwrap();
        let _second = places.take(Some(from("2001:db8:0:1:ffff::2"))).unwrap();
        assert!(places.take(Some(from("2001:db8:0:1::3"))).is_err());
        assert!(places.take(Some(from("2001:db8:0:2::1"))).is_ok());
    }

    #[test]
    fn this_machine_is_bounded_by_all_places_only() {
        let places = places();
        let mut own: Vec<_> = (0..4)
            .map(|_| places.take(Some(from("127.0.0.1"))).unwrap())
            .collect();
        own.push(places.take(None).unwrap());
        for address in [None, Some(from("127.0.0.1")), Some(from("192.0.2.1"))] {
            assert_eq!(places.take(address).unwrap_err(), Full::All);
        }
        own.pop();
        assert!(places.take(None).is_ok());
        drop(own);
        let taken = places.taken();
        assert_eq!((taken.count, taken.by_address.len()), (0, 0));
    }
}
