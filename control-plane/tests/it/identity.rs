//! Machines, keys, sessions and admins on a real database.

use std::time::Duration;

use authguardian_proto::{credential, reason::Reason, zone::Zone};
use control_plane::identity::{Role, join::NewJoinToken};

use crate::rig::{Rig, admin, anonymous, open_app, requested_key};

#[tokio::test]
async fn a_join_token_is_good_once_for_one_key_and_for_its_time() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let create = async |name: &str| -> credential::JoinToken {
        let (text, _) = identity
            .create_join_token(admin(), NewJoinToken::of(name.parse().unwrap()))
            .await
            .unwrap();
        text.unwrap().parse().unwrap()
    };
    let token = create("build-7").await;
    let (_, key) = requested_key();
    let joined = identity.join(anonymous(), &token, &key).await.unwrap();
    let again = identity.join(anonymous(), &token, &key).await.unwrap();
    assert_eq!(
        again.machine_id, joined.machine_id,
        "a lost reply can be asked for again"
    );
    let other = identity
        .join(anonymous(), &token, &requested_key().1)
        .await
        .unwrap_err();
    assert_eq!(other.reason(), Reason::JoinTokenUsed);

    let late = create("build-8").await;
    rig.clock.advance(Duration::from_secs(601));
    let error = identity
        .join(anonymous(), &late, &requested_key().1)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::JoinTokenInvalid);

    let forged = credential::JoinToken::new(late.id(), [9; 32], late.ca_fingerprint());
    let error = identity
        .join(anonymous(), &forged, &requested_key().1)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::JoinTokenInvalid);

    let refused = identity
        .create_join_token(admin(), NewJoinToken::of("build-7".parse().unwrap()))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidArgument);
}

#[tokio::test]
async fn a_nonce_is_good_once_at_one_machine_and_for_a_minute() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let (here, there) = (rig.machine("here").await, rig.machine("there").await);
    let key = rig.api_key(&["data_analyst"], false).await;
    let login = async |machine, nonce: &[u8; 32], signature: &[u8]| {
        identity
            .create_session(
                anonymous(),
                machine,
                key.id(),
                nonce,
                signature,
                Zone::LocalMachine,
            )
            .await
            .map(|_| ())
            .map_err(|error| error.reason())
    };
    let (nonce, _) = identity.create_challenge(here, key.id()).await.unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();
    assert_eq!(login(here, &nonce, &signature).await, Ok(()));
    assert_eq!(
        login(here, &nonce, &signature).await,
        Err(Reason::NonceUsed)
    );

    let (nonce, _) = identity.create_challenge(here, key.id()).await.unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();
    assert_eq!(
        login(there, &nonce, &signature).await,
        Err(Reason::NonceExpired),
        "made for another machine"
    );
    assert_eq!(
        login(here, &[7; 32], &signature).await,
        Err(Reason::NonceExpired),
        "unknown"
    );

    let (nonce, _) = identity.create_challenge(here, key.id()).await.unwrap();
    let foreign = rig
        .api_key(&["data_analyst"], false)
        .await
        .sign_nonce(&nonce)
        .unwrap();
    assert_eq!(
        login(here, &nonce, &foreign).await,
        Err(Reason::SignatureInvalid)
    );

    let (nonce, _) = identity.create_challenge(here, key.id()).await.unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();
    rig.clock.advance(Duration::from_secs(61));
    assert_eq!(
        login(here, &nonce, &signature).await,
        Err(Reason::NonceExpired)
    );
}

#[tokio::test]
async fn a_session_is_good_at_its_own_machine_for_a_quarter_of_an_hour() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let (here, there) = (rig.machine("here").await, rig.machine("there").await);
    let key = rig.api_key(&["data_analyst"], true).await;
    let (nonce, _) = identity.create_challenge(here, key.id()).await.unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();
    let made = identity
        .create_session(
            anonymous(),
            here,
            key.id(),
            &nonce,
            &signature,
            Zone::LocalMachine,
        )
        .await
        .unwrap();
    let (token, session) = (made.token, made.session);
    assert_eq!(
        *identity.authenticate(&token, here).await.unwrap(),
        *session
    );
    assert_eq!(
        identity
            .authenticate(&token, there)
            .await
            .unwrap_err()
            .reason(),
        Reason::Unauthenticated
    );
    for rubbish in ["", "a.b.c", &token[..token.len() - 2]] {
        assert_eq!(
            identity
                .authenticate(rubbish, here)
                .await
                .unwrap_err()
                .reason(),
            Reason::Unauthenticated
        );
    }
    let grant = rig.granted(&rig.analyst().await).await.token.unwrap();
    assert_eq!(
        identity
            .authenticate(&grant, here)
            .await
            .unwrap_err()
            .reason(),
        Reason::Unauthenticated,
        "no session token"
    );
    rig.clock.advance(Duration::from_mins(15));
    assert_eq!(
        identity
            .authenticate(&token, here)
            .await
            .unwrap_err()
            .reason(),
        Reason::SessionExpired
    );
}

