//! Replicas of boards, as the control plane sees them.

use std::{collections::BTreeMap, time::Duration};

use authguardian_proto::{
    board::{Key, Level},
    crdt::{Actor, Dot, HybridTime, Siblings, Write},
    ids::{BoardName, MachineId},
    reason::Reason,
};
use control_plane::{
    audit::{self, Context},
    blackboard::{
        BoardUpdate, ChangeKind, Filter, Follow, News, Opened, Opening, PushedWrite, ReadFrom,
        Refusal, Suspended, Who,
    },
    error::Result,
    events::{Position, SuspensionTarget},
    identity::{Serves, Terms},
};

use super::{board, delete, key, who, write, write_for};
use crate::{
    rig::{Rig, admin},
    wait::DEADLINE,
};

const EVENTUAL: &str = "eventual";

/// A replica as the tests play it.
pub(super) struct Replica {
    machine: MachineId,
    actor: Actor,
    epoch: i64,
    written: u64,
    boards: BTreeMap<BoardName, Copy>,
    suspended: Option<Suspended>,
}

#[derive(Default)]
struct Copy {
    position: Option<Position>,
    keys: BTreeMap<Key, Siblings<Write>>,
    entries: BTreeMap<Key, String>,
    resets: u32,
}

impl Replica {
    pub(super) async fn of(rig: &Rig, machine: &str) -> Self {
        Self::of_machine(rig, rig.machine(machine).await).await
    }

    async fn of_machine(rig: &Rig, machine: MachineId) -> Self {
        let mut replica = Self {
            machine,
            actor: Actor {
                machine,
                incarnation: 0,
            },
            epoch: 0,
            written: 0,
            boards: BTreeMap::new(),
            suspended: None,
        };
        let opened = replica.open(rig).await;
        replica.actor.incarnation = opened.incarnation;
        replica.epoch = opened.epoch;
        replica
    }

    async fn open(&self, rig: &Rig) -> Opened {
        let opening = Opening {
            incarnation: self.actor.incarnation,
            counter: self.written,
            have: self.have(),
        };
        let opened = rig.app.blackboard.open_replica(self.machine, &opening);
        opened.await.unwrap()
    }

    fn have(&self) -> Vec<(BoardName, Position)> {
        let boards = self.boards.iter();
        boards
            .filter_map(|(name, copy)| Some((name.clone(), copy.position?)))
            .collect()
    }

    /// Writes in sight of what this replica has.
    fn write(&mut self, at: &str, value: Option<&str>, millis: u64) -> PushedWrite {
        self.written += 1;
        let dot = Dot {
            actor: self.actor,
            counter: self.written,
        };
        let keys = &mut self.boards.entry(board(EVENTUAL)).or_default().keys;
        let siblings = keys.entry(key(at)).or_default();
        let content = Write {
            value: value.map(Into::into),
            writer: "agent:data_analyst".into(),
            expires_at_millis: None,
        };
        siblings.write(dot, HybridTime::new(millis, 0), content);
        PushedWrite {
            board: board(EVENTUAL),
            key: key(at),
            version: siblings.versions()[0].clone(),
            agent: "data_analyst".parse().unwrap(),
        }
    }

    async fn push(&self, rig: &Rig, writes: Vec<PushedWrite>) -> Vec<Refusal> {
        self.try_push(rig, writes).await.unwrap()
    }

    async fn try_push(&self, rig: &Rig, writes: Vec<PushedWrite>) -> Result<Vec<Refusal>> {
        let context = Context {
            actor: audit::Actor::Machine(self.machine),
            machine_id: Some(self.machine),
            ..Context::system()
        };
        let blackboard = &rig.app.blackboard;
        blackboard
            .push(context, self.actor, self.epoch, writes)
            .await
    }

    /// Writes and hands it over.
    pub(super) async fn put(&mut self, rig: &Rig, at: &str, value: Option<&str>, millis: u64) {
        let write = self.write(at, value, millis);
        assert_eq!(self.push(rig, vec![write]).await, []);
    }

    /// Hears of all that there is.
    async fn catch_up(&mut self, rig: &Rig) {
        let mut follow = rig.app.blackboard.follow(self.machine, self.have());
        self.hear(&mut follow).await;
    }

