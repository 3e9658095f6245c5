//! Two control planes on one database, each with an edge of its own.

use super::{
    caller::Caller,
    check,
    history::{Act, Answer, Call},
    load::CLIENTS,
    record::Record,
    system::System,
};

#[tokio::test]
async fn a_grant_from_one_is_listed_validated_and_revoked_through_the_other() {
    let system = System::start(2).await;
    let [one, other] = [0, 1].map(|edge| Caller::new(system.target(edge)));
    let mut request = Call::new("ask".to_owned(), Act::Request);
    one.resolve(&mut request).await;
    let (grant_id, token) = granted(&request);
    assert!(other.active().await.contains(&grant_id));
    assert_eq!(other.validate(&token).await, "valid");

    let act = Act::Revoke {
        grant_id: grant_id.clone(),
        token: token.clone(),
    };
    let mut revocation = Call::new("end".to_owned(), act);
    other.resolve(&mut revocation).await;
    one.resolve(&mut revocation).await;
    one.resolve(&mut request).await;
    for caller in [&one, &other] {
        assert_eq!(caller.validate(&token).await, "GRANT_REVOKED");
        assert!(!caller.active().await.contains(&grant_id));
    }
    is_sound(&system, &[request, revocation]).await;
}

#[tokio::test]
async fn a_request_id_that_both_get_at_once_has_one_outcome() {
    let system = System::start(2).await;
    let [one, other] = &[0, 1].map(|edge| Caller::new(system.target(edge)));
    let pairs = (0..CLIENTS).map(|number| async move {
        let mut first = Call::new(format!("ask-{number}"), Act::Request);
        let mut second = first.clone();
        tokio::join!(one.resolve(&mut first), other.resolve(&mut second));
        first.attempts.extend(second.attempts);
        first
    });
    let calls = futures::future::join_all(pairs).await;
    is_sound(&system, &calls).await;
}

fn granted(call: &Call) -> (String, String) {
    match call.outcome() {
        Some(Answer::Granted {
            grant_id,
            token: Some(token),
        }) => (grant_id.clone(), token.clone()),
        other => panic!("{other:?}"),
    }
}

async fn is_sound(system: &System, calls: &[Call]) {
    let record = Record::read(&system.postgres.url()).await.unwrap();
    let violations = check::violations(calls, &record, &[].into());
    assert!(violations.is_empty(), "{violations:#?}");
}