#[tokio::test]
async fn keys_that_do_not_count_get_no_challenge() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let machine = rig.machine("host").await;
    let revoked = rig.api_key(&["a"], false).await;
    identity
        .revoke_api_key(admin(), revoked.id())
        .await
        .unwrap();
    let reason = async |id| {
        identity
            .create_challenge(machine, id)
            .await
            .unwrap_err()
            .reason()
    };
    assert_eq!(reason(revoked.id()).await, Reason::ApiKeyRevoked);
    let unknown = authguardian_proto::ids::ApiKeyId::from_uuid(rig.app.ambient.uuid());
    assert_eq!(reason(unknown).await, Reason::ApiKeyUnknown);
}

#[tokio::test]
async fn an_admin_token_counts_until_it_ends_or_is_revoked() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let ttl = Some(time::Duration::seconds(60));
    let (text, info) = identity
        .create_admin_token(admin(), "ops", Role::Operator, ttl)
        .await
        .unwrap();
    let token: credential::AdminToken = text.unwrap().parse().unwrap();
    assert_eq!(
        identity.authenticate_admin(&token).await.unwrap(),
        (info.id, Role::Operator)
    );
    let wrong = credential::AdminToken::new(info.id, [1; 32]);
    assert_eq!(
        identity
            .authenticate_admin(&wrong)
            .await
            .unwrap_err()
            .reason(),
        Reason::Unauthenticated
    );
    rig.clock.advance(Duration::from_mins(1));
    assert_eq!(
        identity
            .authenticate_admin(&token)
            .await
            .unwrap_err()
            .reason(),
        Reason::Unauthenticated
    );

    let (text, info) = identity
        .create_admin_token(admin(), "ops", Role::Viewer, None)
        .await
        .unwrap();
    let token: credential::AdminToken = text.unwrap().parse().unwrap();
    identity.revoke_admin_token(admin(), info.id).await.unwrap();
    assert_eq!(
        identity
            .authenticate_admin(&token)
            .await
            .unwrap_err()
            .reason(),
        Reason::Unauthenticated
    );
}

#[tokio::test]
async fn a_wrong_or_missing_master_key_refuses_the_start_and_makes_no_new_ca() {
    let rig = Rig::open().await;
    let fingerprint = rig.app.identity.keyring().ca().fingerprint();
    let path = rig.config.identity.master_key_file.clone();
    std::fs::write(&path, "08".repeat(32)).unwrap();
    assert!(open_app(&rig.config, rig.clock.clone(), 3).await.is_err());
    std::fs::remove_file(&path).unwrap();
    assert!(open_app(&rig.config, rig.clock.clone(), 4).await.is_err());
    std::fs::write(&path, "07".repeat(32)).unwrap();
    let again = open_app(&rig.config, rig.clock.clone(), 5).await.unwrap();
    assert_eq!(again.identity.keyring().ca().fingerprint(), fingerprint);
}

#[tokio::test]
async fn control_planes_that_start_together_make_one_ca() {
    let rig = Rig::open().await;
    sqlx::query("DELETE FROM own_key")
        .execute(rig.database.pool())
        .await
        .unwrap();
    let starts = (10..14).map(|seed| open_app(&rig.config, rig.clock.clone(), seed));
    let apps = futures::future::try_join_all(starts).await.unwrap();
    let fingerprints: Vec<_> = apps
        .iter()
        .map(|app| app.identity.keyring().ca().fingerprint())
        .collect();
    assert!(fingerprints.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn secrets_are_not_in_the_database() {
    let rig = Rig::open().await;
    let (text, _) = rig
        .app
        .identity
        .create_admin_token(admin(), "ops", Role::Admin, None)
        .await
        .unwrap();
    let text = text.unwrap().to_string();
    let session = rig.analyst().await;
    let token = rig.granted(&session).await.token.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
    )
    .fetch_all(rig.database.pool())
    .await
    .unwrap();
    assert!(tables.len() > 10);
    for table in tables {
        let rows: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT string_agg(t::text, ' ') FROM {table} AS t"
        )))
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
        let rows = rows.unwrap_or_default();
        let secret = text.rsplit('_').next().unwrap();
        assert!(
            !rows.contains(secret) && !rows.contains(&token),
            "a secret lies in `{table}`"
        );
    }
}
