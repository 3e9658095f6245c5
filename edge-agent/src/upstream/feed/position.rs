//! Where the streams have been followed to, and which proofs wait for more.

use std::collections::{BTreeMap, VecDeque};

use authguardian_proto::{
    common::v1::Position,
    events::v1::{SeenChange, StreamPosition},
};
use prost_types::Timestamp;

use crate::freshness::Proof;

/// The streams that this edge follows, of every control plane …
pub(super) const STREAMS: [&str; 4] = ["identity", "policy", "registry", "grants"];

/// … and of those that have it. Nothing is lost without it: it says sooner what is
/// heard anyway.
const BUDGETS: &str = "budgets";

/// The streams that a proof is about.
pub(super) const PROVED: [&str; 2] = ["grants", "identity"];

/// Most proofs that wait; the oldest come true first.
const WAITING: usize = 16;

/// Where each stream was followed to; unknown ones have to be listed.
#[derive(Debug, Clone, Default)]
pub(super) struct Followed {
    positions: BTreeMap<String, Position>,
    /// The last change of each stream, where one was seen.
    seen: BTreeMap<String, SeenChange>,
    waiting: VecDeque<(Proof, Vec<StreamPosition>)>,
}

impl Followed {
    /// Nothing is known any more; proofs that wait are void.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether every stream can be resumed.
    pub(super) fn is_known(&self) -> bool {
        STREAMS
            .iter()
            .all(|stream| self.positions.contains_key(*stream))
    }

    /// Whether the control plane has still to be asked if it has all streams.
    pub(super) fn lacks_some(&self) -> bool {
        !self.positions.contains_key(BUDGETS)
    }

    /// The control plane does not know a stream: it is older than this edge.
    pub(super) fn forget_newest(&mut self) {
        self.positions.remove(BUDGETS);
    }

    /// Takes up the newer streams where they are now.
    pub(super) fn take_up(&mut self, heads: Vec<StreamPosition>) {
        for head in heads.into_iter().filter(|head| head.stream == BUDGETS) {
            self.advance(head.stream, head.position);
        }
    }

    /// A stream was followed up to here.
    pub(super) fn advance(&mut self, stream: String, position: Option<Position>) {
        if let Some(position) = position {
            self.positions.insert(stream, position);
        }
    }

    /// A change was followed, that was made then.
    pub(super) fn see(&mut self, stream: &str, position: Option<Position>, at: Option<Timestamp>) {
        if position.is_some() && at.is_some() {
            let seen = SeenChange {
                stream: stream.to_owned(),
                position,
                occurred_at: at,
            };
            self.seen.insert(stream.to_owned(), seen);
        }
    }

    /// The changes that were seen last, of the epochs that are followed now.
    pub(super) fn seen(&self) -> Vec<SeenChange> {
        let is_of_now = |seen: &&SeenChange| {
            let epoch = |position: &Option<Position>| position.map(|position| position.epoch);
            let followed = self.positions.get(&seen.stream).copied();
            epoch(&seen.position) == epoch(&followed)
        };
        self.seen.values().filter(is_of_now).cloned().collect()
    }

    /// Where a stream was followed to.
    pub(super) fn position(&self, stream: &str) -> Option<Position> {
        self.positions.get(stream).copied()
    }

    /// Where each stream is to be resumed.
    pub(super) fn request(&self) -> Vec<StreamPosition> {
        let newest = self.positions.contains_key(BUDGETS).then_some(BUDGETS);
        STREAMS
            .into_iter()
            .chain(newest)
            .map(|stream| StreamPosition {
                stream: stream.to_owned(),
                position: self.positions.get(stream).copied(),
            })
            .collect()
    }

    /// A proof that holds once the streams were followed to these heads.
    pub(super) fn wait_for(&mut self, proof: Proof, heads: Vec<StreamPosition>) {
        if self.waiting.len() < WAITING {
            self.waiting.push_back((proof, heads));
        }
    }

    /// The newest proof that holds now; it and older ones wait no more.
    pub(super) fn proved(&mut self) -> Option<Proof> {
        let mut newest = None;
        while let Some((proof, heads)) = self.waiting.front() {
            if !self.reaches(heads) {
                break;
            }
            newest = Some(*proof);
            self.waiting.pop_front();
        }
        newest
    }

