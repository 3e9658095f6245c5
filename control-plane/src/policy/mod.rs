//! Policy: what may be asked for, how a request is scored, and the rules that
//! decide. Facts → score → Cedar.

pub mod engine;
pub mod facts;
pub mod justification;
mod nesting;
pub mod obligations;
pub mod resource_type;
mod rules;
pub mod scope;
pub mod score;
mod store;
pub mod suspension;
pub mod validation;
pub mod verdict;
pub mod version;

pub use engine::{Engine, PolicyText};
pub use facts::Facts;
pub use resource_type::{ResourceType, lock_resource_types};
pub use score::Score;
pub use suspension::{Suspensions, suspensions};
pub use validation::{SCHEMA, Validation};
pub use verdict::Verdict;
pub use version::{InForce, PolicyVersion, ensure_default, lock_active};

use crate::{clock::Ambient, db::Db, error::Result};

/// The policy service: resource types and versions of the policy set.
#[derive(Debug, Clone)]
pub struct Policies {
    db: Db,
    ambient: Ambient,
}

impl Policies {
    /// Opens the service; puts the shipped policies in force where there are
    /// none yet.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn open(db: Db, ambient: Ambient) -> Result<Self> {
        let mut tx = db.begin().await?;
        if ensure_default(&mut tx, ambient.clock.now()).await? {
            db.commit(tx).await?;
        }
        Ok(Self { db, ambient })
    }
}
