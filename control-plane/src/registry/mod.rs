//! The registry: which agents there are, how far each is trusted, what they can
//! do, and whether they can be expected to answer.
//!
//! Two levels of lease: an edge's on its machine, prolonged by its heartbeats,
//! and what it says of each agent of its machine. A registration belongs to the
//! machine and the key that made it until it is gone.

pub mod agent;
mod begin;
mod change;
mod deregister;
mod discover;
mod fate;
mod heartbeat;
mod lease;
mod page;
mod record;
mod register;
mod registration;
pub mod restored;
mod store;
mod sweep;
mod timing;

use std::sync::{Arc, Mutex};

pub use agent::{Agent, PutAgent, agent_changed, delete_in, lock_agents, trust_of};
pub use begin::BegunEdge;
pub use change::{AgentChange, What};
pub use discover::{Page, Search};
pub use heartbeat::{Heard, Heartbeat, Said};
pub use lease::PeerAddress;
pub use page::Cursor;
pub use register::Registered;
pub use registration::{NewRegistration, Registration, known_among};
pub use timing::Timing;

use crate::{
    clock::Ambient,
    db::{Db, batch::Batcher},
    identity::Identity,
};

/// What operators say about agents.
#[derive(Debug, Clone)]
pub struct Agents {
    db: Db,
    ambient: Ambient,
}

impl Agents {
    /// The service on a database.
    pub fn new(db: Db, ambient: Ambient) -> Self {
        Self { db, ambient }
    }
}

/// The registrations of agents, and the leases that they live by.
#[derive(Debug, Clone)]
pub struct Registry {
    db: Db,
    ambient: Ambient,
    identity: Identity,
    timing: Timing,
    heartbeats: Batcher<heartbeat::Operation>,
    sight: Arc<Mutex<sweep::Sight>>,
}

impl Registry {
    /// Starts the service.
    pub fn start(db: Db, ambient: Ambient, identity: Identity, timing: Timing) -> Self {
        Self {
            heartbeats: Batcher::spawn(heartbeat::Operation {
                db: db.clone(),
                ambient: ambient.clone(),
                timing,
            }),
            db,
            ambient,
            identity,
            timing,
            sight: Arc::default(),
        }
    }

    /// How often edges have to be heard.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }
}
