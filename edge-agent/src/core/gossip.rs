//! Gossip with other edges: the rounds, and what comes of what is heard.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use authguardian_proto::{
    ids::MachineId,
    reason::{Problem, Reason},
};
use futures::{StreamExt, stream::FuturesUnordered};
use http::Request;
use http_body_util::Full;
use hyper::body::Bytes;
use tokio_util::sync::CancellationToken;

use super::hearsay::{Checked, Hearsay};
use crate::{
    gossip::{Entry, Fault, MAX_MESSAGE, Members, Message, Own},
    neighbours::Source,
    peers::{PeerError, Peers},
    trust::{OwnCertificate, PeerAddress, Trust},
};

/// Others that are talked with in a round.
const FANOUT: usize = 3;
/// Talks at a time.
const MAX_TALKS: usize = 8;
/// For the head of an answer, and for its body.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two rounds that other records of this machine ask for.
const SPACING: Duration = Duration::from_millis(20);

/// An edge that is known without gossip.
pub type Seed = (PeerAddress, Option<MachineId>);

/// What gossip works with.
pub struct GossipParts {
    /// This machine.
    pub machine_id: MachineId,
    /// Its certificate, which its word is signed with.
    pub certificate: OwnCertificate,
    /// `host:port` at which others reach it.
    pub advertised: PeerAddress,
    /// Between two rounds.
    pub interval: Duration,
    /// Machines that are kept at most.
    pub max_machines: usize,
    /// Who other machines are.
    pub trust: Arc<Trust>,
    /// Calls them.
    pub peers: Peers,
    /// Checks and keeps what they tell, and knows what to tell them.
    pub hearsay: Hearsay,
}

/// Tells other edges of this machine's agents, and hears of theirs.
pub struct Gossip {
    members: Mutex<Members>,
    seeds: ArcSwap<Vec<Seed>>,
    refused: AtomicU64,
    parts: GossipParts,
}

/// What is heard, when it is no message of gossip at all.
#[derive(Debug, thiserror::Error)]
enum TalkError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("the edge has answered {0}")]
    Status(http::StatusCode),
    #[error("the answer is no message of gossip: {0}")]
    Form(#[from] serde_json::Error),
}

impl Gossip {
    /// Nothing is said yet.
    pub fn new(parts: GossipParts) -> Arc<Self> {
        let started_ms = parts.hearsay.ambient.clock.now().unix_timestamp_nanos() / 1_000_000;
        let own = Own::new(
            parts.machine_id,
            u64::try_from(started_ms).unwrap_or_default(),
            parts.advertised.clone(),
            parts.certificate.clone(),
        );
        Arc::new(Self {
            members: Mutex::new(Members::new(own, parts.max_machines)),
            seeds: ArcSwap::default(),
            refused: AtomicU64::new(0),
            parts,
        })
    }

    /// Others are looked for at these addresses, too.
    pub fn set_seeds(&self, seeds: Vec<Seed>) {
        self.seeds.store(Arc::new(seeds));
    }

