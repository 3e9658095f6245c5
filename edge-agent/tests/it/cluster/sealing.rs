//! The audit log on the cluster: two control planes seal, and the primary
//! fails over in the middle of it. One round, or as many as
//! `AUTHGUARDIAN_FAULT_ROUNDS` says (`make soak`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use authguardian_proto::{
    checkpoint::Checkpoint,
    merkle::{Hash, verify_consistency},
    reason::Reason,
};
use control_plane::{
    app::{self, App},
    audit::{
        self, Context, Entry,
        export::{Export, Leaf},
        log::verifier_keys,
        proof,
        verify::{Outside, Verification},
    },
    clock::{Ambient, Entropy, SystemClock},
    config::Config,
    error::Result,
};

use super::{Cluster, Process};
use crate::wait::until_async;

/// Acts that are acknowledged before the primary fails, and after it did.
const ACTS: u64 = 400;
/// What appends at the same time, at each control plane.
const WRITERS: u64 = 4;

/// What became of the acts, by subject.
#[derive(Default)]
struct Acts {
    next: AtomicU64,
    acknowledged: Mutex<Vec<u64>>,
    unknown: Mutex<Vec<u64>>,
    stop: AtomicBool,
}

/// Every checkpoint that anybody was ever told, by size.
#[derive(Default)]
struct Seen(Mutex<BTreeMap<u64, Hash>>);

impl Seen {
    /// # Panics
    /// When another root of that size was told.
    fn note(&self, note: &str) {
        let checkpoint = Checkpoint::read_unverified(note).unwrap();
        let mut seen = self.0.lock().unwrap();
        let root = *seen.entry(checkpoint.size).or_insert(checkpoint.root);
        assert_eq!(
            root, checkpoint.root,
            "two roots of size {}",
            checkpoint.size
        );
    }
}

#[tokio::test]
async fn a_failover_while_two_control_planes_seal_leaves_one_tree() {
    let rounds = std::env::var(crate::faults::ROUNDS).map_or(1, |rounds| rounds.parse().unwrap());
    let cluster = Cluster::start().await;
    let apps = control_planes(&cluster).await;
    let (acts, seen) = (Arc::new(Acts::default()), Arc::new(Seen::default()));
    let mut tasks = Vec::new();
    for app in &apps {
        for _ in 0..WRITERS {
            tasks.push(tokio::spawn(write(Arc::clone(app), Arc::clone(&acts))));
        }
        tasks.push(tokio::spawn(look(
            Arc::clone(app),
            Arc::clone(&acts),
            Arc::clone(&seen),
        )));
    }
    for round in 0..rounds {
        acts.acknowledges(ACTS + round * 37 % 200).await;
        let primary = cluster.primary().await.unwrap();
        match round % 3 {
            0 => cluster.kill(Process::Postgres(primary)).await,
            1 => cluster.switch_over(primary),
            _ => cluster.kill_node(primary).await,
        }
        cluster.until_primary_is_not(primary).await;
        cluster.until_writes_are_confirmed(primary).await;
        acts.acknowledges(ACTS).await;
        if round % 3 == 2 {
            cluster.start_again(Process::Patroni(primary)).await;
        }
        cluster.until_whole().await;
        println!(
            "sealing, round {}: {} acts, {} checkpoints seen",
            round + 1,
            acts.acknowledged.lock().unwrap().len(),
            seen.0.lock().unwrap().len(),
        );
    }
    acts.stop.store(true, Ordering::Release);
    for task in tasks {
        task.await.unwrap();
    }
    check(&apps[0], &acts, &seen).await;
    for app in apps {
        Arc::into_inner(app).unwrap().close().await;
    }
}

/// Two that share what has to be shared.
async fn control_planes(cluster: &Cluster) -> Vec<Arc<App>> {
    app::migrate(cluster.database_url()).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    cluster.configure(&mut config);
    config.identity.master_key_file = files.path().join("master.key");
    std::fs::write(&config.identity.master_key_file, "07".repeat(32)).unwrap();
    let mut apps = Vec::new();
    for _ in 0..2 {
        let ambient = Ambient {
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(Entropy::from_system().unwrap()),
        };
        apps.push(Arc::new(App::open(&config, ambient).await.unwrap()));
    }
    apps
}

impl Acts {
    /// Waits until so many more were acknowledged.
    async fn acknowledges(&self, more: u64) {
        let count = || self.acknowledged.lock().unwrap().len() as u64;
        let wanted = count() + more;
        until_async("acts are acknowledged", async || count() >= wanted).await;
    }
}

