//! Change streams: dense, ordered, resumable, and told only when proved.

use std::time::Duration;

use authguardian_proto::reason::Reason;
use control_plane::events::{self, Change, ChangeBody, Message, Position, Stream, Subscription};

use crate::rig::{Rig, caller};

async fn changes(subscription: &mut Subscription, count: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.len() < count {
        if let Message::Changes(more) = subscription.next().await.unwrap() {
            changes.extend(more);
        }
    }
    changes
}

#[tokio::test]
async fn revisions_are_dense_and_a_reader_resumes_anywhere_without_loss() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let begin = Position {
        epoch: 1,
        revision: 0,
    };
    let mut live = rig
        .app
        .publisher
        .subscribe(&[(Stream::Grants, Some(begin))])
        .await
        .unwrap();
    let writes = (0..30).map(|_| rig.granted(&session));
    futures::future::join_all(writes).await;
    let seen = changes(&mut live, 30).await;
    let revisions: Vec<i64> = seen.iter().map(|change| change.position.revision).collect();
    assert_eq!(revisions, (1..=30).collect::<Vec<_>>());

    for after in [0, 7, 29] {
        let position = Position {
            epoch: 1,
            revision: after,
        };
        let mut resumed = rig
            .app
            .publisher
            .subscribe(&[(Stream::Grants, Some(position))])
            .await
            .unwrap();
        let rest = changes(&mut resumed, usize::try_from(30 - after).unwrap()).await;
        assert_eq!(rest, seen[usize::try_from(after).unwrap()..]);
    }
}

#[tokio::test]
async fn a_change_of_another_control_plane_arrives() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let session = rig.analyst().await;
    let mut here = rig
        .app
        .publisher
        .subscribe(&[(Stream::Grants, None)])
        .await
        .unwrap();
    let decision = other.granted(&session).await;
    let seen = changes(&mut here, 1).await;
    assert!(
        matches!(&seen[0].body, ChangeBody::GrantIssued { grant_id, .. } if *grant_id == decision.record.id)
    );
    other
        .app
        .grants
        .revoke_token(
            caller(&session),
            session.clone(),
            decision.token.as_deref().unwrap(),
        )
        .await
        .unwrap();
    let seen = changes(&mut here, 1).await;
    assert!(matches!(&seen[0].body, ChangeBody::GrantRevoked { .. }));
}

#[tokio::test]
async fn a_quiet_stream_still_tells_how_far_it_is() {
    let rig = Rig::open().await;
    let mut quiet = rig
        .app
        .publisher
        .subscribe(&[(Stream::Policy, None)])
        .await
        .unwrap();
    for _ in 0..2 {
        let message = tokio::time::timeout(Duration::from_secs(20), quiet.next())
            .await
            .unwrap()
            .unwrap();
        assert!(matches!(message, Message::Progress(heads) if heads.len() == 1));
    }
}

#[tokio::test]
async fn a_position_that_cannot_be_served_is_refused() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    for _ in 0..3 {
        rig.granted(&session).await;
    }
    let mut tx = rig.app.db.begin().await.unwrap();
    events::compact(
        &mut tx,
        rig.app.ambient.clock.now() + Duration::from_secs(1),
        2,
    )
    .await
    .unwrap();
    rig.app.db.commit(tx).await.unwrap();
    let compacted = Position {
        epoch: 1,
        revision: 1,
    };
    let refused = rig
        .app
        .publisher
        .subscribe(&[(Stream::Grants, Some(compacted))])
        .await;
    assert_eq!(refused.unwrap_err().reason(), Reason::Compacted);
}

#[tokio::test]
async fn a_restored_database_begins_a_new_epoch_and_readers_list_again() {
    let rig = Rig::open().await;
    let mut reader = rig
        .app
        .publisher
        .subscribe(&[(Stream::Grants, None)])
        .await
        .unwrap();
    // what a restore looks like from inside: the server is not the one on record
    sqlx::query("UPDATE installation SET system_identifier = 'another'")
        .execute(rig.database.pool())
        .await
        .unwrap();
    let error = loop {
        match tokio::time::timeout(Duration::from_secs(20), reader.next())
            .await
            .unwrap()
        {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Reason::Compacted);
    let session = rig.analyst().await;
    let decision = rig.granted(&session).await;
    let restored = rig.app.ambient.clock.now().unix_timestamp();
    assert_eq!(decision.record.position.epoch, restored);
}
