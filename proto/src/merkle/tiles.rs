//! Tiles: 256 hashes of one level in a row, the unit that is stored.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
};

use tlog_tiles::{
    tile::Tile,
    tlog::{self, Error, HashReader},
};

use super::Hash;

/// Hashes in a whole tile.
pub const TILE_WIDTH: usize = 256;
/// Levels of the tree in a tile: `2^8` hashes.
pub(super) const HEIGHT: u8 = 8;
/// Bytes of a hash.
pub(super) const HASH: usize = 32;

/// A tile's place: level 0 has the leaf hashes, and each hash of a higher level
/// is the root of a whole tile of the level below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// From the leaves up.
    pub level: u8,
    /// From the oldest on.
    pub index: u64,
}

/// Tiles that were read. Each holds the bytes of its hashes in order; one that
/// has more of them than asked for serves smaller trees as well.
#[derive(Debug, Default)]
pub struct Tiles(HashMap<TileId, Vec<u8>>);

impl Tiles {
    /// Puts a tile in.
    pub fn insert(&mut self, id: TileId, hashes: Vec<u8>) {
        self.0.insert(id, hashes);
    }

    /// The hashes of a tile.
    pub fn get(&self, id: TileId) -> Option<&Vec<u8>> {
        self.0.get(&id)
    }

    /// One hash of a tile, by its place in there.
    pub fn hash(&self, id: TileId, at: u64) -> Option<Hash> {
        let from = usize::try_from(at).ok()?.checked_mul(HASH)?;
        super::hash_of(self.get(id)?.get(from..from.checked_add(HASH)?)?)
    }
}

impl FromIterator<(TileId, Vec<u8>)> for Tiles {
    fn from_iter<I: IntoIterator<Item = (TileId, Vec<u8>)>>(tiles: I) -> Self {
        Self(tiles.into_iter().collect())
    }
}

impl HashReader for Tiles {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, Error> {
        indexes
            .iter()
            .map(|&index| {
                let tile = Tile::from_index(HEIGHT, index);
                let hashes = self.0.get(&id_of(&tile)).ok_or(Error::InvalidTile)?;
                tile.hash_at_index(hashes, index)
            })
            .collect()
    }
}

/// Notes which tiles are asked for, and has none of them.
#[derive(Default)]
pub(super) struct Wanted(RefCell<BTreeSet<TileId>>);

impl Wanted {
    pub(super) fn into_ids(self) -> Vec<TileId> {
        self.0.into_inner().into_iter().collect()
    }
}

impl HashReader for Wanted {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, Error> {
        let ids = indexes
            .iter()
            .map(|&index| id_of(&Tile::from_index(HEIGHT, index)));
        self.0.borrow_mut().extend(ids);
        Err(Error::InvalidTile)
    }
}

fn id_of(tile: &Tile) -> TileId {
    TileId {
        level: tile.level(),
        index: tile.level_index(),
    }
}
