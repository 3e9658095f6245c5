//! The life of our own keys, above all of those that sign tokens, with one and with two control planes.

use std::time::Duration;

use authguardian_proto::{ids::SigningKeyId, reason::Reason, zone::Zone};
use control_plane::identity::{KeyState, Purpose, SigningKey};
use serde_json::Value;

use crate::{
    rig::{Rig, admin, anonymous, open_app},
    wait::until_async,
};

/// As the rig's configuration has it.
const PUBLICATION: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_illegal_transition_is_refused_and_changes_nothing() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let prepared = identity
        .prepare_signing_key(admin(), Purpose::Grant)
        .await
        .unwrap();
    let active = key(&rig, Purpose::Grant, KeyState::Active).await;
    let ca = key(&rig, Purpose::Ca, KeyState::Active).await;
    let unknown = SigningKeyId::from_uuid(rig.app.ambient.uuid());
    let before = keys(&rig).await;
    let audited = entries(&rig).await;

    let activate = async |id, force| {
        let refused = identity.activate_signing_key(admin(), id, force).await;
        refused.unwrap_err().reason()
    };
    let retire = async |id| {
        let refused = identity.retire_signing_key(admin(), id, true).await;
        refused.unwrap_err().reason()
    };
    let prepare = async |purpose| {
        let refused = identity.prepare_signing_key(admin(), purpose).await;
        refused.unwrap_err().reason()
    };
    assert_eq!(prepare(Purpose::Grant).await, Reason::RevisionConflict);
    assert_eq!(
        activate(prepared.id, false).await,
        Reason::RevisionConflict,
        "published only now"
    );
    assert_eq!(activate(active.id, true).await, Reason::RevisionConflict);
    assert_eq!(activate(ca.id, true).await, Reason::RevisionConflict);
    assert_eq!(activate(unknown, true).await, Reason::KeyNotFound);
    assert_eq!(retire(active.id).await, Reason::RevisionConflict);
    assert_eq!(retire(ca.id).await, Reason::RevisionConflict);
    assert_eq!(retire(unknown).await, Reason::KeyNotFound);

    assert_eq!(keys(&rig).await, before);
    assert_eq!(entries(&rig).await, audited);
}

#[tokio::test]
async fn a_key_is_published_then_signs_then_is_accepted_until_its_last_token_has_ended() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let session = rig.analyst().await;
    let old = key(&rig, Purpose::Grant, KeyState::Active).await;
    let prepared = identity
        .prepare_signing_key(admin(), Purpose::Grant)
        .await
        .unwrap();
    assert_eq!(published(&rig).await, ids(&[old.id, prepared.id]));
    let before = rig.granted(&session).await.token.unwrap();
    assert_eq!(kid(&before), old.id.to_string(), "the new one waits");

    rig.clock.advance(PUBLICATION);
    let activated = identity.activate_signing_key(admin(), prepared.id, false);
    let (active, retired) = activated.await.unwrap();
    assert_eq!((active.id, active.state), (prepared.id, KeyState::Active));
    assert_eq!(retired.unwrap().id, old.id);
    let after = rig.granted(&session).await.token.unwrap();
    assert_eq!(kid(&after), prepared.id.to_string());
    for token in [&before, &after] {
        assert_eq!(verdict(&rig, &session, token).await, None);
    }

    assert_eq!(identity.drop_retired_keys().await.unwrap(), 0);
    rig.clock.advance(Duration::from_hours(24));
    rig.clock.advance(Duration::from_mins(1));
    assert_eq!(identity.drop_retired_keys().await.unwrap(), 1);
    assert_eq!(identity.drop_retired_keys().await.unwrap(), 0);
    assert_eq!(published(&rig).await, ids(&[prepared.id]));
}

#[tokio::test]
async fn a_repeated_change_of_keys_is_told_its_first_outcome() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let context = || {
        let mut context = admin();
        context.request_id = Some("rotation-1".parse().unwrap());
        context
    };
    let first = identity.prepare_signing_key(context(), Purpose::Session);
    let first = first.await.unwrap();
    let again = identity.prepare_signing_key(context(), Purpose::Session);
    assert_eq!(again.await.unwrap(), first);
    let activated = identity.activate_signing_key(context(), first.id, true);
    let activated = activated.await.unwrap();
    let again = identity.activate_signing_key(context(), first.id, true);
    assert_eq!(again.await.unwrap(), activated);
}

#[tokio::test]
async fn keys_are_after_a_restart_what_they_were_before() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    for purpose in Purpose::ALL {
        let made = identity.prepare_signing_key(admin(), purpose).await;
        let made = made.unwrap();
        let changed = identity.activate_signing_key(admin(), made.id, true);
        changed.await.unwrap();
    }
    let waiting = identity.prepare_signing_key(admin(), Purpose::Grant).await;
    waiting.unwrap();
    let before = keys(&rig).await;
    let token = rig.granted(&rig.analyst().await).await.token.unwrap();

    let again = open_app(&rig.config, rig.clock.clone(), 9).await.unwrap();
    assert_eq!(
        again.identity.list_signing_keys(None).await.unwrap(),
        before
    );
    assert_eq!(
        again.identity.keyring().grant_signer().id,
        identity.keyring().grant_signer().id
    );
    assert!(again.identity.verify_grant(&token).await.unwrap().is_ok());
}

