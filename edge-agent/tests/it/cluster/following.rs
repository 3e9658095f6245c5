//! Control planes on the cluster: they follow the primary, and believe nobody
//! who may have been succeeded.

use std::{sync::Arc, time::Duration};

use authguardian_proto::reason::Reason;
use control_plane::{
    app,
    clock::SystemClock,
    config::{Config, Database},
    db::{self, Db},
    events,
};
use rustix::process::Signal;
use tokio::time::Instant;

use super::{Cluster, Process};
use crate::{
    faults::daemon,
    rig::{ControlPlane, Stopped},
    wait::until_async,
};

/// What strong work may take longer than Patroni; a second, where nothing else
/// keeps the machine busy.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(3);

impl Cluster {
    /// A control plane of this process, on this cluster.
    pub(crate) async fn control_plane(&self) -> ControlPlane {
        let url = self.database_url().to_owned();
        let configure = |config: &mut Config| self.configure(config);
        Stopped::new(url, Arc::new(()), configure)
            .await
            .start()
            .await
    }

    /// The database as a control plane opens it, by way of one node only: it
    /// cannot follow.
    async fn database_by_way_of(&self, node: usize) -> Db {
        let mut config = Config::default();
        self.configure(&mut config);
        let database = Database {
            url: self.url_of(node).into(),
            ..config.database
        };
        let clock = Arc::new(SystemClock::default());
        db::open(&database, clock).await.unwrap()
    }
}

async fn epoch(control_plane: &ControlPlane) -> i64 {
    let mut connection = control_plane.app.db.read().await.unwrap();
    let heads = events::heads(&mut connection).await.unwrap();
    heads[0].1.epoch
}

/// Whether a strong write succeeds now.
async fn writes(control_plane: &ControlPlane) -> bool {
    let db = &control_plane.app.db;
    let written = async {
        let mut tx = db.begin().await?;
        let now = control_plane.app.ambient.clock.now();
        events::epoch::raise_time_floor(&mut tx, now).await?;
        db.commit(tx).await
    };
    db.unless_lost(written).await.is_ok()
}

/// Fails a cluster's primary over, and measures how much later than Patroni the
/// control plane is there again.
async fn follows(fail: impl AsyncFn(&Cluster, usize)) {
    let cluster = Cluster::start().await;
    let control_plane = cluster.control_plane().await;
    let first = cluster.primary().await.unwrap();
    let before = epoch(&control_plane).await;
    assert!(writes(&control_plane).await);

    let began = Instant::now();
    fail(&cluster, first).await;
    let ready = async {
        cluster.until_writes_are_confirmed(first).await;
        began.elapsed()
    };
    let back = async {
        until_async("strong work is back", async || writes(&control_plane).await).await;
        began.elapsed()
    };
    let (ready, back) = tokio::join!(ready, back);
    assert!(
        back < ready + FOLLOWS_WITHIN,
        "Patroni {ready:?}, strong work {back:?}"
    );
    assert!(epoch(&control_plane).await > before);
    control_plane.stop().await;
}

#[tokio::test]
async fn strong_work_is_back_when_a_killed_primary_is_succeeded() {
    follows(async |cluster, first| cluster.kill(Process::Postgres(first)).await).await;
}

#[tokio::test]
async fn strong_work_is_back_when_a_primary_that_hangs_is_succeeded() {
    follows(async |cluster, first| {
        cluster.pause(Process::Postgres(first));
        cluster.pause(Process::Patroni(first));
    })
    .await;
}

/// Deposes a primary whose PostgreSQL goes on, and asks it all the while.
async fn tells_nothing_stale(signal: Signal) {
    let cluster = Cluster::start().await;
    let first = cluster.primary().await.unwrap();
    let db = cluster.database_by_way_of(first).await;
    let mut connection = db.read().await.unwrap();
    db.barrier(&mut connection).await.unwrap();

    cluster.signal(Process::Patroni(first), signal);
    let deposed = async {
        cluster.until_primary_is_not(first).await;
        Instant::now()
    };
    tokio::pin!(deposed);
    let mut proved = Instant::now();
    let deposed_at = loop {
        let asked = async {
            let told = db.barrier(&mut connection).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            told
        };
        tokio::select! {
            biased;
            told = asked => match told {
                Ok(()) => proved = Instant::now(),
                Err(error) => assert_eq!(error.reason(), Reason::Unavailable, "{error}"),
            },
            at = &mut deposed => break at,
        }
    };
    assert!(proved < deposed_at, "it was believed after it was deposed");
    // it would still tell whoever believes it
    let mut raw = db.read().await.unwrap();
    let error = db.barrier(&mut raw).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unavailable);
}

#[tokio::test]
async fn processes_on_the_cluster_are_ready_and_ready_again_after_a_failover() {
    let cluster = Cluster::start().await;
    app::migrate(cluster.database_url()).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let master_key = files.path().join("master.key");
    std::fs::write(&master_key, "07".repeat(32)).unwrap();
    let settings = cluster.settings();
    let one = daemon::ControlPlane::start_with(&settings, &master_key).await;
    let other = daemon::ControlPlane::start_with(&settings, &master_key).await;

    let first = cluster.primary().await.unwrap();
    cluster.kill_node(first).await;
    cluster.until_writes_are_confirmed(first).await;
    for mut process in [one, other] {
        process.ready().await;
    }
}

#[tokio::test]
async fn a_primary_whose_patroni_was_killed_is_not_believed_once_it_is_deposed() {
    tells_nothing_stale(Signal::KILL).await;
}

#[tokio::test]
async fn a_primary_whose_patroni_is_stopped_is_not_believed_once_it_is_deposed() {
    tells_nothing_stale(Signal::STOP).await;
}
