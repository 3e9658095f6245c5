//! This edge among the edges of other machines.

use std::{net::SocketAddr, sync::Arc};

use authguardian_proto::ids::MachineId;
use axum::Router;
use tokio::{net::TcpListener, task::JoinSet};

use super::{RunError, bind};
use crate::{
    clock::Ambient,
    config::Config,
    core::{Gossip, GossipParts, Seed},
    faces::{self, PeerFace, Server},
    identity::{CertificateSource, Identity},
    neighbours::Neighbours,
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
    pub(super) fn advertised(&self) -> Option<&PeerAddress> {
        self.listener.as_ref().map(|bound| &bound.advertised)
    }

    /// Gossip with them, where that is switched on.
    pub(super) fn gossip(
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
                neighbours: self.neighbours.clone(),
                verifier: verifier.clone(),
                ambient: ambient.clone(),
            })
        })
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