    /// How much of what was heard was refused: messages and entries.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Answers the message of another machine.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no message.
    pub async fn answer(self: Arc<Self>, from: MachineId, body: Bytes) -> Result<Message, Problem> {
        let message: Message = serde_json::from_slice(&body).map_err(|error| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%from, %error, "what is no message of gossip was refused");
            Problem::new(
                Reason::InvalidArgument,
                format!("it is no message of gossip: {error}"),
            )
        })?;
        let digest = message.digest;
        self.clone().hear(from, message.news).await;
        let members = self.members();
        Ok(match digest {
            None => Message::default(),
            Some(digest) => Message {
                digest: Some(members.digest()),
                news: members.news_for(&digest),
            },
        })
    }

    /// Says again and again that this machine is there, and talks with others, until
    /// `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut told = self.parts.hearsay.neighbours.told();
        let mut talks = FuturesUnordered::new();
        let mut next = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
                changed = told.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(SPACING).await;
                }
                Some(()) = talks.next(), if !talks.is_empty() => continue,
            }
            let interval = self.parts.hearsay.ambient.jittered(self.parts.interval);
            next = tokio::time::Instant::now() + interval;
            let records = told.borrow_and_update().records.clone();
            let targets = self.begin_round(records);
            for target in targets {
                if talks.len() < MAX_TALKS {
                    talks.push(self.clone().talk(target));
                }
            }
        }
    }

    /// Speaks, forgets who is gone, and chooses whom to talk with.
    fn begin_round(&self, records: Vec<Arc<str>>) -> Vec<Seed> {
        let since_boot = self.parts.hearsay.ambient.clock.since_boot();
        let timing = self.parts.hearsay.neighbours.timing();
        let now = self.parts.hearsay.now();
        let mut members = self.members();
        if members.own_records(records).is_err() {
            tracing::warn!("this machine's agents are too many to be told of");
        }
        if let Err(error) = members.speak(now) {
            tracing::warn!(%error, "others cannot be told that this machine is there");
        }
        let silence = timing.gone_after * 2;
        members.forget(&self.parts.trust, since_boot, silence);
        let (recent, silent) = members.addresses(since_boot, timing.suspect_after);
        drop(members);
        let is_recent: HashSet<_> = recent.iter().map(|(_, address)| address.clone()).collect();
        let known = |(machine, address): (MachineId, PeerAddress)| (address, Some(machine));
        let mut targets = self.choose(recent.into_iter().map(known).collect(), FANOUT);
        let seeds = self.seeds.load_full();
        let others = seeds.iter().cloned().chain(silent.into_iter().map(known));
        let others = others.filter(|(address, machine)| {
            !is_recent.contains(address)
                && *address != self.parts.advertised
                && *machine != Some(self.parts.machine_id)
        });
        let few = if targets.is_empty() { FANOUT } else { 1 };
        targets.extend(self.choose(others.collect(), few));
        targets
    }

    /// Some of them, each as likely as the others.
    fn choose(&self, mut from: Vec<Seed>, count: usize) -> Vec<Seed> {
        let mut chosen = Vec::new();
        while chosen.len() < count && !from.is_empty() {
            let random = u64::from_le_bytes(self.parts.hearsay.ambient.entropy.bytes());
            let index = usize::try_from(random % from.len() as u64).unwrap_or_default();
            chosen.push(from.swap_remove(index));
        }
        chosen
    }

    async fn talk(self: Arc<Self>, (address, expected): Seed) {
        if let Err(error) = self.clone().exchange(&address, expected).await {
            tracing::debug!(%address, %error, "an edge was not talked with");
        }
    }

    async fn exchange(
        self: Arc<Self>,
        address: &PeerAddress,
        expected: Option<MachineId>,
    ) -> Result<(), TalkError> {
        let question = self.members().question();
        let (machine, answer) = self.send(address, expected, &question).await?;
        self.clone().hear(machine, answer.news).await;
        let lacking = answer.digest.map(|digest| self.members().news_for(&digest));
        if let Some(news) = lacking.filter(|news| !news.is_empty()) {
            let message = Message { digest: None, news };
            self.send(address, Some(machine), &message).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        address: &PeerAddress,
        expected: Option<MachineId>,
        message: &Message,
    ) -> Result<(MachineId, Message), TalkError> {
        let mut request = Request::new(Full::new(Bytes::from(serde_json::to_vec(message)?)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static("/gossip");
        let answer = self.parts.peers.call(address, expected, request, PATIENCE);
        let answer = answer.await?;
        let (machine, status) = (answer.machine, answer.response.status());
        if !status.is_success() {
            return Err(TalkError::Status(status));
        }
        let body = answer.bytes(MAX_MESSAGE, PATIENCE).await?;
        Ok((machine, serde_json::from_slice(&body)?))
    }

    /// Takes what is good of it, until something shows that the sender passes on
    /// what is not; checking signatures takes time that no other task has to give.
    async fn hear(self: Arc<Self>, from: MachineId, news: Vec<Entry>) {
        if news.is_empty() {
            return;
        }
        let hearing = tokio::task::spawn_blocking(move || {
            for entry in news {
                let Err(fault) = self.take(entry) else {
                    continue;
                };
                if fault == Fault::NoRecords {
                    continue; // they come next
                }
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%from, %fault, "an entry of gossip was refused");
                if matches!(
                    fault,
                    Fault::Forged | Fault::OtherRecords | Fault::BadRecord
                ) {
                    return;
                }
            }
        });
        // a panic is told where it happens
        let _ = hearing.await;
    }

    fn take(&self, entry: Entry) -> Result<(), Fault> {
        let now = self.parts.hearsay.now();
        let since_boot = self.parts.hearsay.ambient.clock.since_boot();
        let mut checked: Option<Checked> = None;
        let taken =
            self.members()
                .take(entry, &self.parts.trust, now, since_boot, |machine, new| {
                    let good = self.parts.hearsay.check(machine, new.texts(), now);
                    checked = Some(good.map_err(|refused| {
                        tracing::debug!(%machine, %refused, "a record was refused");
                        Fault::BadRecord
                    })?);
                    Ok(())
                })?;
        let Some(machine) = taken else {
            return Ok(());
        };
        let hearsay = &self.parts.hearsay;
        if let Some(checked) = checked {
            hearsay.keep(machine, checked, Source::Gossip);
        }
        hearsay.neighbours.heard(machine, Source::Gossip);
        Ok(())
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
