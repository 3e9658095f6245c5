//! Sessions after their making: renewed, ended, outlived by their key.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    credential::ApiKey,
    ids::{ApiKeyId, MachineId},
    network::Networks,
    rate::RateLimits,
    reason::Reason,
    zone::Zone,
};
use control_plane::{
    clock::Clock,
    events::{self, ChangeBody, Stream},
    identity::{
        Identity, Serves, Session, TermsChange, api_key::NewApiKey, machine::MachineRef,
        membership::Expulsion, seal::MasterKeys,
    },
};

use crate::{
    rig::{Rig, admin, anonymous, caller, with_id},
    wait::{DEADLINE, until_async},
};

/// A session's token beside it.
async fn login(rig: &Rig, machine: MachineId, key: &ApiKey) -> (String, Arc<Session>) {
    let identity = &rig.app.identity;
    let (nonce, _) = identity.create_challenge(machine, key.id()).await.unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();
    let zone = Zone::LocalMachine;
    let made = identity.create_session(anonymous(), machine, key.id(), &nonce, &signature, zone);
    let made = made.await.unwrap();
    (made.token, made.session)
}

/// Another token of a session.
async fn renew(rig: &Rig, session: &Session) -> Result<(String, Arc<Session>), Reason> {
    let renewal = rig.app.identity.renew_session(caller(session), session);
    let made = renewal.await.map_err(|error| error.reason())?;
    Ok((made.token, made.session))
}

/// The reason that a token is refused with.
async fn refusal(rig: &Rig, token: &str, machine: MachineId) -> Option<Reason> {
    let authenticated = rig.app.identity.authenticate(token, machine).await;
    authenticated.err().map(|error| error.reason())
}

