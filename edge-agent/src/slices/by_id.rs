//! Maps by ids that this process made itself.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use uuid::Uuid;

/// A map by ids of reservations, which nobody else chooses: their last eight bytes are random
/// (RFC 9562, section 5.7), so that they need no hashing.
pub(super) type ById<V> = HashMap<Uuid, V, BuildHasherDefault<LastBytes>>;

/// Takes the last eight bytes for a hash.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastBytes(u64);

/// 2⁶⁴ by the golden ratio: what is known of the first of those bytes, the variant, is spread.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for LastBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_be_bytes(*last).wrapping_mul(SPREAD);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
