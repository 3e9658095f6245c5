//! The tree of the entries that were read.

use authguardian_proto::merkle::{Frontier, Hash};

use crate::cli::audit::misfit::Misfit;

/// Leaves that are added at once.
const BATCH: usize = 4096;

/// The tree so far; leaves are added in batches.
#[derive(Default)]
pub(super) struct Tree {
    frontier: Frontier,
    waiting: Vec<Hash>,
    size: u64,
}

impl Tree {
    /// How many leaves there are.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn push(&mut self, leaf: Hash) -> Result<(), Misfit> {
        self.waiting.push(leaf);
        self.size += 1;
        if self.waiting.len() < BATCH {
            return Ok(());
        }
        self.add()
    }

    fn add(&mut self) -> Result<(), Misfit> {
        let added = self.frontier.append(&self.waiting);
        self.waiting.clear();
        added.map_err(|error| Misfit::new(error.to_string()))?;
        Ok(())
    }

    pub(super) fn root(&mut self) -> Result<Hash, Misfit> {
        self.add()?;
        Ok(self.frontier.root())
    }
}
