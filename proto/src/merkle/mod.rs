//! The Merkle tree of RFC 6962 over the entries of the audit log, kept in
//! tiles (C2SP tlog-tiles): what is stored, what is proved, what is checked.
//!
//! Hashing, proofs and their checking are those of the crate `tlog_tiles`;
//! here they get bounds, so that nothing that comes from outside panics, and
//! the reading of tiles is split from the computing, so that who stores tiles
//! elsewhere can say first which ones are needed.

mod frontier;
mod hash;
mod proof;
mod tiles;

pub use frontier::{Frontier, FrontierError};
pub use hash::{EMPTY_HASH, Hash};
pub use proof::{
    ProofError, consistency_tiles, inclusion_tiles, prove_consistency, prove_inclusion, root,
    root_tiles, verify_consistency, verify_inclusion,
};
pub use tiles::{TILE_WIDTH, TileId, Tiles};

/// Most entries of a log: sizes and indexes are signed 64-bit numbers in the
/// database.
pub const MAX_SIZE: u64 = i64::MAX.unsigned_abs();

/// Hash of a leaf: SHA-256 of a zero byte and the leaf (RFC 6962, 2.1).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    tlog_tiles::tlog::record_hash(leaf).into()
}

/// Reads a hash from its 32 bytes.
pub fn hash_of(bytes: &[u8]) -> Option<Hash> {
    bytes.try_into().ok().map(Hash)
}

#[cfg(test)]
mod tests;
