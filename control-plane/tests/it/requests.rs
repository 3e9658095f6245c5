//! Idempotent requests and the write promise.

use std::time::Duration;

use authguardian_proto::reason::Reason;
use control_plane::db::request::{Begun, RequestKey};

use crate::rig::Rig;

fn key(id: &str, asked: &str) -> RequestKey {
    RequestKey::new(
        "adm_x".to_owned(),
        "test.method",
        id.parse().unwrap(),
        &asked,
    )
    .unwrap()
}

#[tokio::test]
async fn a_request_is_carried_out_once_and_an_abandoned_one_not_at_all() {
    let rig = Rig::open().await;
    let (db, now) = (&rig.app.db, rig.app.ambient.clock.now());
    let Begun::New(abandoned) = db.begin_request::<u32>(key("a", "x"), now).await.unwrap() else {
        panic!("told")
    };
    drop(abandoned);
    let Begun::New(request) = db.begin_request::<u32>(key("a", "x"), now).await.unwrap() else {
        panic!("told")
    };
    // a concurrent repeat waits for the first and is told its outcome
    let (first, repeat) = tokio::join!(
        async {
            tokio::task::yield_now().await;
            request.finish(&7).await
        },
        db.begin_request::<u32>(key("a", "x"), now),
    );
    first.unwrap();
    assert!(matches!(repeat.unwrap(), Begun::Told(7)));
    let reused = db
        .begin_request::<u32>(key("a", "y"), now)
        .await
        .unwrap_err();
    assert_eq!(
        (reused.reason(), reused.problem().field.as_deref()),
        (Reason::RequestIdReused, Some("request_id"))
    );
}

#[tokio::test]
async fn outcomes_are_kept_for_a_day() {
    let rig = Rig::open().await;
    let (db, now) = (&rig.app.db, rig.app.ambient.clock.now());
    let Begun::New(request) = db.begin_request::<u32>(key("a", "x"), now).await.unwrap() else {
        panic!("told")
    };
    request.finish(&7).await.unwrap();
    let forget = async |hours: u64| {
        let mut tx = db.begin().await.unwrap();
        control_plane::db::request::forget_old(
            &mut tx,
            now + Duration::from_secs(hours * 3600),
            100,
        )
        .await
        .unwrap();
        db.commit(tx).await.unwrap();
        matches!(
            db.begin_request::<u32>(key("a", "x"), now).await.unwrap(),
            Begun::Told(7)
        )
    };
    assert!(forget(24).await);
    assert!(!forget(25).await);
}

#[tokio::test]
async fn without_its_write_quorum_a_control_plane_refuses_to_start_writing() {
    let rig = Rig::open().await;
    let mut config = rig.config.clone();
    config.database.write_quorum = 2;
    let error = crate::rig::open_app(&config, rig.clock.clone(), 9)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::Unavailable);
}
