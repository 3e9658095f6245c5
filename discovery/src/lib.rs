//! DNS-SD (RFC 6763) over mDNS (RFC 6762), on chosen interfaces: control planes
//! and edges of a local network say where they are. Anybody on that network can say
//! anything: what is found is a hint where to dial, and nothing else.

mod announcement;
mod settings;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mdns_sd::{DaemonEvent, IfKind, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};

pub use announcement::Announcement;
pub use settings::Settings;

/// The service that both daemons announce.
pub const SERVICE: &str = "_authguardian._tcp.local.";

/// For the last words on the network.
const GOODBYE: Duration = Duration::from_secs(2);

/// Most addresses of one instance that are looked at.
const MAX_ADDRESSES: usize = 8;

/// Discovery that cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum MdnsError {
    /// It would have to choose by itself where to multicast.
    #[error("mDNS needs the names of the interfaces that it shall use")]
    NoInterface,
    /// The system refuses.
    #[error("mDNS cannot be used: {0}")]
    System(#[from] mdns_sd::Error),
}

/// mDNS on chosen interfaces.
pub struct Mdns {
    daemon: ServiceDaemon,
    interfaces: Vec<String>,
}

impl std::fmt::Debug for Mdns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mdns({:?})", self.interfaces)
    }
}

/// An instance that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its full name, by which it is lost again.
    pub name: String,
    /// What it says.
    pub announcement: Announcement,
    /// Where it says that it is.
    pub addresses: Vec<SocketAddr>,
}

/// What is heard of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Somebody is there, or says something else than before.
    Found(Found),
    /// Somebody, by full name, has left or was not heard for too long.
    Lost(String),
}

/// Hears of instances.
pub struct Browser {
    events: mdns_sd::Receiver<ServiceEvent>,
}

impl Mdns {
    /// Begins, on these interfaces only.
    ///
    /// # Errors
    /// When there is none, or the system refuses.
    pub fn open(interfaces: &[String]) -> Result<Self, MdnsError> {
        if interfaces.is_empty() {
            return Err(MdnsError::NoInterface);
        }
        let daemon = ServiceDaemon::new()?;
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(interfaces.iter().map(IfKind::from).collect::<Vec<_>>())?;
        let events = daemon.monitor()?;
        tokio::spawn(async move {
            while let Ok(event) = events.recv_async().await {
                match event {
                    DaemonEvent::Error(error) => tracing::warn!(%error, "mDNS failed"),
                    DaemonEvent::NameChange(change) => tracing::warn!(
                        from = change.original,
                        to = change.new_name,
                        "another host has this mDNS name"
                    ),
                    _ => {}
                }
            }
        });
        Ok(Self {
            daemon,
            interfaces: interfaces.to_vec(),
        })
    }

    /// Says that `instance` listens at this port of the chosen interfaces'
    /// addresses; again with another announcement, it replaces the first.
    ///
    /// # Errors
    /// When the names are not of their form.
    pub fn announce(
        &self,
        instance: &str,
        port: u16,
        announcement: &Announcement,
    ) -> Result<(), MdnsError> {
        let host = format!("{instance}.local.");
        let says: HashMap<String, String> = announcement.to_txt().into_iter().collect();
        let mut info =
            ServiceInfo::new(SERVICE, instance, &host, "", port, says)?.enable_addr_auto();
        info.set_interfaces(self.interfaces.iter().map(IfKind::from).collect());
        self.daemon.register(info)?;
        Ok(())
    }

    /// Hears of all instances, those included that are announced here.
    ///
    /// # Errors
    /// When the daemon has ended.
    pub fn browse(&self) -> Result<Browser, MdnsError> {
        Ok(Browser {
            events: self.daemon.browse(SERVICE)?,
        })
    }

    /// Says goodbye for everything that was announced, and ends.
    pub async fn close(self) {
        let Ok(ended) = self.daemon.shutdown() else {
            return;
        };
        // nobody waits for a goodbye that the network does not take
        let _ = tokio::time::timeout(GOODBYE, ended.recv_async()).await;
    }
}

impl Browser {
    /// The next news; `None` when there will be no more. What is not of its form
    /// is passed over.
    pub async fn next(&self) -> Option<News> {
        loop {
            match self.events.recv_async().await.ok()? {
                ServiceEvent::ServiceResolved(service) => {
                    if let Some(found) = found(&service) {
                        return Some(News::Found(found));
                    }
                    tracing::debug!(name = service.fullname, "an mDNS announcement says nothing");
                }
                ServiceEvent::ServiceRemoved(_, name) => return Some(News::Lost(name)),
                _ => {}
            }
        }
    }
}

fn found(service: &ResolvedService) -> Option<Found> {
    let announcement =
        Announcement::from_txt(|key| service.txt_properties.get_property_val_str(key))?;
    let mut addresses: Vec<SocketAddr> = service
        .addresses
        .iter()
        .map(mdns_sd::ScopedIp::to_ip_addr)
        .filter(is_dialled)
        .map(|address| SocketAddr::new(address, service.port))
        .collect();
    addresses.sort_unstable();
    addresses.truncate(MAX_ADDRESSES);
    (service.port != 0 && !addresses.is_empty()).then(|| Found {
        name: service.fullname.clone(),
        announcement,
        addresses,
    })
}

/// Whether an address means the same wherever it is used: one that is link-local
/// in IPv6 needs its interface.
fn is_dialled(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_chooses_interfaces_by_itself() {
        assert!(matches!(Mdns::open(&[]), Err(MdnsError::NoInterface)));
    }

    #[test]
    fn addresses_that_mean_nothing_elsewhere_are_passed_over() {
        for good in ["192.0.2.1", "127.0.0.1", "2001:db8::1"] {
            assert!(is_dialled(&good.parse().unwrap()), "{good}");
        }
        for bad in ["0.0.0.0", "224.0.0.251", "fe80::1", "::", "ff02::fb"] {
            assert!(!is_dialled(&bad.parse().unwrap()), "{bad}");
        }
    }
}
