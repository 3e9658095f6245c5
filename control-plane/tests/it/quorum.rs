//! The write promise with a real standby: kept, refused, and a cancelled sync
//! wait found out.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use authguardian_proto::reason::Reason;
use control_plane::{
    app,
    audit::Context,
    blackboard::{Blackboard, ReadFrom, Who},
    clock::{Ambient, Entropy, SystemClock},
    db::{
        Db, Pools, Quorum,
        private_postgres::{Options, PrivatePostgres},
        request::{Begun, RequestKey},
    },
    events::{Publisher, epoch},
};
use sqlx::Connection;
use time::macros::datetime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    blackboard::{board, key as key_of, write},
    wait::DEADLINE,
};

/// A primary and one standby that its quorum list names.
struct Pair {
    primary: PrivatePostgres,
    standby: Standby,
    db: Db,
    _files: tempfile::TempDir,
}

/// A standby server, killed with the test.
struct Standby(Child);

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pair {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        // the servers run as another user when this is root
        std::fs::set_permissions(files.path(), open_to_all()).unwrap();
        let primary = PrivatePostgres::start(Options::new(files.path().join("primary")))
            .await
            .unwrap();
        app::migrate(&primary.url()).await.unwrap();
        let standby = Standby::follow(&primary, &files.path().join("standby"));
        let mut admin = sqlx::PgConnection::connect(&primary.url()).await.unwrap();
        for statement in [
            "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (walreceiver)'",
            "SELECT pg_reload_conf()",
        ] {
            sqlx::query(statement).execute(&mut admin).await.unwrap();
        }
        let pools = Pools::connect(&primary.url(), 8).await.unwrap();
        let db = Db::new(pools, Arc::new(Quorum::new(2)));
        let pair = Self {
            primary,
            standby,
            db,
            _files: files,
        };
        pair.until_copies(2).await;
        pair
    }

    /// Observes until so many nodes confirm writes.
    async fn until_copies(&self, copies: u32) {
        let seen = async {
            while self
                .db
                .quorum
                .observe(&mut self.db.read().await.unwrap())
                .await
                .unwrap()
                != copies
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, seen)
            .await
            .expect("the standby is seen");
    }

    /// Cancels the wait of a commit for the standby, once there is one.
    async fn cancel_wait(&self) {
        let mut admin = sqlx::PgConnection::connect(&self.primary.url())
            .await
            .unwrap();
        let cancelled =
            "SELECT coalesce(bool_or(pg_cancel_backend(pid)), false) FROM pg_stat_activity
                         WHERE wait_event = 'SyncRep'";
        while !sqlx::query_scalar::<_, bool>(cancelled)
            .fetch_one(&mut admin)
            .await
            .unwrap()
        {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) {
        self.db.pools.close().await;
        drop(self.standby);
        self.primary.stop().await;
    }
}

impl Standby {
    fn follow(primary: &PrivatePostgres, directory: &Path) -> Self {
        let process = PathBuf::from(format!("/proc/{}", primary.pid()));
        let binaries = process
            .join("exe")
            .read_link()
            .unwrap()
            .parent()
            .unwrap()
            .to_owned();
        let owner = process.metadata().unwrap();
        let as_owner = |program: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "INT"]);
            if rustix::process::getuid().is_root() {
                let (user, group) = (owner.uid().to_string(), owner.gid().to_string());
                command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]);
            }
            command
                .arg(binaries.join(program))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        let socket = primary
            .url()
            .split_once("host=")
            .unwrap()
            .1
            .split('&')
            .next()
            .unwrap()
            .replace("%2F", "/");
        let copied = as_owner("pg_basebackup")
            .args([
                "-h", &socket, "-U", "postgres", "-X", "stream", "-R", "-c", "fast", "-D",
            ])
            .arg(directory)
            .status()
            .unwrap();
        assert!(copied.success());
        let server = as_owner("postgres")
            .arg("-D")
            .arg(directory)
            .args(["-c", "listen_addresses=", "-c", "cluster_name=walreceiver"])
            // a standby that allows fewer than its primary refuses to follow
            .args(["-c", "max_connections=500"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", directory.display()))
            .spawn()
            .unwrap();
        Self(server)
    }
}

