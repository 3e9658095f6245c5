//! Our own keys lie sealed under a master key, which can be replaced while
//! everything runs; a wrong one refuses the start.

use std::{fs, sync::Arc};

use authguardian_proto::{credential::sha256, ids::SigningKeyId, reason::Reason, zone::Zone};
use control_plane::{
    app::{self, App},
    error::Result,
    identity::{Purpose, Session, reseal::Resealed},
};
use serde_json::{Value, json};

use crate::{
    rig::{Rig, admin, anonymous, open_app},
    serving::Serving,
    wait::{until, until_async},
};

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
    let keys = Purpose::ALL.len() + 1;
    let [old, new] = [OLD, NEW].map(|key| id_of(&rig, key));
    assert_eq!(sealed_under(&rig).await, [(Some(old.clone()), keys)]);

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
        (new.clone(), keys, 0)
    );
    assert_eq!(sealed_under(&rig).await, [(Some(new.clone()), keys)]);
    assert_eq!(
        rewrap(&rig, &[NEW, OLD]).await.unwrap(),
        (new.clone(), 0, keys)
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
    assert_eq!(entries(&rig).await, keys);
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
    let (new, keys) = (id_of(&rig, NEW), Purpose::ALL.len());
    assert_eq!(
        rewrap(&rig, &[NEW, OLD]).await.unwrap(),
        (new.clone(), keys, 0)
    );
    assert_eq!(sealed_under(&rig).await, [(Some(new), keys)]);
    start(&rig, &[NEW]).await.unwrap();
}

#[tokio::test]
async fn a_dropped_key_is_refused_also_where_the_keys_of_now_cannot_be_opened() {
    let serving = Serving::start().await;
    let (rig, identity) = (&serving.rig, &serving.rig.app.identity);
    let (session, login) = login(rig).await;
    let token = rig.granted(&session).await.token.unwrap();
    let signer = identity.keyring().grant_signer().id;
    let ca = sha256(identity.keyring().ca().certificate());
    identity
        .authenticate(&login, session.machine)
        .await
        .unwrap();
    assert!(identity.verify_grant(&token).await.unwrap().is_ok());
    assert_eq!(readiness(&serving).await, (200, json!("ok")));

    rewrap(rig, &[NEW, OLD]).await.unwrap();
    let other = start(rig, &[NEW]).await.unwrap();
    let mut retired = Vec::new();
    for purpose in Purpose::ALL {
        retired.push(rotate(&other, purpose).await);
    }
    until("it knows that it lacks the keys of now", || {
        !identity.has_keys_of_now()
    })
    .await;
    let problem = "the stored signing keys cannot be opened with the master keys here";
    assert_eq!(readiness(&serving).await, (503, json!(problem)));
    // nothing was dropped yet
    identity
        .authenticate(&login, session.machine)
        .await
        .unwrap();
    assert!(identity.verify_grant(&token).await.unwrap().is_ok());
    let trusts_ca = || {
        let keyring = identity.keyring();
        let mut authorities = keyring.ca_certificates().iter();
        authorities.any(|certificate| sha256(certificate) == ca)
    };
    assert!(trusts_ca());

    for id in retired {
        let dropped = other.identity.retire_signing_key(admin(), id, true).await;
        dropped.unwrap();
    }
    until_async("what was dropped is refused", async || {
        let login = identity.authenticate(&login, session.machine).await;
        let grant = identity.verify_grant(&token).await;
        login.is_err() && !matches!(grant, Ok(Ok(_))) && !trusts_ca()
    })
    .await;
    let refused = identity.verify_grant(&token).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Unavailable);
    assert_eq!(identity.keyring().grant_signer().id, signer, "it goes on");
    assert_eq!(readiness(&serving).await.0, 503);
    serving.stop().await;
}

#[tokio::test]
async fn where_nothing_but_dropped_keys_is_new_no_master_key_is_missed() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let (session, login) = login(&rig).await;
    let old = rotate(&rig.app, Purpose::Session).await;
    identity
        .authenticate(&login, session.machine)
        .await
        .unwrap();
    rewrap(&rig, &[NEW, OLD]).await.unwrap();
    let other = start(&rig, &[NEW]).await.unwrap();
    let dropped = other.identity.retire_signing_key(admin(), old, true).await;
    dropped.unwrap();
    until_async("what was dropped is refused", async || {
        let known = identity.authenticate(&login, session.machine).await;
        known.is_err_and(|error| error.reason() == Reason::Unauthenticated)
    })
    .await;
    identity.reload_keys().await.unwrap();
    assert!(identity.has_keys_of_now());
}

/// A session of data_analyst, and its token.
async fn login(rig: &Rig) -> (Arc<Session>, String) {
    let session = rig.analyst().await;
    let key = rig.api_key(&["data_analyst"], false).await;
    let (identity, machine) = (&rig.app.identity, session.machine);
    let (nonce, _) = identity.create_challenge(machine, key.id()).await.unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();
    let zone = Zone::LocalMachine;
    let made = identity.create_session(anonymous(), machine, key.id(), &nonce, &signature, zone);
    (session, made.await.unwrap().token)
}

/// Lets another key sign; returns the one that did.
async fn rotate(app: &App, purpose: Purpose) -> SigningKeyId {
    let made = app.identity.prepare_signing_key(admin(), purpose).await;
    let id = made.unwrap().id;
    let changed = app.identity.activate_signing_key(admin(), id, true).await;
    changed.unwrap().1.unwrap().id
}

/// The status of `/readyz`, and what it says of our keys.
async fn readiness(serving: &Serving) -> (u16, Value) {
    let url = format!("http://{}/readyz", serving.addresses.http);
    let answer = reqwest::get(url).await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["checks"]["signing_keys"].clone())
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
async fn sealed_under(rig: &Rig) -> Vec<(Option<String>, usize)> {
    let rows: Vec<(Option<String>, i64)> =
        sqlx::query_as("SELECT master_key_id, count(*) FROM own_key WHERE sealed <> '' GROUP BY 1")
            .fetch_all(rig.database.pool())
            .await
            .unwrap();
    let counted = |(id, count)| (id, usize::try_from(count).unwrap());
    rows.into_iter().map(counted).collect()
}

async fn entries(rig: &Rig) -> usize {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit_trail WHERE action = 'signing_key.reseal'")
            .fetch_one(rig.database.pool())
            .await
            .unwrap();
    usize::try_from(count).unwrap()
}
