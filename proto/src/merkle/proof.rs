//! Proofs of inclusion and of consistency (RFC 6962, 2.1.1 and 2.1.2): which
//! tiles they need, making them, checking them.

use tlog_tiles::tlog;

use super::{
    EMPTY_HASH, Hash, MAX_SIZE, TileId, Tiles,
    hash::{as_ours, as_theirs},
    tiles::Wanted,
};

/// No path in a tree of at most [`MAX_SIZE`] leaves is longer.
const LONGEST: usize = 64;

/// Why there is no proof, or why it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Index and sizes do not fit each other.
    #[error("the index and the sizes do not fit each other")]
    Range,
    /// A tile is missing or has too few hashes.
    #[error("a tile of the tree is missing or too short")]
    Tile,
    /// The hashes do not come to the root.
    #[error("the proof does not come to the root")]
    Invalid,
}

/// The tiles that [`root`] needs.
pub fn root_tiles(size: u64) -> Vec<TileId> {
    wanted(|reader| {
        let _ = tlog::tree_hash(size, reader);
    })
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// When a tile is missing.
pub fn root(tiles: &Tiles, size: u64) -> Result<Hash, ProofError> {
    if size > MAX_SIZE {
        return Err(ProofError::Range);
    }
    if size == 0 {
        return Ok(EMPTY_HASH);
    }
    tlog::tree_hash(size, tiles)
        .map(Hash::from)
        .map_err(|_| ProofError::Tile)
}

/// The tiles that [`prove_inclusion`] needs.
pub fn inclusion_tiles(size: u64, index: u64) -> Vec<TileId> {
    wanted(|reader| {
        let _ = tlog::prove_record(size, index, reader);
    })
}

/// The path from a leaf to the root at a size.
///
/// # Errors
/// When `index` is not below `size`, or a tile is missing.
pub fn prove_inclusion(tiles: &Tiles, size: u64, index: u64) -> Result<Vec<Hash>, ProofError> {
    if index >= size || size > MAX_SIZE {
        return Err(ProofError::Range);
    }
    tlog::prove_record(size, index, tiles)
        .map(as_ours)
        .map_err(|_| ProofError::Tile)
}

/// Checks that the leaf stands at `index` in the tree of this size and root.
///
/// # Errors
/// When it does not, or the proof says nothing about it.
pub fn verify_inclusion(
    path: &[Hash],
    (size, root): (u64, Hash),
    index: u64,
    leaf: Hash,
) -> Result<(), ProofError> {
    if index >= size || size > MAX_SIZE {
        return Err(ProofError::Range);
    }
    if path.len() > LONGEST {
        return Err(ProofError::Invalid);
    }
    tlog::check_record(&as_theirs(path), size, root.into(), index, leaf.into())
        .map_err(|_| ProofError::Invalid)
}

/// The tiles that [`prove_consistency`] needs.
pub fn consistency_tiles(from: u64, to: u64) -> Vec<TileId> {
    wanted(|reader| {
        let _ = tlog::prove_tree(to, from, reader);
    })
}

/// That the first `from` leaves are the beginning of the first `to`.
///
/// # Errors
/// When `from` is not between 1 and `to`, or a tile is missing.
pub fn prove_consistency(tiles: &Tiles, from: u64, to: u64) -> Result<Vec<Hash>, ProofError> {
    if from == 0 || from > to || to > MAX_SIZE {
        return Err(ProofError::Range);
    }
    tlog::prove_tree(to, from, tiles)
        .map(as_ours)
        .map_err(|_| ProofError::Tile)
}

/// Checks that the tree of one size and root is the beginning of another.
///
/// # Errors
/// When it is not, or the proof says nothing about it.
pub fn verify_consistency(
    proof: &[Hash],
    (from, from_root): (u64, Hash),
    (to, to_root): (u64, Hash),
) -> Result<(), ProofError> {
    if from == 0 || from > to || to > MAX_SIZE {
        return Err(ProofError::Range);
    }
    if proof.len() > LONGEST {
        return Err(ProofError::Invalid);
    }
    // of equal sizes the crate compares nothing but the proof
    if from == to && from_root != to_root {
        return Err(ProofError::Invalid);
    }
    tlog::check_tree(
        &as_theirs(proof),
        to,
        to_root.into(),
        from,
        from_root.into(),
    )
    .map_err(|_| ProofError::Invalid)
}

fn wanted(ask: impl FnOnce(&Wanted)) -> Vec<TileId> {
    let reader = Wanted::default();
    ask(&reader);
    reader.into_ids()
}