    /// Hears until nothing comes for a while.
    async fn hear(&mut self, follow: &mut Follow) {
        loop {
            let news = tokio::time::timeout(DEADLINE, follow.next());
            match news.await.unwrap().unwrap() {
                News::Alive => return,
                News::Suspended(suspended) => self.suspended = Some(suspended),
                News::Dropped(name) => drop(self.boards.remove(&name)),
                News::Board { board, reset } => {
                    let copy = self.boards.entry(board.name.clone()).or_default();
                    if reset {
                        copy.keys.clear();
                        copy.entries.clear();
                        copy.resets += 1;
                    }
                }
                News::Part {
                    board,
                    part,
                    position,
                } => {
                    let copy = self.boards.get_mut(&board).expect("its terms come first");
                    for taken in part.versions() {
                        let siblings = copy.keys.entry(taken.key.clone()).or_default();
                        siblings.hear(taken.version.clone());
                    }
                    for entry in part.entries() {
                        let value = entry.value.as_ref().unwrap().as_str().to_owned();
                        copy.entries.insert(entry.key.clone(), value);
                    }
                    for gone in part.gone() {
                        copy.entries.remove(gone);
                    }
                    copy.position = position.or(copy.position);
                }
            }
        }
    }

    /// The values of a key, the one that readers are told first.
    fn values(&self, at: &str) -> Vec<String> {
        let Some(siblings) = self.boards[&board(EVENTUAL)].keys.get(&key(at)) else {
            return Vec::new();
        };
        let mut versions: Vec<_> = siblings.versions().iter().collect();
        versions.sort_by_key(|version| Some(version.dot) != siblings.winner().map(|one| one.dot));
        let values = versions.iter().filter_map(|one| one.content.value.clone());
        values.map(|value| value.to_string()).collect()
    }
}

async fn value(rig: &Rig, at: &str) -> Option<String> {
    let from = ReadFrom::default();
    let read = rig
        .app
        .blackboard
        .get(Who::Operator(None), board(EVENTUAL), key(at), from);
    match read.await {
        Ok(read) => Some(read.entry.value.unwrap().as_str().to_owned()),
        Err(error) => {
            assert_eq!(error.reason(), Reason::KeyNotFound, "{error}");
            None
        }
    }
}

#[tokio::test]
async fn what_did_not_see_each_other_is_kept_and_the_next_write_resolves_it() {
    let rig = Rig::open().await;
    let (mut a, mut b) = (Replica::of(&rig, "a").await, Replica::of(&rig, "b").await);
    a.put(&rig, "k", Some("\"a\""), 2000).await;
    b.put(&rig, "k", Some("\"b\""), 1000).await;
    assert_eq!(value(&rig, "k").await.unwrap(), "\"a\"", "the latest");
    for replica in [&mut a, &mut b] {
        replica.catch_up(&rig).await;
        assert_eq!(replica.values("k"), ["\"a\"", "\"b\""]);
    }
    // a deletion hides no value that it has not seen
    b.put(&rig, "k", None, 3000).await;
    let mut late = Replica::of(&rig, "c").await;
    late.put(&rig, "k", Some("\"c\""), 500).await;
    assert_eq!(value(&rig, "k").await.unwrap(), "\"c\"");
    // one at the control plane sees all
    let session = rig.analyst().await;
    rig.write(&session, EVENTUAL, write("k", "\"all\""))
        .await
        .unwrap();
    for replica in [&mut a, &mut b, &mut late] {
        replica.catch_up(&rig).await;
        assert_eq!(replica.values("k"), ["\"all\""]);
    }
    rig.write(&session, EVENTUAL, delete("k")).await.unwrap();
    assert_eq!(value(&rig, "k").await, None);
    a.catch_up(&rig).await;
    assert_eq!(a.values("k"), [""; 0]);
}

#[tokio::test]
async fn readers_and_watchers_see_the_winner_change_and_nothing_else() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let all = Filter::Prefix(String::new());
    let watching = rig
        .app
        .blackboard
        .watch(who(&session), board(EVENTUAL), all, None);
    let mut watch = watching.await.unwrap();
    let (mut a, mut b) = (Replica::of(&rig, "a").await, Replica::of(&rig, "b").await);
    a.put(&rig, "k", Some("2"), 2000).await;
    b.put(&rig, "k", Some("1"), 1000).await; // loses
    let mut c = Replica::of(&rig, "c").await;
    c.catch_up(&rig).await;
    c.put(&rig, "k", None, 3000).await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let message = tokio::time::timeout(DEADLINE, watch.next()).await.unwrap();
        for change in message.unwrap().changes {
            let machine = change.entry.machine_id;
            heard.push((change.kind, machine, change.entry.writer.clone()));
        }
    }
    let writer = || "agent:data_analyst".to_owned();
    assert_eq!(
        heard,
        [
            (ChangeKind::Put, Some(a.machine), writer()),
            (ChangeKind::Delete, Some(c.machine), writer()),
        ]
    );
    let board = rig.app.blackboard.board(&board(EVENTUAL)).await.unwrap();
    assert_eq!((board.keys, board.bytes), (0, 0));
}

