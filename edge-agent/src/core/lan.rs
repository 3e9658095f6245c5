//! The local network: telling others where this edge is, asking those that say
//! where they are, and knowing more control planes. What is announced is a hint
//! where to dial, from anybody: TLS shows who answers there, and the control
//! plane's signature what is true.

mod candidates;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use authguardian_discovery::{Announcement, Browser, Found, Mdns, News};
use authguardian_proto::ids::MachineId;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use http::{Request, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::hearsay::Hearsay;
use crate::{
    dial::ServerAddress,
    neighbours::{Refused, Source},
    peers::{PeerError, Peers},
    trust::Trust,
};
use candidates::{Candidate, Candidates};

/// For the head of an answer, and for its body.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most bytes of a machine's records.
const MAX_RECORDS: usize = 4 * 1024 * 1024;
/// Edges that are asked at a time.
const MAX_ASKED: usize = 8;
/// Most control planes that are known by announcements.
const MAX_SERVERS: usize = 16;
/// How often is looked at whose turn it is.
const TICK: Duration = Duration::from_millis(250);

/// What is done in the local network, and with what.
pub struct LanParts {
    /// This machine.
    pub machine_id: MachineId,
    /// Where it listens for other edges; `None`: it does not, and is not announced.
    pub port: Option<u16>,
    /// Who other machines are.
    pub trust: Arc<Trust>,
    /// Calls them.
    pub peers: Peers,
    /// Checks and keeps what they tell.
    pub hearsay: Hearsay,
    /// Is told of control planes that are announced with a CA of ours.
    pub servers: watch::Sender<Vec<ServerAddress>>,
}

/// This edge in the local network.
pub struct Lan {
    candidates: Candidates,
    servers: Vec<(String, Vec<SocketAddr>)>,
    parts: Arc<LanParts>,
}

/// The answer to `GET /records`.
#[derive(Debug, Deserialize)]
struct Records {
    records: Vec<Arc<str>>,
}

/// An edge whose records were not read.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("it has answered {0}")]
    Status(http::StatusCode),
    #[error("the answer has another form: {0}")]
    Form(#[from] serde_json::Error),
    #[error("a record was refused: {0}")]
    Record(#[from] Refused),
}

impl Lan {
    /// Nobody is known yet.
    pub fn new(parts: LanParts) -> Self {
        Self {
            candidates: Candidates::default(),
            servers: Vec::new(),
            parts: Arc::new(parts),
        }
    }

    /// Announces, listens and asks until `stop`, then says goodbye.
    pub async fn run(mut self, mdns: Mdns, stop: CancellationToken) {
        match mdns.browse() {
            Ok(browser) => self.go_on(&mdns, &browser, stop).await,
            Err(error) => tracing::warn!(%error, "nobody is looked for in the local network"),
        }
        mdns.close().await;
    }

    async fn go_on(&mut self, mdns: &Mdns, browser: &Browser, stop: CancellationToken) {
        // several of one machine may follow each other: names are not used twice
        let instance = format!("edge-{}", self.parts.hearsay.ambient.uuid().simple());
        let mut told = self.parts.hearsay.neighbours.told();
        self.announce(mdns, &instance, told.borrow_and_update().version);
        let mut asking: FuturesUnordered<BoxFuture<'static, (String, bool)>> =
            FuturesUnordered::new();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = told.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.announce(mdns, &instance, told.borrow_and_update().version);
                }
                news = browser.next() => match news {
                    Some(news) => self.hear(news),
                    None => return,
                },
                Some((name, heard)) = asking.next(), if !asking.is_empty() => {
                    let (now, pause) = (self.now(), self.pause());
                    self.candidates.asked(&name, heard, now, pause);
                }
                _ = tick.tick() => {}
            }
            let now = self.now();
            while asking.len() < MAX_ASKED
                && let Some((name, candidate)) = self.candidates.next(now)
            {
                asking.push(Box::pin(ask_named(self.parts.clone(), name, candidate)));
            }
        }
    }

    fn announce(&self, mdns: &Mdns, instance: &str, records: u64) {
        let Some(port) = self.parts.port else {
            return;
        };
        let machine = self.parts.machine_id;
        let said = Announcement::Edge { machine, records };
        if let Err(error) = mdns.announce(instance, port, &said) {
            tracing::warn!(%error, "this edge is not announced in the local network");
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Found(found) => match found.announcement {
                Announcement::Edge { machine, records } if machine != self.parts.machine_id => {
                    let Found {
                        name, addresses, ..
                    } = found;
                    let candidate = Candidate::new(machine, records, addresses);
                    if !self.candidates.hear(name, candidate) {
                        tracing::debug!(%machine, "there is no room for another announcement");
                    }
                }
                Announcement::Edge { .. } => {}
                Announcement::ControlPlane { ca_fingerprint } => {
                    self.hear_of_server(found, &ca_fingerprint);
                }
            },
            News::Lost(name) => {
                self.candidates.lost(&name);
                self.servers.retain(|(known, _)| *known != name);
                self.tell_servers();
            }
        }
    }

    /// A control plane of another CA would not be spoken to anyway.
    fn hear_of_server(&mut self, found: Found, ca_fingerprint: &[u8; 32]) {
        self.servers.retain(|(known, _)| *known != found.name);
        if !self.parts.trust.has_authority(ca_fingerprint) {
            tracing::debug!(
                name = found.name,
                "a control plane of another CA is passed over"
            );
        } else if self.servers.len() < MAX_SERVERS {
            self.servers.push((found.name, found.addresses));
        }
        self.tell_servers();
    }

    fn tell_servers(&self) {
        let found = self.servers.iter().flat_map(|(_, addresses)| addresses);
        let found: Vec<ServerAddress> = found.copied().map(Into::into).collect();
        self.parts.servers.send_if_modified(|told| {
            let is_news = *told != found;
            *told = found;
            is_news
        });
    }

    fn now(&self) -> Duration {
        self.parts.hearsay.ambient.clock.since_boot()
    }

    /// Between two questions to one edge: often enough for it to stay live.
    fn pause(&self) -> Duration {
        let suspect_after = self.parts.hearsay.neighbours.timing().suspect_after;
        self.parts.hearsay.ambient.jittered(suspect_after / 3)
    }
}

async fn ask_named(parts: Arc<LanParts>, name: String, candidate: Candidate) -> (String, bool) {
    for address in candidate.addresses() {
        match ask(&parts, candidate.machine(), *address).await {
            Ok(()) => return (name, true),
            Err(error) => {
                let machine = candidate.machine();
                tracing::debug!(%machine, %address, %error, "an announced edge was not heard");
            }
        }
    }
    (name, false)
}

/// Reads the records of a machine from itself, which shows that it is there.
async fn ask(parts: &LanParts, machine: MachineId, address: SocketAddr) -> Result<(), AskError> {
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = Uri::from_static("/records");
    let answer = parts
        .peers
        .call(&address.into(), Some(machine), request, PATIENCE)
        .await?;
    let status = answer.response.status();
    if !status.is_success() {
        return Err(AskError::Status(status));
    }
    let body = answer.bytes(MAX_RECORDS, PATIENCE).await?;
    let said: Records = serde_json::from_slice(&body)?;
    let hearsay = &parts.hearsay;
    let checked = hearsay.check(machine, &said.records, hearsay.now())?;
    hearsay.keep(machine, checked, Source::Mdns);
    hearsay.neighbours.heard(machine, Source::Mdns);
    Ok(())
}