fn open_to_all() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o777)
}

fn key(id: &str) -> RequestKey {
    RequestKey::new("adm_x".to_owned(), "test.method", id.parse().unwrap(), &id).unwrap()
}

#[tokio::test]
async fn a_write_is_acknowledged_by_two_nodes_or_not_at_all() {
    let now = datetime!(2026-11-23 09:30 UTC);
    let mut pair = Pair::start().await;
    let db = pair.db.clone();

    // both nodes confirm: acknowledged, and a repeat is proved by a barrier
    let Begun::New(request) = db.begin_request::<u32>(key("kept"), now).await.unwrap() else {
        panic!("told")
    };
    request.finish(&7).await.unwrap();
    assert!(matches!(
        db.begin_request::<u32>(key("kept"), now).await.unwrap(),
        Begun::Told(7)
    ));

    // the standby is gone before the promise was looked at again: the commit
    // waits; somebody cancels the wait, PostgreSQL calls it done, we do not
    let Begun::New(request) = db.begin_request::<u32>(key("alone"), now).await.unwrap() else {
        panic!("told")
    };
    pair.standby.0.kill().unwrap();
    pair.standby.0.wait().unwrap();
    let (outcome, ()) = tokio::join!(request.finish(&8), pair.cancel_wait());
    assert_eq!(outcome.unwrap_err().reason(), Reason::OutcomeUnknown);

    // once that is known, nothing is begun that could not be kept
    pair.until_copies(1).await;
    let refused = db
        .begin_request::<u32>(key("later"), now)
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::Unavailable);
    let mut connection = db.read().await.unwrap();
    assert_eq!(
        db.barrier(&mut connection).await.unwrap_err().reason(),
        Reason::Unavailable
    );
    drop(connection);
    pair.stop().await;
}

#[tokio::test]
async fn a_strong_board_answers_what_both_nodes_have_or_nothing() {
    let mut pair = Pair::start().await;
    let ambient = Ambient {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(Entropy::from_seed(7)),
    };
    epoch::open(&pair.db, &ambient, "example.org")
        .await
        .unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let publisher = Publisher::start(pair.db.clone(), &tasks, &stop);
    let blackboard = Blackboard::start(pair.db.clone(), ambient, publisher, stop.clone());
    let put = async |on: &str| {
        let (context, who) = (Context::system(), Who::Operator(None));
        blackboard
            .write(context, who, board(on), write("a", "1"))
            .await
    };
    let get = async |on: &str| {
        let (who, from) = (Who::Operator(None), ReadFrom::default());
        blackboard.get(who, board(on), key_of("a"), from).await
    };
    for on in ["strong", "session"] {
        assert_eq!(put(on).await.unwrap().copies, 2);
    }
    assert_eq!(get("strong").await.unwrap().copies, 2);
    // from here on nobody else commits
    stop.cancel();
    tasks.close();
    tasks.wait().await;

    // before anybody has looked again: what cannot be proved is not told
    pair.standby.0.kill().unwrap();
    pair.standby.0.wait().unwrap();
    let (read, ()) = tokio::join!(get("strong"), pair.cancel_wait());
    assert_eq!(read.unwrap_err().reason(), Reason::Unavailable);
    let (written, ()) = tokio::join!(put("strong"), pair.cancel_wait());
    assert_eq!(written.unwrap_err().reason(), Reason::OutcomeUnknown);
    assert!(get("session").await.is_ok(), "it promises less");

    pair.until_copies(1).await;
    for on in ["strong", "session"] {
        assert_eq!(put(on).await.unwrap_err().reason(), Reason::Unavailable);
    }
    pair.stop().await;
}