#[tokio::test]
async fn a_write_is_taken_once_however_often_it_is_handed_over() {
    let rig = Rig::open().await;
    let mut a = Replica::of(&rig, "a").await;
    let writes: Vec<_> = (0..3)
        .map(|number| a.write("k", Some(&number.to_string()), number))
        .collect();
    assert_eq!(a.push(&rig, writes.clone()).await, []);
    let before = rig.app.blackboard.board(&board(EVENTUAL)).await.unwrap();
    assert_eq!(a.push(&rig, writes.clone()).await, []);
    assert_eq!(a.push(&rig, writes[..1].to_vec()).await, []);
    let after = rig.app.blackboard.board(&board(EVENTUAL)).await.unwrap();
    assert_eq!(before.position, after.position);
    let entries: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit_trail WHERE action = 'blackboard.merge'")
            .fetch_one(&mut *rig.app.db.read().await.unwrap())
            .await
            .unwrap();
    assert_eq!(entries, 3, "each is in the audit log once");
}

#[tokio::test]
async fn a_write_counts_for_no_more_than_the_board_knows_of() {
    let rig = Rig::open().await;
    let (mut a, mut b) = (Replica::of(&rig, "a").await, Replica::of(&rig, "b").await);
    b.put(&rig, "k", Some("\"first\""), 1000).await;
    // it claims to have seen all that b will ever write, and to come from the far future
    let mut lie = a.write("k", Some("\"lie\""), 1000);
    let future = Dot {
        actor: b.actor,
        counter: 1 << 40,
    };
    lie.version.clock.see(future);
    lie.version.time = HybridTime::new(1 << 46, 0);
    assert_eq!(a.push(&rig, vec![lie]).await, []);
    a.catch_up(&rig).await;
    b.catch_up(&rig).await;
    assert_eq!(
        b.values("k"),
        ["\"lie\""],
        "b's first write it may have seen"
    );
    let now = u64::try_from(rig.app.ambient.clock.now().unix_timestamp()).unwrap() * 1000;
    b.put(&rig, "k", Some("\"second\""), now + 3_600_000).await;
    assert_eq!(value(&rig, "k").await.unwrap(), "\"second\"");
    let mut c = Replica::of(&rig, "c").await;
    c.catch_up(&rig).await;
    assert_eq!(c.values("k"), ["\"second\""]);
}

#[tokio::test]
async fn deleted_stays_deleted_when_a_replica_comes_back_after_its_lease() {
    let rig = Rig::open_now().await;
    let (mut a, mut b) = (Replica::of(&rig, "a").await, Replica::of(&rig, "b").await);
    let early = b.write("k", Some("\"b\""), 1000);
    assert_eq!(b.push(&rig, vec![early.clone()]).await, []);
    a.catch_up(&rig).await;
    b.catch_up(&rig).await;
    a.put(&rig, "k", None, 2000).await;
    a.catch_up(&rig).await;
    a.open(&rig).await;
    b.open(&rig).await;
    let blackboard = &rig.app.blackboard;
    assert_eq!(
        blackboard.collect_tombstones().await.unwrap(),
        0,
        "b has not heard"
    );
    // b is away for longer than its lease
    rig.clock.advance(Duration::from_hours(31 * 24));
    a.open(&rig).await;
    assert_eq!(blackboard.collect_tombstones().await.unwrap(), 1);
    assert_eq!(blackboard.collect_tombstones().await.unwrap(), 0);
    // what it hands over again is known by its counter, and its copy is read anew
    assert_eq!(b.push(&rig, vec![early]).await.len(), 1);
    assert_eq!(value(&rig, "k").await, None);
    a.put(&rig, "l", Some("1"), 2500).await;
    // until that is heard of, what was read for a before may be told to b as well
    a.catch_up(&rig).await;
    b.catch_up(&rig).await;
    let copy = &b.boards[&board(EVENTUAL)];
    assert_eq!((b.values("k"), copy.resets), (Vec::new(), 2));
    // what it wrote meanwhile goes in
    b.put(&rig, "k", Some("\"new\""), 3000).await;
    assert_eq!(value(&rig, "k").await.unwrap(), "\"new\"");
    a.catch_up(&rig).await;
    assert_eq!(
        a.boards[&board(EVENTUAL)].resets,
        1,
        "it has missed nothing"
    );
    assert_eq!(a.values("k"), ["\"new\""]);
}

