//! Against RFC 6962's own definition, written down as it stands there.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::credential::sha256;

/// MTH of RFC 6962, 2.1, word for word.
fn definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash(sha256(b"")),
        [one] => *one,
        many => {
            let mut k = 1;
            while k * 2 < many.len() {
                k *= 2;
            }
            let mut node = vec![1];
            node.extend_from_slice(&definition(&many[..k]).0);
            node.extend_from_slice(&definition(&many[k..]).0);
            Hash(sha256(&node))
        }
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count)
        .map(|number| leaf_hash(number.to_string().as_bytes()))
        .collect()
}

/// A tree that was appended to in steps, as it is stored.
fn stored(leaves: &[Hash], step: usize) -> (BTreeMap<TileId, Vec<u8>>, Frontier) {
    let (mut tiles, mut frontier) = (BTreeMap::new(), Frontier::default());
    for some in leaves.chunks(step) {
        tiles.extend(frontier.append(some).unwrap());
    }
    (tiles, frontier)
}

fn only(tiles: &BTreeMap<TileId, Vec<u8>>, ids: Vec<TileId>) -> Tiles {
    ids.into_iter().map(|id| (id, tiles[&id].clone())).collect()
}

#[test]
fn a_leaf_is_hashed_with_a_zero_byte_before_it() {
    assert_eq!(leaf_hash(b"entry").0, sha256(b"\0entry"));
    assert_eq!(EMPTY_HASH.0, sha256(b""));
}

#[test]
fn tiles_are_whole_where_the_level_above_has_their_root() {
    let (tiles, frontier) = stored(&leaves(256 * 256 + 3), 1000);
    assert_eq!(tiles.len(), 256 + 1 + 1 + 1);
    let width = |level, index| tiles[&TileId { level, index }].len() / 32;
    assert_eq!((width(0, 0), width(0, 255), width(0, 256)), (256, 256, 3));
    assert_eq!((width(1, 0), width(2, 0)), (256, 1));
    assert_eq!(
        Frontier::tiles(frontier.size()),
        [
            TileId {
                level: 0,
                index: 256
            },
            TileId { level: 2, index: 0 }
        ]
    );
}

#[test]
fn a_frontier_without_its_tiles_is_refused() {
    let id = TileId { level: 0, index: 1 };
    assert_eq!(
        Frontier::load(300, |_| None),
        Err(FrontierError::Missing(id))
    );
    assert!(Frontier::load(u64::MAX, |_| None).is_err());
    assert_eq!(Frontier::load(0, |_| None).unwrap().root(), EMPTY_HASH);
}

#[test]
fn what_cannot_be_proved_is_refused_and_nothing_panics() {
    let hash = leaf_hash(b"x");
    for (size, index) in [(0, 0), (1, 1), (u64::MAX, 1), (u64::MAX, u64::MAX)] {
        assert!(prove_inclusion(&Tiles::default(), size, index).is_err());
        assert!(verify_inclusion(&[hash], (size, hash), index, hash).is_err());
    }
    for (from, to) in [(0, 0), (0, 1), (2, 1), (1, u64::MAX)] {
        assert!(prove_consistency(&Tiles::default(), from, to).is_err());
        assert!(verify_consistency(&[hash], (from, hash), (to, hash)).is_err());
    }
    assert!(verify_consistency(&[], (1, hash), (1, leaf_hash(b"y"))).is_err());
    assert!(verify_inclusion(&vec![hash; 65], (MAX_SIZE, hash), 0, hash).is_err());
    assert_eq!(
        prove_inclusion(&Tiles::default(), 300, 7),
        Err(ProofError::Tile)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_root_is_that_of_the_definition_however_it_was_appended(count in 0_usize..1500, step in 1_usize..700) {
        let leaves = leaves(count);
        let (tiles, frontier) = stored(&leaves, step);
        prop_assert_eq!(frontier.root(), definition(&leaves));
        let size = frontier.size();
        prop_assert_eq!(root(&only(&tiles, root_tiles(size)), size).unwrap(), definition(&leaves));
        let loaded = Frontier::load(size, |id| tiles.get(&id).cloned()).unwrap();
        prop_assert_eq!(loaded.root(), frontier.root());
    }

    #[test]
    fn a_proof_holds_for_its_leaf_and_place_and_for_nothing_else(
        count in 1_usize..1500, size in 1_usize..1500, index in 0_usize..1500, other in any::<u8>(),
    ) {
        let leaves = leaves(count);
        let some = size.min(count);
        let index = index % some;
        let (tiles, _) = stored(&leaves, 400);
        let (size, at) = (some as u64, index as u64);
        let path = prove_inclusion(&only(&tiles, inclusion_tiles(size, at)), size, at).unwrap();
        let head = (size, definition(&leaves[..some]));
        prop_assert_eq!(verify_inclusion(&path, head, at, leaves[index]), Ok(()));
        prop_assert!(verify_inclusion(&path, head, at, leaf_hash(&[other])).is_err());
        if size > 1 {
            prop_assert!(verify_inclusion(&path, head, (at + 1) % size, leaves[index]).is_err());
            prop_assert!(verify_inclusion(&path[1..], head, at, leaves[index]).is_err());
        }
    }

    #[test]
    fn a_log_is_consistent_with_its_beginnings_and_with_nothing_else(
        count in 1_usize..1500, to in 1_usize..1500, from in 1_usize..1500, spoilt in any::<usize>(),
    ) {
        let leaves = leaves(count);
        let to = to.min(count);
        let from = from.min(to);
        let (tiles, _) = stored(&leaves, 256);
        let (low, high) = (from as u64, to as u64);
        let proof = prove_consistency(&only(&tiles, consistency_tiles(low, high)), low, high).unwrap();
        let (old, new) = ((low, definition(&leaves[..from])), (high, definition(&leaves[..to])));
        prop_assert_eq!(verify_consistency(&proof, old, new), Ok(()));
        let mut others = leaves[..from].to_vec();
        others[spoilt % from] = leaf_hash(b"another");
        prop_assert!(verify_consistency(&proof, (low, definition(&others)), new).is_err());
    }
}
