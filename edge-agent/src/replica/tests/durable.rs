//! What was acknowledged is there, whatever became of the process and the disk.

use std::{
    collections::HashSet,
    io::{Read, Seek, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use super::{Limits, Model, Rig, board, copied, copy, key, machine, put};
use crate::{
    clock::{Ambient, manual::ManualClock},
    replica::{OpenError, Range, Replica, store::FILE},
};

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let mut rig = Rig::new().await;
    let first = rig.put("a", "1").await;
    let second = rig.put("b", "2").await;
    rig.delete("a").await.unwrap();
    let position = rig.replica.position();
    rig.reopen().await;
    assert_eq!(rig.text("a"), None);
    assert_eq!(rig.text("b"), Some("2".to_owned()));
    assert_eq!(rig.replica.position(), position);
    assert_eq!(first.position.epoch, second.position.epoch);
    assert_eq!(*rig.replica.waiting().borrow(), 3);
    assert_eq!(rig.replica.board(&board()).unwrap().counts.keys, 1);
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_file_already() {
    let rig = Rig::new().await;
    for number in 0..20 {
        let (at, value) = (format!("k{}", number % 7), number.to_string());
        rig.put(&at, &value).await;
        let copy = copied(rig.dir.path());
        let other = rig.open(copy.path());
        assert_eq!(
            super::value_in(&other, &at).unwrap().value.to_string(),
            value
        );
        assert_eq!(*other.waiting().borrow(), number + 1);
        other.close().await;
    }
}

/// Where the test below runs itself as another process: writes until it is killed, and notes
/// what was acknowledged.
const DIRECTORY: &str = "TEST_REPLICA_DIRECTORY";

#[test]
fn what_was_acknowledged_outlives_a_process_that_is_killed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        runtime.block_on(write_for_ever(dir.as_ref()));
    }
    let rig = runtime.block_on(Rig::new());
    runtime.block_on(rig.replica.close());
    for round in 1..=3 {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(DIRECTORY, rig.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let acknowledged = rig.dir.path().join("acknowledged");
        let enough = |bytes: u64| bytes > round * 400;
        while !std::fs::metadata(&acknowledged).is_ok_and(|file| enough(file.len())) {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let replica = rig.open(rig.dir.path());
        for line in std::fs::read_to_string(&acknowledged).unwrap().lines() {
            assert!(super::value_in(&replica, line).is_some(), "{line}");
        }
        runtime.block_on(replica.close());
    }
}

async fn write_for_ever(dir: &std::path::Path) {
    let (_, ambient) = ManualClock::ambient();
    let replica = Replica::open(dir, machine(1), Limits::default(), ambient.clone()).unwrap();
    let noted = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("acknowledged"))
        .unwrap();
    let writers = (0..8).map(|writer| {
        let (replica, mut noted) = (replica.clone(), noted.try_clone().unwrap());
        async move {
            for number in 0.. {
                let at = format!("{}-{writer}-{number}", std::process::id());
                replica.put(put(&at, "1")).await.unwrap();
                noted.write_all(format!("{at}\n").as_bytes()).unwrap();
            }
        }
    });
    futures::future::join_all(writers).await;
}

#[tokio::test]
async fn one_process_at_a_time_has_it() {
    let rig = Rig::new().await;
    let (dir, machine) = (rig.dir.path(), rig.machine);
    let again = Replica::open(dir, machine, rig.limits, rig.ambient.clone());
    assert!(matches!(again.err(), Some(OpenError::InUse { .. })));
    rig.replica.close().await;
    let again = rig.open(dir);
    again.close().await;
}

#[tokio::test]
async fn nobody_else_may_read_the_file() {
    let rig = Rig::new().await;
    let file = std::fs::metadata(rig.dir.path().join(FILE)).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_of_another_machine_is_left_alone() {
    let rig = Rig::new().await;
    rig.replica.close().await;
    let other = Replica::open(rig.dir.path(), machine(2), rig.limits, rig.ambient.clone());
    match other.err() {
        Some(OpenError::OtherMachine { machine, .. }) => assert_eq!(machine, rig.machine),
        other => panic!("{other:?}"),
    }
    rig.open(rig.dir.path()).close().await;
}

#[tokio::test]
async fn a_file_that_is_no_replica_is_refused_and_kept() {
    let rig = Rig::new().await;
    for number in 0..200 {
        rig.put(&format!("k{number}"), "\"something\"").await;
    }
    rig.replica.close().await;
    let file = rig.dir.path().join(FILE);
    let whole = std::fs::read(&file).unwrap();
    let refused = || {
        let opened = open_quietly(&rig);
        match opened.err() {
            Some(error @ OpenError::Unreadable { .. }) => {
                assert!(error.to_string().contains("remove the file"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    };
    std::fs::write(&file, b"no database at all").unwrap();
    refused();
    assert_eq!(std::fs::read(&file).unwrap(), b"no database at all");
    std::fs::write(&file, &whole[..whole.len() / 3]).unwrap();
    refused();
    let mut damaged = whole.clone();
    damaged[4096..].fill(0xA5);
    std::fs::write(&file, &damaged).unwrap();
    refused();
    std::fs::write(&file, &whole).unwrap();
    rig.open(rig.dir.path()).close().await;
}

fn open_quietly(rig: &Rig) -> Result<Replica, OpenError> {
    Replica::open(rig.dir.path(), rig.machine, rig.limits, rig.ambient.clone())
}

#[tokio::test]
async fn no_page_that_is_damaged_ends_the_process() {
    let rig = Rig::new().await;
    for number in 0..50 {
        rig.put(&format!("k{number}"), "\"something\"").await;
    }
    rig.replica.close().await;
    let whole = std::fs::read(rig.dir.path().join(FILE)).unwrap();
    for page in 0..whole.len() / 4096 {
        let dir = tempfile::tempdir().unwrap();
        copy(rig.dir.path(), dir.path());
        let mut file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(dir.path().join(FILE))
            .unwrap();
        let mut bytes = [0; 4096];
        file.seek(SeekFrom::Start(page as u64 * 4096)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        bytes = bytes.map(|byte| !byte);
        file.seek(SeekFrom::Start(page as u64 * 4096)).unwrap();
        file.write_all(&bytes).unwrap();
        let opened = Replica::open(dir.path(), rig.machine, rig.limits, rig.ambient.clone());
        let Ok(replica) = opened else { continue };
        let range = Range {
            limit: 1_000,
            ..Range::default()
        };
        let _ = replica.list(&board(), &range, false);
        let _ = replica.get(&board(), &key("k7"));
        let _ = replica.put(put("k7", "2")).await;
        replica.close().await;
    }
}

#[tokio::test]
async fn an_old_file_that_is_put_back_uses_no_dot_again() {
    let mut model = Model::default();
    let mut rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    rig.put("a", "1").await;
    let old = copied(rig.dir.path());
    for number in 2..6 {
        rig.put("a", &number.to_string()).await;
    }
    let lost: HashSet<_> = dots(&rig, &mut model).await;
    rig.put_back(&old).await;
    // before the control plane is heard: as somebody new
    rig.put("b", "6").await;
    let offline = rig.value("b").unwrap().dot;
    assert!(offline.actor.incarnation >= 1 << 31 && offline.counter == 1);
    rig.greet(&mut model).await;
    let epoch = rig.replica.position().epoch;
    rig.put("c", "7").await;
    let online = rig.value("c").unwrap().dot;
    assert_eq!((online.actor.incarnation, online.counter), (2, 1));
    assert!(!lost.contains(&online) && !lost.contains(&offline));
    rig.sync(&mut model).await;
    assert_eq!(rig.text("a"), Some("5".to_owned()));
    assert_eq!(rig.replica.position().epoch, epoch);
    // and it stays that one
    rig.reopen().await;
    assert_eq!(rig.replica.last_actor(), (2, 1));
    rig.greet(&mut model).await;
    rig.put("c", "8").await;
    let next = rig.value("c").unwrap().dot;
    assert_eq!((next.actor.incarnation, next.counter), (2, 2));
}

#[tokio::test]
async fn positions_of_before_an_old_file_was_put_back_mean_nothing_after() {
    let mut model = Model::default();
    let mut rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    let old = copied(rig.dir.path());
    let before = rig.put("a", "1").await.position;
    rig.sync(&mut model).await;
    rig.put_back(&old).await;
    rig.greet(&mut model).await;
    rig.put("b", "2").await;
    assert_ne!(rig.replica.position().epoch, before.epoch);
}

/// Hands over all, and tells their dots.
async fn dots(rig: &Rig, model: &mut Model) -> HashSet<authguardian_proto::crdt::Dot> {
    let mut dots = HashSet::new();
    loop {
        let writes = rig.replica.outgoing(1).unwrap();
        let Some(write) = writes.into_iter().next() else {
            return dots;
        };
        let version = write.pushed.version.unwrap();
        let read = authguardian_proto::crdt::Version::from_proto(version).unwrap();
        dots.insert(read.1.dot);
        rig.push(model, 1).await;
    }
}

#[tokio::test]
async fn every_replica_has_an_epoch_of_its_own() {
    let (_, ambient) = ManualClock::ambient();
    let epochs: HashSet<u64> = (0..4).map(|_| epoch(&ambient)).collect();
    assert_eq!(epochs.len(), 4);
    assert!(
        epochs
            .iter()
            .all(|epoch| (1 << 32..1 << 62).contains(epoch))
    );
}

fn epoch(ambient: &Ambient) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::open(dir.path(), machine(1), Limits::default(), ambient.clone());
    replica.unwrap().position().epoch
}