#[tokio::test]
async fn tombstones_go_once_every_leased_replica_has_heard_of_them() {
    let rig = Rig::open_now().await;
    let (mut a, mut b) = (Replica::of(&rig, "a").await, Replica::of(&rig, "b").await);
    for at in ["k", "l"] {
        a.put(&rig, at, Some("1"), 1000).await;
    }
    b.catch_up(&rig).await;
    b.open(&rig).await;
    a.put(&rig, "k", None, 2000).await;
    let collect = || rig.app.blackboard.collect_tombstones();
    assert_eq!(collect().await.unwrap(), 0);
    b.catch_up(&rig).await;
    assert_eq!(collect().await.unwrap(), 0, "it has not said so");
    b.open(&rig).await;
    assert_eq!(
        collect().await.unwrap(),
        0,
        "a has yet to read the board at all"
    );
    a.catch_up(&rig).await;
    a.open(&rig).await;
    assert_eq!(collect().await.unwrap(), 1);
    assert_eq!(value(&rig, "l").await.unwrap(), "1");
    // a replica that never had the board hears of the rest
    let mut c = Replica::of(&rig, "c").await;
    c.catch_up(&rig).await;
    assert_eq!((c.values("k").len(), c.values("l").len()), (0, 1));
}

#[tokio::test]
async fn a_disk_put_back_begins_another_incarnation() {
    let rig = Rig::open().await;
    let mut a = Replica::of(&rig, "a").await;
    assert_eq!(a.actor.incarnation, 1);
    let old = a.written;
    a.put(&rig, "k", Some("1"), 1000).await;
    let opened = a.open(&rig).await;
    assert_eq!(
        (opened.incarnation, opened.counter),
        (1, 1),
        "it knows as much"
    );
    a.written = old;
    let opened = a.open(&rig).await;
    assert_eq!((opened.incarnation, opened.counter), (2, 0));
    a.written = 0;
    a.actor.incarnation = 0;
    assert_eq!(a.open(&rig).await.incarnation, 3, "it knows nothing");
    // one that it made up while it was cut off is kept
    a.actor.incarnation = (1 << 31) + 7;
    a.put(&rig, "k", Some("2"), 2000).await;
    let opened = a.open(&rig).await;
    assert_eq!((opened.incarnation, opened.counter), ((1 << 31) + 7, 1));
}

#[tokio::test]
async fn what_a_board_is_not_for_is_refused_for_good_and_told_with_what_is_there() {
    let rig = Rig::open().await;
    let only = Terms {
        agents: Serves::only(vec!["strategy_advisor".parse().unwrap()]).unwrap(),
        ..Terms::default()
    };
    let machine = rig.machine_for("narrow", only).await;
    let mut narrow = Replica::of_machine(&rig, machine).await;
    let session = rig.analyst().await;
    rig.write(&session, EVENTUAL, write("k", "1"))
        .await
        .unwrap();
    let foreign = narrow.write("k", Some("2"), 1000);
    let refused = narrow.push(&rig, vec![foreign.clone()]).await;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].problem.reason, Reason::AgentMismatch);
    assert_eq!((refused[0].counter, refused[0].siblings.len()), (1, 1));
    assert_eq!(value(&rig, "k").await.unwrap(), "1");
    let again = narrow.push(&rig, vec![foreign]).await;
    assert_eq!(again.len(), 1, "the answer may have been lost");

    // what the machine may have no replica of is not told on the way
    let secrets = BoardUpdate {
        requires_grant: Some(true),
        ..BoardUpdate::default()
    };
    rig.new_board("secrets", Level::Eventual, secrets).await;
    let secret = rig.app.blackboard.write(
        Context::system(),
        Who::Operator(None),
        board("secrets"),
        write("k", "\"secret\""),
    );
    secret.await.unwrap();
    let probe = PushedWrite {
        board: board("secrets"),
        ..narrow.write("k", Some("1"), 1000)
    };
    let refused = narrow.push(&rig, vec![probe]).await;
    assert_eq!((refused.len(), &refused[0].siblings[..]), (1, &[][..]));

    let mut a = Replica::of(&rig, "a").await;
    let suspended = SuspensionTarget::Agent("data_analyst".parse().unwrap());
    let suspend = rig.app.grants.suspend(admin(), suspended, "drill");
    suspend.await.unwrap();
    let write = a.write("k", Some("3"), 1000);
    let refused = a.push(&rig, vec![write]).await;
    assert_eq!(refused[0].problem.reason, Reason::Suspended);
    assert_eq!(a.suspended, None);
    a.catch_up(&rig).await;
    let suspended = a.suspended.take().unwrap();
    assert_eq!(suspended.agents, ["data_analyst".parse().unwrap()].into());
    assert!(!suspended.everything && suspended.boards.is_empty());

    let writers = BoardUpdate {
        writers: Some(vec!["orchestrator".to_owned()]),
        ..BoardUpdate::default()
    };
    rig.new_board("closed", Level::Eventual, writers).await;
    for (name, reason) in [
        ("closed", Reason::PermissionDenied),
        ("strong", Reason::InvalidArgument),
        ("nowhere", Reason::BoardNotFound),
    ] {
        let write = PushedWrite {
            board: board(name),
            ..a.write("k", Some("4"), 1000)
        };
        let refused = a.push(&rig, vec![write]).await;
        assert_eq!(refused[0].problem.reason, reason, "{name}");
    }
}

