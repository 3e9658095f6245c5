//! The right edge of a tree: all that appending needs.

use std::collections::BTreeMap;

use tlog_tiles::tile::Tile;

use super::{
    Hash, MAX_SIZE, TILE_WIDTH, TileId, Tiles,
    proof::root,
    tiles::{HASH, HEIGHT},
};

/// The tiles of each level that are not whole yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// By level; hashes of the last tile, fewer than [`TILE_WIDTH`].
    partial: Vec<Vec<u8>>,
}

/// Why a frontier cannot be what it is given as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// A tile is missing or has too few hashes.
    #[error("a tile of level {} is missing or too short", .0.level)]
    Missing(TileId),
    /// More entries than a log can have.
    #[error("a log has at most {MAX_SIZE} entries")]
    TooLarge,
}

impl Frontier {
    /// The tiles that [`Frontier::load`] needs for a tree of this size.
    pub fn tiles(size: u64) -> Vec<TileId> {
        levels(size)
            .filter(|(_, held)| *held > 0)
            .map(|(id, _)| id)
            .collect()
    }

    /// The right edge of a stored tree; `tile` gives the hashes of a tile.
    ///
    /// # Errors
    /// When a tile is not there.
    pub fn load(
        size: u64,
        mut tile: impl FnMut(TileId) -> Option<Vec<u8>>,
    ) -> Result<Self, FrontierError> {
        if size > MAX_SIZE {
            return Err(FrontierError::TooLarge);
        }
        let mut partial = Vec::new();
        for (id, held) in levels(size) {
            let mut hashes = Vec::new();
            if held > 0 {
                hashes = tile(id)
                    .filter(|hashes| hashes.len() >= held * HASH)
                    .ok_or(FrontierError::Missing(id))?;
                hashes.truncate(held * HASH);
            }
            partial.push(hashes);
        }
        Ok(Self { size, partial })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends leaves; returns every tile that has changed, with all of its
    /// hashes.
    ///
    /// # Errors
    /// When the log would be too large; nothing is appended then.
    pub fn append(&mut self, leaves: &[Hash]) -> Result<BTreeMap<TileId, Vec<u8>>, FrontierError> {
        let fits = u64::try_from(leaves.len())
            .ok()
            .and_then(|count| self.size.checked_add(count));
        if fits.is_none_or(|size| size > MAX_SIZE) {
            return Err(FrontierError::TooLarge);
        }
        let mut changed = BTreeMap::new();
        for leaf in leaves {
            self.push(0, *leaf, &mut changed);
            self.size += 1;
        }
        for (id, held) in levels(self.size) {
            let hashes = &self.partial[usize::from(id.level)];
            if held > 0 && changed.contains_key(&id) {
                changed.insert(id, hashes.clone());
            }
        }
        // what was only marked and became whole stands in there already
        changed.retain(|_, hashes| !hashes.is_empty());
        Ok(changed)
    }

    /// Adds a hash to a level, and the root of its tile to the one above once
    /// that tile is whole.
    fn push(&mut self, level: u8, hash: Hash, changed: &mut BTreeMap<TileId, Vec<u8>>) {
        let at = usize::from(level);
        if self.partial.len() <= at {
            self.partial.resize(at + 1, Vec::new());
        }
        self.partial[at].extend_from_slice(&hash.0);
        // the tile that the leaf being added, number `size`, belongs to on this level
        let id = TileId {
            level,
            index: self.size >> (u32::from(HEIGHT) * (u32::from(level) + 1)),
        };
        if self.partial[at].len() < TILE_WIDTH * HASH {
            changed.entry(id).or_default();
            return;
        }
        let whole = std::mem::take(&mut self.partial[at]);
        let above = Tile::subtree_hash(&whole).into();
        changed.insert(id, whole);
        self.push(level + 1, above, changed);
    }

    /// The root at this size (RFC 6962, 2.1).
    pub fn root(&self) -> Hash {
        let tiles: Tiles = levels(self.size)
            .filter(|(_, held)| *held > 0)
            .map(|(id, _)| (id, self.partial[usize::from(id.level)].clone()))
            .collect();
        // the frontier has every hash that the root is made of
        root(&tiles, self.size).unwrap_or(super::EMPTY_HASH)
    }
}

/// The last tile of each level of a tree of this size, and how many hashes it
/// has; 0 where the one before is the last.
fn levels(size: u64) -> impl Iterator<Item = (TileId, usize)> {
    let width = 1_u64 << HEIGHT;
    (0_u8..)
        .map(move |level| {
            (
                level,
                size.checked_shr(u32::from(HEIGHT) * u32::from(level))
                    .unwrap_or(0),
            )
        })
        .take_while(|(_, hashes)| *hashes > 0)
        .map(move |(level, hashes)| {
            let id = TileId {
                level,
                index: hashes / width,
            };
            (id, usize::try_from(hashes % width).unwrap_or_default())
        })
}
