//! Replicas on disk, and a small control plane that they are synced through.

mod bounds;
mod converge;
pub(super) mod disk;
mod durable;
mod faults;
mod handing;
mod model;
mod session;
mod told;
mod watches;

use std::{path::Path, sync::Arc, time::Duration};

use authguardian_proto::{
    blackboard::v1::{self as pb, follow_response::About},
    board::Key,
    common::v1::Position,
    ids::{BoardName, MachineId},
};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Acknowledged, Content, Delete, Found, Limits, Put, Range, Replica, Value, WriteError};
use crate::clock::{Ambient, Entropy, manual::ManualClock};
use model::Model;

/// Long enough for anything that is to happen.
const PATIENCE: Duration = Duration::from_secs(10);

fn machine(number: u128) -> MachineId {
    MachineId::from_uuid(Uuid::from_u128(number))
}

fn board() -> BoardName {
    "plans".parse().unwrap()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn terms(name: &str, level: pb::Level) -> pb::Board {
    pb::Board {
        name: name.to_owned(),
        level: level.into(),
        max_keys: 1_000_000,
        max_bytes: 1 << 30,
        ..pb::Board::default()
    }
}

fn about(about: About) -> pb::FollowResponse {
    pb::FollowResponse { about: Some(about) }
}

fn told(board: pb::Board, reset: bool) -> pb::FollowResponse {
    about(About::Board(pb::ReplicatedBoard {
        board: Some(board),
        reset,
    }))
}

fn at(epoch: u64, revision: u64) -> Position {
    Position { epoch, revision }
}

/// A replica in a directory of its own.
struct Rig {
    dir: TempDir,
    clock: Arc<ManualClock>,
    ambient: Ambient,
    machine: MachineId,
    limits: Limits,
    replica: Replica,
}

impl Rig {
    /// One that has an eventual board.
    async fn new() -> Self {
        let rig = Self::empty(1, Limits::default());
        let terms = terms("plans", pb::Level::Eventual);
        rig.replica.take(vec![told(terms, false)]).await.unwrap();
        rig
    }

    fn empty(number: u128, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, mut ambient) = ManualClock::ambient();
        ambient.entropy = Arc::new(Entropy::from_seed(u64::try_from(number).unwrap()));
        let machine = machine(number);
        let replica = Replica::open(dir.path(), machine, limits, ambient.clone()).unwrap();
        Self {
            dir,
            clock,
            ambient,
            machine,
            limits,
            replica,
        }
    }

    /// Closes it and opens it again.
    async fn reopen(&mut self) {
        self.replica.close().await;
        self.replica = self.open(self.dir.path());
    }

    fn open(&self, dir: &Path) -> Replica {
        Replica::open(dir, self.machine, self.limits, self.ambient.clone()).unwrap()
    }

    /// Puts an older file in place of the present one, as a restored disk does.
    async fn put_back(&mut self, old: &TempDir) {
        self.replica.close().await;
        copy(old.path(), self.dir.path());
        self.replica = self.open(self.dir.path());
    }

    async fn put(&self, at: &str, value: &str) -> Acknowledged {
        self.try_put(at, value).await.unwrap()
    }

    async fn try_put(&self, at: &str, value: &str) -> Result<Acknowledged, WriteError> {
        self.replica.put(put(at, value)).await
    }

    async fn delete(&self, at: &str) -> Option<Acknowledged> {
        let delete = Delete {
            board: board(),
            key: key(at),
            writer: "agent:a".into(),
        };
        self.replica.delete(delete).await.unwrap()
    }

    fn value(&self, at: &str) -> Option<Value> {
        value_in(&self.replica, at)
    }

    /// The text that readers are told.
    fn text(&self, at: &str) -> Option<String> {
        self.value(at).map(|value| value.value.to_string())
    }

    /// Tells the model as whom it is, as after each start.
    async fn greet(&self, model: &mut Model) {
        let (incarnation, counter) = self.replica.last_actor();
        let (incarnation, received) = model.open(self.machine, incarnation, counter);
        self.replica.confirm(incarnation, received).await.unwrap();
    }

    /// Hands over some writes.
    async fn push(&self, model: &mut Model, limit: usize) {
        let writes = self.replica.outgoing(limit).unwrap();
        let Some(first) = writes.first() else { return };
        let incarnation = first.incarnation;
        let pushed = writes.into_iter().map(|write| write.pushed).collect();
        let answer = model.push(self.machine, incarnation, pushed);
        let handed = self
            .replica
            .handed_over(incarnation, answer.counter, answer.refused);
        handed.await.unwrap();
    }

    async fn pull(&self, model: &Model) {
        let told = model.follow(&self.replica.positions());
        self.replica.take(told).await.unwrap();
    }

    /// Until both have all of each other.
    async fn sync(&self, model: &mut Model) {
        while !self.replica.outgoing(1).unwrap().is_empty() {
            self.push(model, 512).await;
        }
        self.pull(model).await;
    }
}

fn put(at: &str, value: &str) -> Put {
    Put {
        board: board(),
        key: key(at),
        value: value.into(),
        writer: "agent:a".into(),
        ttl_seconds: None,
    }
}

fn value_in(replica: &Replica, at: &str) -> Option<Value> {
    let found = replica.get(&board(), &key(at)).unwrap();
    found.map(|Found { content, .. }| match content {
        Content::Eventual(value) => value,
        Content::Session(entry) => panic!("{entry:?}"),
    })
}

/// All that a replica tells of the board.
fn contents(replica: &Replica) -> Vec<(Key, Value)> {
    let (mut contents, mut range) = (Vec::new(), Range::default());
    range.limit = 1_000;
    loop {
        let page = replica.list(&board(), &range, false).unwrap();
        for (key, found) in page.entries {
            match found.content {
                Content::Eventual(value) => contents.push((key, value)),
                Content::Session(entry) => panic!("{entry:?}"),
            }
        }
        range.after = page.next;
        if range.after.is_none() {
            return contents;
        }
    }
}

/// Copies the file of a replica. Of one that is open, what is copied is what a killed
/// process leaves.
fn copy(from: &Path, to: &Path) {
    let file = super::store::FILE;
    std::fs::copy(from.join(file), to.join(file)).unwrap();
}

fn copied(from: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(from, dir.path());
    dir
}