/// How often the audit log has an act.
async fn acts(rig: &Rig, action: &str, subject: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM audit_trail WHERE action = $1 AND subject = $2")
        .bind(action)
        .bind(subject)
        .fetch_one(rig.database.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_renewed_session_lives_on_for_twelve_hours_after_its_login_and_no_longer() {
    let rig = Rig::open().await;
    let machine = rig.machine("host").await;
    let key = rig.api_key(&["data_analyst"], false).await;
    let (_, first) = login(&rig, machine, &key).await;
    let began = rig.clock.now();
    let (mut token, mut session) = (String::new(), Arc::clone(&first));
    for _ in 0..51 {
        rig.clock.advance(Duration::from_mins(14));
        (token, session) = renew(&rig, &session).await.unwrap();
        assert_eq!(session.jti, first.jti);
        assert!(session.expires_at() <= began + time::Duration::hours(12));
        assert_eq!(refusal(&rig, &token, machine).await, None);
    }
    assert_eq!(session.expires_at(), began + time::Duration::hours(12));
    rig.clock.advance(Duration::from_mins(6));
    let refused = renew(&rig, &session).await;
    assert_eq!(refused.unwrap_err(), Reason::SessionExpired);
    assert_eq!(
        refusal(&rig, &token, machine).await,
        Some(Reason::SessionExpired)
    );
    assert_eq!(
        acts(&rig, "session.renew", &first.jti.to_string()).await,
        51
    );
}

#[tokio::test]
async fn a_lost_reply_to_a_renewal_can_be_asked_for_again() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let identity = &rig.app.identity;
    let repeat = async || {
        let context = with_id(caller(&session), "renewal-1");
        identity
            .renew_session(context, &session)
            .await
            .unwrap()
            .session
    };
    let first = repeat().await;
    rig.clock.advance(Duration::from_mins(5));
    assert_eq!(*repeat().await, *first, "with the times of the first");
    assert_eq!(
        acts(&rig, "session.renew", &session.jti.to_string()).await,
        1
    );
}

#[tokio::test]
async fn a_renewed_session_speaks_for_no_agent_that_its_machine_may_not_serve() {
    let rig = Rig::open().await;
    let machine = rig.machine("host").await;
    let key = rig.api_key(&["a", "b"], false).await;
    let (_, session) = login(&rig, machine, &key).await;
    let serve = async |agent: &str| {
        let change = TermsChange {
            agents: Some(Serves::only(vec![agent.parse().unwrap()]).unwrap()),
            ..TermsChange::default()
        };
        let named = MachineRef::Id(machine);
        let updated = rig.app.identity.update_machine(admin(), &named, change);
        updated.await.unwrap();
    };
    assert_eq!(renew(&rig, &session).await.unwrap().1.agents.len(), 2);
    serve("b").await;
    let (_, renewed) = renew(&rig, &session).await.unwrap();
    assert_eq!(renewed.agents, ["b".parse().unwrap()]);
    serve("c").await;
    let refused = renew(&rig, &session).await;
    assert_eq!(refused.unwrap_err(), Reason::AgentMismatch);
}

#[tokio::test]
async fn machines_and_sessions_are_heard_of_where_keys_cannot_be_read() {
    let rig = Rig::open().await;
    let app = &rig.app;
    let file = &rig.config.identity.master_key_file;
    // it reads nothing at a beat of its own
    let (db, ambient) = (app.db.clone(), app.ambient.clone());
    let settings = app.identity.settings().clone();
    let master = MasterKeys::from_file(file).unwrap();
    let identity = Identity::open(db, ambient, settings, master).await.unwrap();
    let refusal = async |(token, session): &(String, Arc<Session>)| {
        let known = identity.authenticate(token, session.machine).await;
        known.err().map(|error| error.reason())
    };
    let host = rig.machine("host").await;
    let key = rig.api_key(&["a"], false).await;
    let logins = [
        login(&rig, host, &key).await,
        login(&rig, host, &key).await,
        login(&rig, host, &key).await,
    ];
    let machines = [rig.machine("one").await, rig.machine("two").await];
    let ban = async |machine| {
        let named = MachineRef::Id(machine);
        let banned = app
            .grants
            .expel_machine(admin(), &named, Expulsion::Ban, "");
        banned.await.unwrap();
    };
    let end = async |(_, session): &(String, Arc<Session>)| {
        let ended = app.identity.end_session(caller(session), session);
        ended.await.unwrap();
    };
    for login in &logins {
        assert_eq!(refusal(login).await, None);
    }
    sqlx::query("ALTER TABLE own_key RENAME TO away")
        .execute(rig.database.pool())
        .await
        .unwrap();
    ban(machines[0]).await;
    end(&logins[0]).await;
    assert!(identity.reload_keys().await.is_err());
    identity.check_machine(machines[0]).unwrap();

    let following = tokio::spawn({
        let (identity, publisher) = (identity.clone(), Arc::clone(&app.publisher));
        async move { identity.follow(&publisher).await }
    });
    let ended = Some(Reason::SessionExpired);
    until_async("what was before is read", async || {
        refusal(&logins[0]).await == ended && identity.check_machine(machines[0]).is_err()
    })
    .await;
    let mut tx = app.db.begin().await.unwrap();
    let changed = [ChangeBody::SigningKeysChanged];
    events::append(&mut tx, Stream::Identity, rig.clock.now(), &changed)
        .await
        .unwrap();
    app.db.commit(tx).await.unwrap();
    ban(machines[1]).await;
    end(&logins[1]).await;
    until_async("what comes is heard of", async || {
        refusal(&logins[1]).await == ended && identity.check_machine(machines[1]).is_err()
    })
    .await;
    assert_eq!(refusal(&logins[2]).await, None);
    assert!(!following.is_finished());
    following.abort();
}

#[tokio::test]
async fn an_ended_session_is_refused_by_every_control_plane_and_cannot_be_renewed() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let machine = rig.machine("host").await;
    let key = rig.api_key(&["data_analyst"], false).await;
    let (token, session) = login(&rig, machine, &key).await;
    let (renewed, _) = renew(&rig, &session).await.unwrap();
    let (untouched, _) = login(&rig, machine, &key).await;
    for rig in [&rig, &other] {
        assert_eq!(refusal(rig, &token, machine).await, None);
    }
    let end = async || {
        let context = with_id(caller(&session), "logout-1");
        rig.app.identity.end_session(context, &session).await
    };
    end().await.unwrap();
    for token in [&token, &renewed] {
        assert_eq!(
            refusal(&rig, token, machine).await,
            Some(Reason::SessionExpired),
            "at once, and every token of it"
        );
    }
    // the others hear of it, also one that was started afterwards
    for other in [&other, &rig.beside().await] {
        let heard = async {
            while refusal(other, &token, machine).await.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, heard).await.unwrap();
    }
    for rig in [&rig, &other] {
        assert_eq!(refusal(rig, &untouched, machine).await, None);
        let identity = &rig.app.identity;
        let renewal = renew(rig, &session).await;
        assert_eq!(renewal.unwrap_err(), Reason::SessionExpired);
        let look = identity.check_session(&session).await;
        assert_eq!(look.unwrap_err().reason(), Reason::SessionExpired);
    }
    end().await.unwrap();
    assert_eq!(acts(&rig, "session.end", &session.jti.to_string()).await, 1);

    // nothing of it is kept for longer than a token could live
    rig.clock.advance(Duration::from_mins(31));
    assert!(rig.app.identity.forget_ended(100).await.unwrap() > 0);
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM ended_session")
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let machine = rig.machine("host").await;
    let seed = rig.app.ambient.entropy.bytes::<32>();
    let draft = ApiKey::new(ApiKeyId::from_uuid(rig.app.ambient.uuid()), seed);
    let ends = rig.clock.now() + time::Duration::minutes(20);
    let new = NewApiKey {
        name: "short".to_owned(),
        public_key: draft.public_key().unwrap(),
        agent_ids: vec!["data_analyst".parse().unwrap()],
        validator: false,
        expires_at: Some(ends),
        rate_limits: RateLimits::default(),
        allowed_networks: Networks::default(),
    };
    let id = identity.create_api_key(admin(), new).await.unwrap().id;
    let key = ApiKey::new(id, seed);
    let (_, session) = login(&rig, machine, &key).await;
    assert_eq!(
        session.expires_at(),
        rig.clock.now() + time::Duration::minutes(15)
    );
    rig.clock.advance(Duration::from_mins(10));
    let (token, renewed) = renew(&rig, &session).await.unwrap();
    assert_eq!(renewed.expires_at(), ends);
    let (_, second) = login(&rig, machine, &key).await;
    assert_eq!(second.expires_at(), ends);
    rig.clock.advance(Duration::from_mins(10));
    assert_eq!(
        refusal(&rig, &token, machine).await,
        Some(Reason::SessionExpired)
    );
    let renewal = renew(&rig, &second).await;
    assert_eq!(renewal.unwrap_err(), Reason::ApiKeyExpired);

    // and one that is revoked renews nothing any more
    let analyst = rig.analyst().await;
    identity
        .revoke_api_key(admin(), analyst.api_key_id)
        .await
        .unwrap();
    let renewal = renew(&rig, &analyst).await;
    assert_eq!(renewal.unwrap_err(), Reason::ApiKeyRevoked);
    let look = identity.check_session(&analyst).await;
    assert_eq!(look.unwrap_err().reason(), Reason::ApiKeyRevoked);
}
