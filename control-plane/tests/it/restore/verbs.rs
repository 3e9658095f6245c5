//! `control-plane backup` and `control-plane restore`, as processes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use authguardian_proto::reason::Reason;
use control_plane::{
    clock::{Clock, SystemClock},
    db::private_postgres::{Options, PrivatePostgres},
    grants::{Decision, GrantState},
    identity::Session,
};
use sqlx::{Connection, PgConnection};

use super::{Backup, Empty, told, verb};
use crate::rig::{Rig, caller};

#[tokio::test]
async fn a_backup_is_restored_into_another_server_and_fenced() {
    let rig = Rig::open_now().await;
    let session = rig.analyst().await;
    let (kept, revoked_before) = (rig.granted(&session).await, rig.granted(&session).await);
    revoke(&rig, &session, &revoked_before).await;
    let (backup, view, said) = Backup::of(&rig.config).await;
    assert_eq!(view["trust_domain"], "example.org");
    assert_eq!(view["epoch"], 1);
    assert!(said.contains("the master key is not in it"), "{said}");
    let manifest = backup.manifest();
    assert_eq!(manifest["dump"]["sha256"], view["dump_sha256"]);
    assert_eq!(manifest["facts"]["streams"]["grants"], 3);
    // what happens afterwards is lost
    revoke(&rig, &session, &kept).await;
    let lost = rig.granted(&session).await;

    let dir = tempfile::tempdir().unwrap();
    let server = PrivatePostgres::start(Options::new(dir.path()))
        .await
        .unwrap();
    let arguments = ["restore", "--input", backup.path(), "-o", "json"];
    let before = SystemClock::default().now().unix_timestamp();
    let (view, said) = told(verb(&rig.config, &server.url(), &arguments)).await;
    assert_eq!(view["epoch_before"], 1);
    let epoch = view["epoch"].as_i64().unwrap();
    assert!(epoch >= before, "{view}");
    assert_eq!(view["grants_ended"], 1, "{view}");
    assert_eq!(view["migrations"], 0);
    for part in ["ban again the machines", "audit verify", "budget list"] {
        assert!(said.contains(part), "{said}");
    }

    let restored = rig.on(&server.url()).await;
    let now = restored.app.ambient.clock.now();
    for decision in [&kept, &revoked_before] {
        let record = restored.app.grants.get(decision.record.id).await.unwrap();
        assert_eq!(record.state(now), GrantState::Revoked);
    }
    let missing = restored.app.grants.get(lost.record.id).await;
    assert_eq!(missing.unwrap_err().reason(), Reason::GrantNotFound);
    let anew = restored.agent("orchestrator", 900).await;
    let given = restored.granted(&anew).await;
    assert_eq!(given.record.position.epoch, epoch);
    // the one that is not lost after all goes on as it was
    assert_eq!(rig.granted(&session).await.record.position.epoch, 1);
    restored.app.stop.cancel();
    server.stop().await;
}

#[tokio::test]
async fn what_is_backed_up_is_for_its_owner_only_and_appears_whole() {
    let rig = Rig::open().await;
    let (backup, ..) = Backup::of(&rig.config).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&backup.directory), 0o700);
    for name in ["manifest.json", "database.dump"] {
        assert_eq!(mode(&backup.directory.join(name)), 0o600, "{name}");
    }
    let beside = fs::read_dir(backup.files.path()).unwrap().count();
    assert_eq!(beside, 1, "something is left beside it");
    let dump = fs::read(backup.directory.join("database.dump")).unwrap();
    assert!(dump.starts_with(b"PGDMP"));
}

#[tokio::test]
async fn a_restore_in_the_same_server_is_fenced_too() {
    let rig = Rig::open().await;
    let (backup, ..) = Backup::of(&rig.config).await;
    let empty = Empty::beside(&rig.database).await;
    let arguments = ["restore", "--input", backup.path(), "-o", "json"];
    let (view, _) = told(verb(&rig.config, &empty.url, &arguments)).await;
    assert!(view["epoch"].as_i64().unwrap() > 1_700_000_000);
    // and is not once more by who serves it
    let epoch = view["epoch"].clone();
    rig.on(&empty.url).await;
    assert_eq!(installation(&empty.url).await.0, epoch);
}

#[tokio::test]
async fn a_fence_in_place_is_asked_for() {
    let rig = Rig::open().await;
    let url = rig.config.database.url.expose();
    let unasked = verb(&rig.config, url, &["restore", "--in-place"]);
    let (said, code) = super::refused(unasked).await;
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(code, 2);
    assert_eq!(installation(url).await.0, 1);
    let arguments = ["restore", "--in-place", "--yes", "-o", "json"];
    let (view, _) = told(verb(&rig.config, url, &arguments)).await;
    assert_eq!(view["epoch_before"], 1);
    assert_eq!(installation(url).await.0, view["epoch"]);
    assert_eq!(view.get("migrations"), None);
}

/// Epoch, and the epoch of the newest restore.
async fn installation(url: &str) -> (i64, i64) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_as("SELECT epoch, restored_epoch FROM installation")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn revoke(rig: &Rig, session: &Arc<Session>, decision: &Decision) {
    let token = decision.token.as_deref().unwrap();
    let grants = &rig.app.grants;
    let revoked = grants.revoke_token(caller(session), Arc::clone(session), token);
    revoked.await.unwrap();
}