async fn append(app: &App, number: u64) -> Result<()> {
    let entry = Entry::ok(Context::system(), "test.act", number.to_string());
    let mut tx = app.db.begin().await?;
    audit::append(&mut tx, app.ambient.clock.now(), &[entry]).await?;
    app.db.commit(tx).await
}

/// Appends one act after another; what may or may not have happened is not
/// repeated.
async fn write(app: Arc<App>, acts: Arc<Acts>) {
    while !acts.stop.load(Ordering::Acquire) {
        let number = acts.next.fetch_add(1, Ordering::Relaxed);
        match app.db.unless_lost(append(&app, number)).await {
            Ok(()) => acts.acknowledged.lock().unwrap().push(number),
            Err(error) => {
                acts.unknown.lock().unwrap().push(number);
                if error.reason() != Reason::OutcomeUnknown {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// Reads the newest checkpoint again and again, as witnesses do.
async fn look(app: Arc<App>, acts: Arc<Acts>, seen: Arc<Seen>) {
    while !acts.stop.load(Ordering::Acquire) {
        if let Ok(Some(note)) = app.db.unless_lost(newest(&app)).await {
            seen.note(&note);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn newest(app: &App) -> Result<Option<String>> {
    let mut connection = app.db.read().await?;
    let Some(log) = audit::log::logs(&mut connection).await?.pop() else {
        return Ok(None);
    };
    let signed = audit::newest_checkpoint(&mut connection, &log).await?;
    // told as it is told: once it is proved
    app.db.barrier(&mut connection).await?;
    Ok(signed.map(|signed| signed.note))
}

/// One tree with every checkpoint in it, every acknowledged act once, and
/// every other at most once.
async fn check(app: &App, acts: &Acts, seen: &Seen) {
    until_async("everything is sealed and signed", async || {
        let mut connection = app.db.read().await.unwrap();
        let log = audit::log::logs(&mut connection)
            .await
            .unwrap()
            .pop()
            .unwrap();
        let signed = audit::newest_checkpoint(&mut connection, &log)
            .await
            .unwrap();
        let pending = audit::pending_count(&mut connection).await.unwrap();
        pending == 0 && signed.is_some_and(|signed| signed.head == log.head)
    })
    .await;
    let mut connection = app.db.read().await.unwrap();
    let logs = audit::log::logs(&mut connection).await.unwrap();
    assert_eq!(logs.len(), 1, "a failover begins no log");
    let public_keys = app.identity.checkpoint_keys().await.unwrap();
    let signed = audit::newest_checkpoint(&mut connection, &logs[0])
        .await
        .unwrap()
        .unwrap();
    let keys = verifier_keys(&logs[0].origin, &public_keys);
    assert!(Checkpoint::open(&signed.note, &keys).is_ok());
    let told: Vec<(u64, Hash)> = seen.0.lock().unwrap().clone().into_iter().collect();
    for (size, root) in told {
        let proved = proof::consistency(&mut connection, "", (size, 0))
            .await
            .unwrap();
        let end = proved.to.of_tree();
        verify_consistency(&proved.proof, (size, root), end).unwrap();
    }
    drop(connection);

    let outside = Outside {
        public_keys,
        ..Outside::default()
    };
    let begun = Verification::begin(app.db.clone(), "", outside);
    let mut verification = begun.await.unwrap();
    while let Some(progress) = verification.step().await.unwrap() {
        assert_eq!(progress.findings, []);
    }

    let found = exported_acts(app).await;
    let acknowledged = acts.acknowledged.lock().unwrap().clone();
    let unknown = acts.unknown.lock().unwrap().clone();
    for number in &acknowledged {
        assert_eq!(found.get(number), Some(&1), "act {number}");
    }
    for (number, times) in &found {
        assert_eq!(*times, 1, "act {number}");
        assert!(
            acknowledged.contains(number) || unknown.contains(number),
            "act {number}"
        );
    }
}

/// How often each act stands in the log.
async fn exported_acts(app: &App) -> BTreeMap<u64, u32> {
    let mut export = Export::begin(app.db.clone(), "", 0).await.unwrap();
    let mut found = BTreeMap::new();
    loop {
        let (_, leaves) = export.read().await.unwrap();
        if leaves.is_empty() {
            return found;
        }
        for leaf in leaves {
            let Leaf::Entry(bytes) = leaf else { continue };
            let entry: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            if entry["action"] == "test.act" {
                let number = entry["subject"].as_str().unwrap().parse().unwrap();
                *found.entry(number).or_default() += 1;
            }
        }
    }
}
