//! Our own keys lie sealed under a master key, which can be replaced while
//! everything runs; a wrong one refuses the start.

use std::fs;

use control_plane::{
    app::{self, App},
    error::Result,
    identity::{Purpose, reseal::Resealed},
};

use crate::rig::{Rig, admin, open_app};

/// As the rig's master key.
const OLD: &str = "07";
const NEW: &str = "08";
const OTHER: &str = "09";

#[tokio::test]
async fn one_master_key_takes_anothers_place() {
    let rig = Rig::open().await;
    // one that is prepared lies sealed as well
    let prepared = rig.app.identity.prepare_signing_key(admin(), Purpose::Ca);
    prepared.await.unwrap();
    let [old, new] = [OLD, NEW].map(|key| id_of(&rig, key));
    assert_eq!(sealed_under(&rig).await, [(Some(old.clone()), 4)]);

    let refused = start(&rig, &[NEW])
        .await
        .unwrap_err()
        .problem()
        .detail
        .clone();
    assert!(
        refused.contains(&old) && refused.contains(&new),
        "{refused}"
    );
    start(&rig, &[NEW, OLD]).await.unwrap();
    assert_eq!(
        rewrap(&rig, &[NEW, OLD]).await.unwrap(),
        (new.clone(), 4, 0)
    );
    assert_eq!(sealed_under(&rig).await, [(Some(new.clone()), 4)]);
    assert_eq!(
        rewrap(&rig, &[NEW, OLD]).await.unwrap(),
        (new.clone(), 0, 4)
    );

    start(&rig, &[NEW]).await.unwrap();
    let refused = start(&rig, &[OLD])
        .await
        .unwrap_err()
        .problem()
        .detail
        .clone();
    assert!(refused.contains(&new), "{refused}");
    // the one that was open all along goes on, and has the same keys
    let granted = rig.granted(&rig.analyst().await).await;
    assert!(granted.token.is_some());
    assert_eq!(entries(&rig).await, 4);
}

#[tokio::test]
async fn a_missing_master_key_changes_nothing() {
    let rig = Rig::open().await;
    let refused = rewrap(&rig, &[OTHER, NEW]).await.unwrap_err();
    let detail = refused.problem().detail.clone();
    assert!(detail.contains(&id_of(&rig, OLD)), "{detail}");
    assert_eq!(entries(&rig).await, 0);
    start(&rig, &[OLD]).await.unwrap();
}

#[tokio::test]
async fn what_was_sealed_before_ids_were_noted_is_opened_and_sealed_anew() {
    let rig = Rig::open().await;
    sqlx::query("UPDATE own_key SET master_key_id = NULL")
        .execute(rig.database.pool())
        .await
        .unwrap();
    start(&rig, &[NEW, OLD]).await.unwrap();
    assert!(start(&rig, &[NEW]).await.is_err());
    let new = id_of(&rig, NEW);
    assert_eq!(
        rewrap(&rig, &[NEW, OLD]).await.unwrap(),
        (new.clone(), 3, 0)
    );
    assert_eq!(sealed_under(&rig).await, [(Some(new), 3)]);
    start(&rig, &[NEW]).await.unwrap();
}

/// A control plane that has these master keys in its file.
async fn start(rig: &Rig, keys: &[&str]) -> Result<std::sync::Arc<App>> {
    give(rig, keys);
    open_app(&rig.config, rig.clock.clone(), 77).await
}

/// The master key's id, and how many keys were resealed and kept.
async fn rewrap(rig: &Rig, keys: &[&str]) -> Result<(String, usize, usize)> {
    give(rig, keys);
    let (id, outcome) = app::rewrap_keys(&rig.config, &rig.app.ambient).await?;
    let Resealed { resealed, kept } = outcome;
    Ok((id.to_string(), resealed, kept))
}

fn give(rig: &Rig, keys: &[&str]) {
    let lines: Vec<_> = keys.iter().map(|key| key.repeat(32)).collect();
    fs::write(&rig.config.identity.master_key_file, lines.join("\n")).unwrap();
}

fn id_of(rig: &Rig, key: &str) -> String {
    let before = fs::read(&rig.config.identity.master_key_file).unwrap();
    give(rig, &[key]);
    let path = &rig.config.identity.master_key_file;
    let keys = control_plane::identity::seal::MasterKeys::from_file(path).unwrap();
    fs::write(path, before).unwrap();
    keys.first().to_string()
}

/// How many secrets are sealed under which master key.
async fn sealed_under(rig: &Rig) -> Vec<(Option<String>, i64)> {
    sqlx::query_as("SELECT master_key_id, count(*) FROM own_key WHERE sealed <> '' GROUP BY 1")
        .fetch_all(rig.database.pool())
        .await
        .unwrap()
}

async fn entries(rig: &Rig) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM audit_entry WHERE action = 'signing_key.reseal'")
        .fetch_one(rig.database.pool())
        .await
        .unwrap()
}