#[tokio::test]
async fn what_another_control_plane_signs_with_a_new_key_is_known_at_once() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let session = rig.analyst().await;
    let machine = session.machine;
    let api_key = rig.api_key(&["data_analyst"], false).await;
    for _ in 0..3 {
        for purpose in [Purpose::Grant, Purpose::Session] {
            let made = rig.app.identity.prepare_signing_key(admin(), purpose).await;
            let made = made.unwrap().id;
            // nobody was told of it before it signs
            let changed = rig.app.identity.activate_signing_key(admin(), made, true);
            changed.await.unwrap();
        }
        let token = rig.granted(&session).await.token.unwrap();
        assert_eq!(verdict(&other, &session, &token).await, None);

        let identity = &rig.app.identity;
        let challenge = identity.create_challenge(machine, api_key.id()).await;
        let (nonce, _) = challenge.unwrap();
        let signature = api_key.sign_nonce(&nonce).unwrap();
        let (id, zone) = (api_key.id(), Zone::LocalMachine);
        let login = identity.create_session(anonymous(), machine, id, &nonce, &signature, zone);
        let token = login.await.unwrap().token;
        let known = other.app.identity.authenticate(&token, machine).await;
        known.unwrap();
    }
}

#[tokio::test]
async fn a_forced_retirement_refuses_the_tokens_of_a_key_everywhere() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let session = rig.analyst().await;
    let api_key = rig.api_key(&["data_analyst"], false).await;
    let identity = &rig.app.identity;
    let challenge = identity.create_challenge(session.machine, api_key.id());
    let (nonce, _) = challenge.await.unwrap();
    let signature = api_key.sign_nonce(&nonce).unwrap();
    let (id, zone) = (api_key.id(), Zone::LocalMachine);
    let login = identity.create_session(anonymous(), session.machine, id, &nonce, &signature, zone);
    let login = login.await.unwrap().token;
    let token = rig.granted(&session).await.token.unwrap();
    // both remember the session
    for app in [&rig.app, &other.app] {
        let known = app.identity.authenticate(&login, session.machine).await;
        known.unwrap();
    }

    for purpose in [Purpose::Grant, Purpose::Session] {
        let made = identity.prepare_signing_key(admin(), purpose).await;
        let changed = identity.activate_signing_key(admin(), made.unwrap().id, true);
        let old = changed.await.unwrap().1.unwrap();
        let unforced = identity.retire_signing_key(admin(), old.id, false).await;
        assert_eq!(unforced.unwrap(), old, "its tokens live on");
        let forced = identity.retire_signing_key(admin(), old.id, true).await;
        assert!(forced.unwrap().dropped_at.is_some());
    }
    for rig in [&rig, &other] {
        until_async("the old tokens are refused", async || {
            let known = &rig.app.identity;
            let login = known.authenticate(&login, session.machine).await;
            let grant = verdict(rig, &session, &token).await;
            login.is_err_and(|error| error.reason() == Reason::Unauthenticated)
                && grant == Some(Reason::TokenForeignKey)
        })
        .await;
    }
}

async fn keys(rig: &Rig) -> Vec<SigningKey> {
    rig.app.identity.list_signing_keys(None).await.unwrap()
}

async fn key(rig: &Rig, purpose: Purpose, state: KeyState) -> SigningKey {
    let found = keys(rig)
        .await
        .into_iter()
        .find(|key| key.purpose == purpose && key.state == state);
    found.unwrap()
}

/// How many changes of keys stand in the audit log.
async fn entries(rig: &Rig) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM audit_trail WHERE action LIKE 'signing_key.%'")
        .fetch_one(rig.database.pool())
        .await
        .unwrap()
}

async fn published(rig: &Rig) -> Vec<String> {
    let jwks: Value = serde_json::from_str(&rig.app.identity.jwks().await.unwrap()).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    let mut kids: Vec<_> = keys
        .iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect();
    kids.sort();
    kids
}

fn ids(ids: &[SigningKeyId]) -> Vec<String> {
    let mut ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.sort();
    ids
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// What a control plane says of a token; `None`: that it is good.
async fn verdict(
    rig: &Rig,
    session: &control_plane::identity::Session,
    token: &str,
) -> Option<Reason> {
    let resource_type = "SAP_API".parse().unwrap();
    let agent = &session.agents[0];
    let checked = rig
        .app
        .grants
        .validate(session, token, agent, &resource_type);
    checked.await.unwrap().refused
}