#[tokio::test]
async fn a_replica_has_the_boards_that_its_agents_may_read_without_being_judged() {
    let rig = Rig::open().await;
    let only = Terms {
        agents: Serves::only(vec!["data_analyst".parse().unwrap()]).unwrap(),
        ..Terms::default()
    };
    let machine = rig.machine_for("narrow", only).await;
    let mut narrow = Replica::of_machine(&rig, machine).await;
    let update = BoardUpdate::default;
    let agents = |agent: &str| BoardUpdate {
        readers: Some(vec![agent.to_owned()]),
        writers: Some(Vec::new()),
        ..update()
    };
    rig.new_board("ours", Level::Eventual, agents("data_analyst"))
        .await;
    rig.new_board("others", Level::Eventual, agents("orchestrator"))
        .await;
    let trusted = BoardUpdate {
        min_trust: Some(500),
        ..update()
    };
    rig.new_board("trusted", Level::Eventual, trusted).await;
    let granted = BoardUpdate {
        requires_grant: Some(true),
        ..update()
    };
    rig.new_board("granted", Level::Session, granted).await;
    let mut follow = rig.app.blackboard.follow(machine, Vec::new());
    narrow.hear(&mut follow).await;
    let has = |replica: &Replica| {
        let names = replica.boards.keys();
        names.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(has(&narrow), ["eventual", "ours", "session"]);
    let closed = rig
        .app
        .blackboard
        .update(admin(), board("ours"), agents("orchestrator"));
    closed.await.unwrap();
    while has(&narrow).len() > 2 {
        narrow.hear(&mut follow).await;
    }
    assert_eq!(has(&narrow), ["eventual", "session"]);
}

#[tokio::test]
async fn of_siblings_only_those_end_whose_time_is_over() {
    let rig = Rig::open().await;
    let mut a = Replica::of(&rig, "a").await;
    a.put(&rig, "k", Some("\"stays\""), 1000).await;
    let mut b = Replica::of(&rig, "b").await;
    let mut ends = b.write("k", Some("\"ends\""), 2000);
    ends.version.content.expires_at_millis = Some(3000);
    assert_eq!(b.push(&rig, vec![ends]).await, []);
    rig.app.blackboard.sweep().await.unwrap();
    assert_eq!(value(&rig, "k").await.unwrap(), "\"stays\"");
    let session = rig.analyst().await;
    rig.write(&session, EVENTUAL, write_for("l", "1", 1))
        .await
        .unwrap();
    let over = async {
        while value(&rig, "l").await.is_some() {
            rig.app.blackboard.sweep().await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, over).await.unwrap();
    a.catch_up(&rig).await;
    assert_eq!(
        (a.values("k"), a.values("l").len()),
        (vec!["\"stays\"".to_owned()], 0)
    );
}

#[tokio::test]
async fn what_is_handed_over_in_another_epoch_is_not_taken() {
    let rig = Rig::open().await;
    let mut a = Replica::of(&rig, "a").await;
    a.epoch -= 1;
    let writes = vec![a.write("k", Some("1"), 1000)];
    let refused = a.try_push(&rig, writes.clone()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Compacted);
    assert_eq!(value(&rig, "k").await, None);
    a.epoch = a.open(&rig).await.epoch;
    assert_eq!(a.push(&rig, writes).await, []);
    assert_eq!(value(&rig, "k").await.unwrap(), "1");
}

#[tokio::test]
async fn incarnations_that_nobody_gave_are_few() {
    let rig = Rig::open().await;
    let mut a = Replica::of(&rig, "a").await;
    a.actor.incarnation = 2;
    let writes = vec![a.write("k", Some("1"), 1000)];
    let refused = a.try_push(&rig, writes).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::ResourceExhausted);
    let mut tx = rig.app.db.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO board_actor (board, machine_id, incarnation, received)
         SELECT 'eventual', $1, (1::bigint << 31) + number, 1 FROM generate_series(1, 1000) AS number",
    )
    .bind(a.machine.as_uuid())
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    a.actor.incarnation = (1 << 31) + 5;
    let writes = vec![a.write("k", Some("1"), 1000)];
    assert_eq!(a.push(&rig, writes).await, [], "it is known");
    a.actor.incarnation = (1 << 31) + 5000;
    let writes = vec![a.write("k", Some("1"), 1000)];
    assert!(a.try_push(&rig, writes).await.is_err());
}

