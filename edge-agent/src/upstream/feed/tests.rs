use authguardian_proto::{
    common::v1::Position,
    events::v1::{self as pb, change::Body},
};

use super::*;
use crate::clock::manual::ManualClock;

/// What it was handed.
#[derive(Default)]
struct Seen(Mutex<Vec<Change>>);

impl Follower for Seen {
    fn follow(&self, change: &Change) {
        self.0.lock().unwrap().push(change.clone());
    }
}

fn own() -> MachineId {
    "mch_0000000000000000000007".parse().unwrap()
}

fn feed() -> (Arc<ManualClock>, Arc<Seen>, Feed) {
    let (clock, ambient) = ManualClock::ambient();
    let seen = Arc::new(Seen::default());
    let freshness = Freshness::new(ambient.clock.clone());
    (
        clock,
        seen.clone(),
        Feed::new(ambient, freshness, own(), vec![seen]),
    )
}

fn at(revision: u64) -> Position {
    Position { epoch: 1, revision }
}

fn heads(grants: u64) -> Vec<StreamPosition> {
    [("grants", grants), ("identity", 1)]
        .map(|(stream, revision)| StreamPosition {
            stream: stream.into(),
            position: Some(at(revision)),
        })
        .into()
}

fn progress(grants: u64) -> WatchResponse {
    WatchResponse {
        message: Some(Message::Progress(pb::Progress {
            heads: heads(grants),
        })),
    }
}

fn change(stream: &str, revision: u64, body: Body) -> WatchResponse {
    let change = pb::Change {
        stream: stream.to_owned(),
        position: Some(at(revision)),
        occurred_at: None,
        body: Some(body),
    };
    WatchResponse {
        message: Some(Message::Changes(pb::Changes {
            changes: vec![change],
        })),
    }
}

#[test]
fn nothing_is_proved_before_the_changes_it_counts_in_were_handed_on() {
    let (clock, seen, feed) = feed();
    feed.take(progress(6)).unwrap();
    let asked_at = feed.ambient.clock.since_boot();
    clock.advance(Duration::from_millis(10));
    let proof = Proof {
        asked_at,
        server_time_ms: 1,
    };
    feed.expect(proof, heads(7));
    assert_eq!(feed.freshness().proof(), None, "revision 7 is on its way");
    let revoked = pb::GrantRevoked {
        grant_id: "grt_0000000000000000000001".into(),
        agent_id: "a".into(),
        expires_at: Some(prost_types::Timestamp::default()),
    };
    let mut changes = feed.subscribe();
    feed.take(change("grants", 7, Body::GrantRevoked(revoked)))
        .unwrap();
    assert!(matches!(
        seen.0.lock().unwrap()[..],
        [Change::Revoked { .. }]
    ));
    assert!(matches!(changes.try_recv(), Ok(Change::Revoked { .. })));
    assert_eq!(feed.freshness().age(), Some(Duration::from_millis(10)));
}

#[test]
fn a_revocation_that_cannot_be_read_stops_the_stream_before_it() {
    let (_, _, feed) = feed();
    feed.take(progress(6)).unwrap();
    let unreadable = Body::GrantRevoked(pb::GrantRevoked::default());
    assert!(feed.take(change("grants", 7, unreadable)).is_err());
    feed.expect(
        Proof {
            asked_at: Duration::ZERO,
            server_time_ms: 1,
        },
        heads(7),
    );
    assert_eq!(feed.freshness().proof(), None);
}

#[tokio::test]
async fn it_is_reached_when_something_is_proved() {
    let (_, _, feed) = feed();
    feed.take(progress(1)).unwrap();
    assert!(!*feed.proved.borrow());
    feed.expect(
        Proof {
            asked_at: Duration::ZERO,
            server_time_ms: 1,
        },
        heads(1),
    );
    feed.reached().await;
}

#[test]
fn a_refused_machine_ends_what_was_begun_once_and_is_heard_of_until_it_is_served() {
    let (clock, seen, feed) = feed();
    let refused = Problem::new(Reason::MachineBanned, "banned");
    let mut changes = feed.subscribe();
    feed.hear(&Problem::new(Reason::Unavailable, "away"));
    assert!(feed.standing().check().is_ok());
    feed.hear(&refused);
    feed.hear(&refused);
    assert_eq!(
        feed.standing().check().unwrap_err().reason,
        Reason::MachineBanned
    );
    let told = Change::Machine {
        refused: Some(Reason::MachineBanned),
    };
    assert_eq!(*seen.0.lock().unwrap(), std::slice::from_ref(&told));
    assert_eq!(changes.try_recv().unwrap(), told);
    assert!(changes.try_recv().is_err(), "once");
    clock.advance(Duration::from_secs(1));
    feed.served(feed.freshness().since_boot());
    assert!(feed.standing().check().is_ok());
}

#[test]
fn a_ban_is_heard_from_the_stream_and_an_unban_undoes_it() {
    let (_, _, feed) = feed();
    let changed = |revision, state: &str| {
        let body = pb::MachineChanged {
            machine_id: own().to_string(),
            state: state.to_owned(),
        };
        change("identity", revision, Body::MachineChanged(body))
    };
    feed.take(changed(2, "evicted")).unwrap();
    let refused = feed.standing().check().unwrap_err();
    assert_eq!(refused.reason, Reason::MachineEvicted);
    feed.take(changed(3, "active")).unwrap();
    assert!(feed.standing().check().is_ok());
}
