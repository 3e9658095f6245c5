//! Wrong credentials again and again: who shows them has to wait.

use std::{net::IpAddr, time::Duration};

use authguardian_proto::{credential, reason::Reason, zone::Zone};
use control_plane::{
    audit::Context,
    identity::{Role, join::NewJoinToken},
};

use crate::rig::{Rig, admin, anonymous, requested_key};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn wrong_admin_tokens_hold_up_their_address_but_nobody_who_was_right() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let create = async || {
        let made = identity.create_admin_token(admin(), "ops", Role::Viewer, None);
        let (text, info) = made.await.unwrap();
        let token: credential::AdminToken = text.unwrap().parse().unwrap();
        (token, info.id)
    };
    let (good, _) = create().await;
    let (late, _) = create().await;
    let (ended, ended_id) = create().await;
    identity
        .revoke_admin_token(admin(), ended_id)
        .await
        .unwrap();
    let here = address("192.0.2.1");
    let show = async |token: &credential::AdminToken, from| {
        let shown = identity.authenticate_admin_from(token, Some(from)).await;
        shown.map(|_| ()).map_err(|error| error.problem().clone())
    };
    let reason = async |token: &credential::AdminToken, from| {
        show(token, from).await.map_err(|problem| problem.reason)
    };

    assert_eq!(reason(&good, here).await, Ok(()));
    for _ in 0..100 {
        assert_eq!(reason(&ended, here).await, Err(Reason::Unauthenticated));
    }
    let guess = |number: u8| credential::AdminToken::new(good.id(), [number; 32]);
    for number in 0..21 {
        assert_eq!(
            reason(&guess(number), here).await,
            Err(Reason::Unauthenticated)
        );
    }
    let held = show(&guess(99), here).await.unwrap_err();
    assert_eq!(held.reason, Reason::RateLimited);
    assert_eq!(held.retry_after_seconds, Some(1));
    assert_eq!(reason(&late, here).await, Err(Reason::RateLimited));
    assert_eq!(reason(&good, here).await, Ok(()), "it was right before");
    assert_eq!(reason(&late, address("192.0.2.2")).await, Ok(()));

    // the waits double up to a minute
    let mut waits = Vec::new();
    for number in 100..108 {
        let wait = show(&guess(number), here).await.unwrap_err();
        let seconds = wait.retry_after_seconds.unwrap();
        waits.push(seconds);
        rig.clock.advance(Duration::from_secs(seconds.into()));
        assert_eq!(
            reason(&guess(number), here).await,
            Err(Reason::Unauthenticated)
        );
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[tokio::test]
async fn unknown_join_tokens_hold_up_their_address() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let (text, _) = identity
        .create_join_token(admin(), NewJoinToken::of("build-7".parse().unwrap()))
        .await
        .unwrap();
    let good: credential::JoinToken = text.unwrap().parse().unwrap();
    let (_, key) = requested_key();
    let join = async |token: &credential::JoinToken, from| {
        let context = Context {
            peer: Some(from),
            ..anonymous()
        };
        let joined = identity.join(context, token, &key).await;
        joined.map(|_| ()).map_err(|error| error.reason())
    };
    let here = address("2001:db8::1");
    for number in 0..21 {
        let forged = credential::JoinToken::new(good.id(), [number; 32], good.ca_fingerprint());
        assert_eq!(join(&forged, here).await, Err(Reason::JoinTokenInvalid));
    }
    assert_eq!(join(&good, here).await, Err(Reason::RateLimited));
    let neighbour = address("2001:db8::2");
    assert_eq!(
        join(&good, neighbour).await,
        Err(Reason::RateLimited),
        "one network"
    );
    assert_eq!(join(&good, address("2001:db8:0:1::1")).await, Ok(()));
}

#[tokio::test]
async fn wrong_signatures_of_a_key_hold_up_wrong_ones_at_that_machine_and_no_right_one() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let (here, there) = (rig.machine("here").await, rig.machine("there").await);
    let key = rig.api_key(&["data_analyst"], false).await;
    let other = rig.api_key(&["data_analyst"], false).await;
    let forge = async |machine| {
        let challenge = identity.create_challenge(machine, key.id()).await;
        let (nonce, _) = challenge.unwrap();
        let forged = other.sign_nonce(&nonce).unwrap();
        let zone = Zone::LocalMachine;
        let login = identity.create_session(anonymous(), machine, key.id(), &nonce, &forged, zone);
        let refused = login.await.unwrap_err().problem().clone();
        // spent, whatever was said of it
        let right = key.sign_nonce(&nonce).unwrap();
        let again = identity.create_session(anonymous(), machine, key.id(), &nonce, &right, zone);
        assert_eq!(again.await.unwrap_err().reason(), Reason::NonceUsed);
        refused
    };
    for _ in 0..21 {
        assert_eq!(forge(here).await.reason, Reason::SignatureInvalid);
    }
    let held = forge(here).await;
    assert_eq!(held.reason, Reason::RateLimited);
    assert_eq!(held.retry_after_seconds, Some(1));
    assert_eq!(forge(there).await.reason, Reason::SignatureInvalid);
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(forge(here).await.reason, Reason::SignatureInvalid);
    let held = forge(here).await;
    assert_eq!(held.retry_after_seconds, Some(2), "twice as long");

    // others' wrong ones hold up nobody who signs rightly, and are forgiven by it
    rig.session(here, &key).await;
    assert_eq!(forge(here).await.reason, Reason::SignatureInvalid);
}