    fn reaches(&self, heads: &[StreamPosition]) -> bool {
        PROVED.iter().all(|stream| {
            let head = heads
                .iter()
                .find(|head| head.stream == *stream)
                .and_then(|head| head.position);
            match (head, self.positions.get(*stream)) {
                (Some(head), Some(followed)) => {
                    followed.epoch == head.epoch && followed.revision >= head.revision
                }
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(epoch: u64, revision: u64) -> Position {
        Position { epoch, revision }
    }

    fn heads(grants: u64, identity: u64) -> Vec<StreamPosition> {
        [("grants", grants), ("identity", identity), ("policy", 99)]
            .map(|(stream, revision)| StreamPosition {
                stream: stream.into(),
                position: Some(at(1, revision)),
            })
            .into()
    }

    fn proof(second: u64) -> Proof {
        Proof {
            asked_at: Duration::from_secs(second),
            server_time_ms: 0,
        }
    }

    #[test]
    fn a_proof_holds_when_both_streams_were_followed_that_far() {
        let mut followed = Followed::default();
        followed.wait_for(proof(1), heads(5, 3));
        assert_eq!(followed.proved(), None, "nothing was followed");
        followed.advance("identity".into(), Some(at(1, 3)));
        followed.advance("grants".into(), Some(at(1, 4)));
        assert_eq!(followed.proved(), None);
        followed.advance("grants".into(), Some(at(1, 5)));
        assert_eq!(followed.proved(), Some(proof(1)));
        assert_eq!(followed.proved(), None, "it was told");
    }

    #[test]
    fn the_newest_of_several_is_told_and_another_epoch_proves_nothing() {
        let mut followed = Followed::default();
        followed.advance("identity".into(), Some(at(1, 3)));
        followed.advance("grants".into(), Some(at(1, 6)));
        followed.wait_for(proof(1), heads(5, 3));
        followed.wait_for(proof(2), heads(6, 3));
        followed.wait_for(proof(3), heads(7, 3));
        assert_eq!(followed.proved(), Some(proof(2)));
        followed.advance("grants".into(), Some(at(2, 50)));
        assert_eq!(followed.proved(), None);
    }

    #[test]
    fn a_break_resumes_where_it_was() {
        let mut followed = Followed::default();
        assert!(!followed.is_known());
        for stream in STREAMS {
            followed.advance(stream.into(), Some(at(1, 7)));
        }
        assert!(followed.is_known());
        assert!(
            followed
                .request()
                .iter()
                .all(|after| after.position == Some(at(1, 7)))
        );
        followed.forget();
        assert!(!followed.is_known());
    }

    #[test]
    fn a_stream_that_not_every_control_plane_has_is_followed_where_there_is_one() {
        let mut followed = Followed::default();
        for stream in STREAMS {
            followed.advance(stream.into(), Some(at(1, 7)));
        }
        assert!(followed.is_known() && followed.lacks_some());
        assert_eq!(followed.request().len(), STREAMS.len());
        let head = |stream: &str| StreamPosition {
            stream: stream.into(),
            position: Some(at(1, 9)),
        };
        followed.take_up(vec![head("grants"), head(BUDGETS)]);
        assert!(!followed.lacks_some());
        assert_eq!(followed.position("grants"), Some(at(1, 7)), "as it was");
        assert_eq!(followed.request().last(), Some(&head(BUDGETS)));
        followed.forget_newest();
        assert!(followed.is_known() && followed.lacks_some());
        assert_eq!(followed.request().len(), STREAMS.len());
    }

    #[test]
    fn the_last_change_of_each_stream_is_known_while_its_epoch_is_followed() {
        let mut followed = Followed::default();
        for stream in STREAMS {
            followed.advance(stream.into(), Some(at(1, 7)));
        }
        assert_eq!(followed.seen(), []);
        let made = |seconds| Some(Timestamp { seconds, nanos: 5 });
        followed.see("grants", Some(at(1, 8)), made(100));
        followed.see("grants", Some(at(1, 9)), made(101));
        let seen = followed.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].position, Some(at(1, 9)));
        assert_eq!(seen[0].occurred_at, made(101));
        followed.advance("grants".into(), Some(at(2, 3)));
        assert_eq!(followed.seen(), []);
    }
}
