//! A hash of the tree.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use tlog_tiles::tlog;

/// SHA-256 of a leaf or of a node (RFC 6962, 2.1). Written in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// The root of a tree without leaves.
pub const EMPTY_HASH: Hash = Hash(tlog::EMPTY_HASH.0);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl From<tlog::Hash> for Hash {
    fn from(hash: tlog::Hash) -> Self {
        Self(hash.0)
    }
}

impl From<Hash> for tlog::Hash {
    fn from(hash: Hash) -> Self {
        Self(hash.0)
    }
}

/// As the crate takes many of them.
pub(super) fn as_theirs(hashes: &[Hash]) -> Vec<tlog::Hash> {
    hashes.iter().map(|&hash| hash.into()).collect()
}

/// As they are here.
pub(super) fn as_ours(hashes: Vec<tlog::Hash>) -> Vec<Hash> {
    hashes.into_iter().map(Hash::from).collect()
}
