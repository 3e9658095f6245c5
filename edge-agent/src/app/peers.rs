//! This edge among the edges of other machines.

use std::{net::SocketAddr, sync::Arc};

use authguardian_discovery::Mdns;
use authguardian_proto::ids::MachineId;
use axum::Router;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{RunError, bind, reload::Servers};
use crate::{
    clock::Ambient,
    config::Config,
    core::{Core, Gossip, GossipParts, Hearsay, Lan, LanParts, Seed},
    dial::ServerAddress,
    faces::{self, PeerFace, Server},
    identity::{CertificateSource, Identity},
    neighbours::{Neighbours, Source},
    peers::Peers,
    trust::{PeerAddress, Trust},
    verify::Verifier,
};

/// What this edge is to others, and they to it.
pub(super) struct PeerSide {
    /// Who other machines are.
    pub(super) trust: Arc<Trust>,
    /// What is known of their agents.
    pub(super) neighbours: Arc<Neighbours>,
    /// Calls them.
    pub(super) peers: Peers,
    machine_id: MachineId,
    listener: Option<Bound>,
    own: CertificateSource,
}

/// Ways of hearing of the agents of others.
pub(super) struct Hearing {
    gossip: Option<Arc<Gossip>>,
    lan: Option<(Lan, Mdns)>,
    servers: watch::Receiver<Vec<ServerAddress>>,
}

impl Hearing {
    /// Gossip, where that is switched on.
    pub(super) fn gossip(&self) -> Option<Arc<Gossip>> {
        self.gossip.clone()
    }

    /// Begins to listen and to tell, until `stop`.
    pub(super) fn begin(
        &mut self,
        core: &Core,
        config: &Config,
        servers: &Servers,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let mut sources = Vec::new();
        if let Some(gossip) = &self.gossip {
            gossip.set_seeds(seeds(config));
            tasks.spawn(gossip.clone().run(stop.clone()));
            sources.push(Source::Gossip);
        }
        if let Some((lan, mdns)) = self.lan.take() {
            tasks.spawn(servers.clone().find(self.servers.clone()));
            tasks.spawn(lan.run(mdns, stop.clone()));
            sources.push(Source::Mdns);
        }
        core.set_hearsay(sources);
    }
}

/// Edges that the operator has written down.
pub(super) fn seeds(config: &Config) -> Vec<Seed> {
    let peers = config.discovery.peers.iter();
    peers
        .map(|peer| (peer.address.clone(), peer.machine_id))
        .collect()
}

/// The bound socket that others call at.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    advertised: PeerAddress,
}

impl PeerSide {
    /// Binds the listener, where one is configured.
    pub(super) async fn open(
        config: &Config,
        identity: &Identity,
        own: CertificateSource,
        ambient: &Ambient,
    ) -> Result<Self, RunError> {
        let trust = Trust::new(&identity.trust_domain, identity.authorities())
            .map_err(|error| RunError::Trust(error.to_string()))?;
        let neighbours = Neighbours::new(
            identity.machine_id,
            &identity.trust_domain,
            ambient.clock.clone(),
        );
        let listener = match config.peer.listen()? {
            None => None,
            Some(address) => {
                let listener = bind(address).await?;
                let address = listener.local_addr().map_err(|source| RunError::System {
                    what: "cannot tell the bound address",
                    source,
                })?;
                let advertised = config.peer.advertise()?;
                Some(Bound {
                    listener,
                    address,
                    advertised: advertised.unwrap_or_else(|| address.into()),
                })
            }
        };
        let peers = Peers::new(trust.clone(), own.clone());
        Ok(Self {
            trust,
            neighbours,
            peers,
            machine_id: identity.machine_id,
            listener,
            own,
        })
    }

    /// Where others call; `None`: nowhere.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(|bound| bound.address)
    }

    /// `host:port` that others are told.
    fn advertised(&self) -> Option<&PeerAddress> {
        self.listener.as_ref().map(|bound| &bound.advertised)
    }

    /// The same as the registry is told it; empty: nowhere.
    pub(super) fn peer_address(&self) -> String {
        let advertised = self.advertised().map(ToString::to_string);
        advertised.unwrap_or_default()
    }

    /// The ways of hearing of others that are switched on.
    pub(super) fn hearing(
        &self,
        config: &Config,
        verifier: &Arc<Verifier>,
        ambient: &Ambient,
    ) -> Hearing {
        let (found, servers) = watch::channel(Vec::new());
        Hearing {
            gossip: self.gossip(config, verifier, ambient),
            lan: self.lan(config, verifier, ambient, found),
            servers,
        }
    }

    fn gossip(
        &self,
        config: &Config,
        verifier: &Arc<Verifier>,
        ambient: &Ambient,
    ) -> Option<Arc<Gossip>> {
        let advertised = self.advertised()?.clone();
        let switched = &config.discovery.gossip;
        switched.enabled.then(|| {
            Gossip::new(GossipParts {
                machine_id: self.machine_id,
                certificate: self.own.clone(),
                advertised,
                interval: switched.interval(),
                max_machines: usize::try_from(switched.max_machines).unwrap_or(usize::MAX),
                trust: self.trust.clone(),
                peers: self.peers.clone(),
                hearsay: self.hearsay(verifier, ambient),
            })
        })
    }

    /// `servers` is told of control planes in the local network.
    fn lan(
        &self,
        config: &Config,
        verifier: &Arc<Verifier>,
        ambient: &Ambient,
        servers: watch::Sender<Vec<ServerAddress>>,
    ) -> Option<(Lan, Mdns)> {
        let switched = &config.discovery.mdns;
        if !switched.enabled {
            return None;
        }
        let mdns = match Mdns::open(&switched.interfaces) {
            Ok(mdns) => mdns,
            Err(error) => {
                tracing::error!(%error, "nobody is found in the local network");
                return None;
            }
        };
        let lan = Lan::new(LanParts {
            machine_id: self.machine_id,
            port: self.address().map(|address| address.port()),
            trust: self.trust.clone(),
            peers: self.peers.clone(),
            hearsay: self.hearsay(verifier, ambient),
            servers,
        });
        Some((lan, mdns))
    }

    fn hearsay(&self, verifier: &Arc<Verifier>, ambient: &Ambient) -> Hearsay {
        Hearsay {
            neighbours: self.neighbours.clone(),
            verifier: verifier.clone(),
            ambient: ambient.clone(),
        }
    }

    /// Serves other edges beside the clients of this one, with `further` routes.
    pub(super) fn serve(
        self,
        server: &Arc<Server>,
        config: &Config,
        gossip: Option<Arc<Gossip>>,
        further: Router,
        tasks: &mut JoinSet<()>,
    ) {
        let Some(Bound { listener, .. }) = self.listener else {
            return;
        };
        let face = PeerFace {
            machine_id: self.machine_id,
            neighbours: self.neighbours,
            trust: self.trust.clone(),
            gossip,
        };
        let server = server.beside(faces::peer_router(face, config, further));
        tasks.spawn(async move {
            if let Err(error) = server.peers(listener, self.own, self.trust).await {
                tracing::error!(%error, "other edges cannot be answered");
            }
        });
    }
}
