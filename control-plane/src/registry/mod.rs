//! The registry: which agents there are, and how far each is trusted.

pub mod agent;
mod store;

pub use agent::{Agent, PutAgent, agent_changed, delete_in, lock_agents};

use crate::{clock::Ambient, db::Db};

/// The registry of agents.
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