#[tokio::test]
async fn large_values_of_a_session_board_come_in_parts() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let mut a = Replica::of(&rig, "a").await;
    a.catch_up(&rig).await;
    let large = format!("\"{}\"", "x".repeat(250_000));
    for number in 0..12 {
        let act = write(&format!("k{number}"), &large);
        rig.write(&session, "session", act).await.unwrap();
    }
    let mut follow = rig.app.blackboard.follow(a.machine, a.have());
    let mut parts = 0;
    loop {
        match follow.next().await.unwrap() {
            News::Part { part, position, .. } if !part.entries().is_empty() => {
                parts += 1;
                assert!(part.entries().len() <= 4, "about a megabyte");
                assert_eq!(position.is_some(), parts == 3, "only with the last");
            }
            News::Alive => break,
            _ => {}
        }
    }
    assert_eq!(parts, 3);
    a.catch_up(&rig).await;
    assert_eq!(a.boards[&board("session")].entries.len(), 12);
}

#[tokio::test]
async fn a_session_board_is_followed_from_any_position() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    for at in 0..5 {
        let at = format!("k{at}");
        rig.write(&session, "session", write(&at, "1"))
            .await
            .unwrap();
    }
    let mut a = Replica::of(&rig, "a").await;
    a.catch_up(&rig).await;
    rig.write(&session, "session", delete("k1")).await.unwrap();
    rig.write(&session, "session", write("k2", "2"))
        .await
        .unwrap();
    a.catch_up(&rig).await;
    let copy = &a.boards[&board("session")];
    assert_eq!(copy.resets, 1);
    assert_eq!(copy.position.unwrap().revision, 7);
    let has: Vec<_> = copy.entries.iter().collect();
    let has: Vec<_> = has
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(has, [("k0", "1"), ("k2", "2"), ("k3", "1"), ("k4", "1")]);
}

#[tokio::test]
async fn one_that_follows_hears_at_once_and_of_no_more_than_there_is() {
    let rig = Rig::open().await;
    let (mut a, mut b) = (Replica::of(&rig, "a").await, Replica::of(&rig, "b").await);
    let mut follow = rig.app.blackboard.follow(b.machine, Vec::new());
    b.hear(&mut follow).await;
    let writes: Vec<_> = (0..500)
        .map(|number| {
            a.write(
                &format!("k{}", number % 50),
                Some(&number.to_string()),
                number,
            )
        })
        .collect();
    for some in writes.chunks(100) {
        assert_eq!(a.push(&rig, some.to_vec()).await, []);
        b.hear(&mut follow).await;
    }
    let (of_a, of_b) = (&a.boards[&board(EVENTUAL)], &b.boards[&board(EVENTUAL)]);
    assert_eq!(of_a.keys, of_b.keys);
    // a position that never was is read anew
    let nowhere = Position {
        revision: 10_000,
        ..of_b.position.unwrap()
    };
    b.boards.get_mut(&board(EVENTUAL)).unwrap().position = Some(nowhere);
    b.catch_up(&rig).await;
    assert_eq!(b.boards[&board(EVENTUAL)].resets, 2);
    assert_eq!(
        a.boards[&board(EVENTUAL)].keys,
        b.boards[&board(EVENTUAL)].keys
    );
}
