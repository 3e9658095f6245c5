//! A reader that has seen more than there is: the database was put back.

use std::time::Duration;

use authguardian_proto::{
    common::v1::Position as PositionMessage,
    events::v1::{
        GetHeadsRequest, GetHeadsResponse, SeenChange, StreamPosition, WatchRequest,
        event_service_client::EventServiceClient,
    },
    reason::Reason,
    status::from_status,
};
use control_plane::{
    backup::fence,
    budgets::AsOf,
    events::{self, Message, Position, Stream},
    identity::Terms,
};

use crate::{rig::Rig, serving::Serving, wait::until_async};

fn at(epoch: i64, revision: i64) -> Position {
    Position { epoch, revision }
}

/// How a reader at a position of `grants` is refused; `None`: it is not.
async fn refused(rig: &Rig, position: Position) -> Option<(Reason, bool)> {
    let publisher = &rig.app.publisher;
    let subscribed = publisher
        .subscribe(&[(Stream::Grants, Some(position))])
        .await;
    let error = subscribed.err()?;
    Some((error.reason(), events::is_ahead(&error)))
}

#[tokio::test]
async fn a_position_beyond_the_end_is_told_from_one_that_a_fence_has_ended() {
    let (rig, ahead) = (Rig::open().await, Some((Reason::Unavailable, true)));
    let session = rig.analyst().await;
    rig.granted(&session).await;
    assert_eq!(refused(&rig, at(1, 1)).await, None);
    assert_eq!(refused(&rig, at(1, 2)).await, ahead);
    assert_eq!(refused(&rig, at(2, 0)).await, ahead, "a later epoch");

    let url = rig.config.database.url.expose();
    let fenced = fence::in_place(url, &rig.app.ambient, AsOf::Unknown)
        .await
        .unwrap();
    let restored = fenced.epoch;
    until_async("the new epoch is published", async || {
        let heads = rig.app.publisher.heads().await.unwrap();
        heads[&Stream::Grants].epoch == restored
    })
    .await;
    let again = Some((Reason::Compacted, false));
    for before in [at(1, 1), at(1, 2), at(7, 999)] {
        assert_eq!(refused(&rig, before).await, again, "{before:?}");
    }
    assert_eq!(refused(&rig, at(restored, 99)).await, ahead);
}

#[tokio::test]
async fn a_change_that_is_another_one_tells_a_database_that_has_come_as_far_since() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let mut reader = rig
        .app
        .publisher
        .subscribe(&[(Stream::Grants, Some(at(1, 0)))])
        .await
        .unwrap();
    rig.granted(&session).await;
    let change = loop {
        if let Message::Changes(changes) = reader.next().await.unwrap() {
            break changes[0].clone();
        }
    };
    assert_eq!(change.position, at(1, 1));
    let made = change.occurred_at;
    let publisher = &rig.app.publisher;
    let compare = async |position, occurred_at| {
        let seen = [(Stream::Grants, position, occurred_at)];
        publisher.compare(&seen).await.err()
    };
    assert!(compare(at(1, 1), made).await.is_none());
    // nothing is known of one that is not there, or no longer
    assert!(compare(at(1, 2), made).await.is_none());
    let other = made - Duration::from_micros(1);
    let error = compare(at(1, 1), other).await.unwrap();
    assert!(events::is_ahead(&error), "{error}");
    let detail = &error.problem().detail;
    assert!(detail.contains("is another change"), "{detail}");
    let url = rig.config.database.url.expose();
    fence::in_place(url, &rig.app.ambient, AsOf::Unknown)
        .await
        .unwrap();
    assert!(compare(at(1, 1), other).await.is_none(), "it is fenced");
}

#[tokio::test]
async fn a_promotion_that_has_lost_what_was_published_is_told_too() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    for _ in 0..3 {
        rig.granted(&session).await;
    }
    // a timeline that is not the one on record: promoted, or recovered to a point in time
    sqlx::query("UPDATE installation SET timeline = 0")
        .execute(rig.database.pool())
        .await
        .unwrap();
    until_async("the new epoch is published", async || {
        let heads = rig.app.publisher.heads().await.unwrap();
        heads[&Stream::Grants].epoch == 2
    })
    .await;
    let (ahead, again) = (
        Some((Reason::Unavailable, true)),
        Some((Reason::Compacted, false)),
    );
    assert_eq!(refused(&rig, at(1, 3)).await, again);
    assert_eq!(refused(&rig, at(1, 4)).await, ahead);
    // also when it has come further since
    rig.granted(&session).await;
    rig.granted(&session).await;
    assert_eq!(refused(&rig, at(1, 4)).await, ahead);
}

#[tokio::test]
async fn an_edge_that_has_seen_more_is_heard_by_operators() {
    let serving = Serving::start().await;
    let edge = serving.join("build-7", Terms::default()).await;
    let mut client = EventServiceClient::new(edge.channel.clone());
    let after = vec![StreamPosition {
        stream: "identity".to_owned(),
        position: Some(PositionMessage {
            epoch: 1,
            revision: 999,
        }),
    }];
    for _ in 0..3 {
        let refused = client
            .watch(WatchRequest {
                after: after.clone(),
                ..WatchRequest::default()
            })
            .await;
        let problem = from_status(&refused.unwrap_err());
        assert_eq!(problem.reason, Reason::Unavailable);
        assert_eq!(problem.field.as_deref(), Some("after"));
        for part in ["`1.999`", "restore --in-place"] {
            assert!(problem.detail.contains(part), "{}", problem.detail);
        }
    }
    // a client of an edge can make one up, and alarms nobody
    let made_up = WatchRequest {
        after,
        from_client: true,
        ..WatchRequest::default()
    };
    let problem = from_status(&client.watch(made_up).await.unwrap_err());
    assert_eq!(problem.reason, Reason::Compacted);
    serving.rig.app.refusals.flush().await.unwrap();
    let count: i64 = sqlx::query_scalar(
        "SELECT sum(count)::bigint FROM audit_trail
         WHERE action = 'call.refuse' AND subject = 'events.watch_ahead' AND machine_id = $1",
    )
    .bind(edge.machine.as_uuid())
    .fetch_one(serving.rig.database.pool())
    .await
    .unwrap();
    assert_eq!(count, 3);
    let figures = reqwest::get(format!("http://{}/metrics", serving.addresses.http));
    let figures = figures.await.unwrap().text().await.unwrap();
    let line = "authguardian_events_positions_ahead_total 3";
    assert!(figures.contains(line), "{figures}");

    let before: GetHeadsResponse = heads(&mut client).await;
    assert_eq!(before.restored_epoch, 0);
    let url = serving.rig.config.database.url.expose();
    let ambient = &serving.rig.app.ambient;
    let fenced = fence::in_place(url, ambient, AsOf::Unknown).await.unwrap();
    let after = heads(&mut client).await;
    assert_eq!(after.restored_epoch, fenced.epoch.unsigned_abs());
    serving.stop().await;
}

#[tokio::test]
async fn what_a_reader_says_to_have_seen_is_bounded() {
    let serving = Serving::start().await;
    let edge = serving.join("build-7", Terms::default()).await;
    let mut client = EventServiceClient::new(edge.channel.clone());
    let seen = SeenChange {
        stream: "identity".to_owned(),
        position: Some(PositionMessage {
            epoch: 1,
            revision: 999,
        }),
        occurred_at: Some(prost_types::Timestamp::default()),
    };
    let mut watch = async |count| {
        let request = WatchRequest {
            after: vec![StreamPosition {
                stream: "identity".to_owned(),
                position: None,
            }],
            seen: vec![seen.clone(); count],
            ..WatchRequest::default()
        };
        let watching = client.watch(request).await;
        watching.map(drop).map_err(|status| from_status(&status))
    };
    watch(Stream::ALL.len()).await.unwrap();
    let problem = watch(Stream::ALL.len() + 1).await.unwrap_err();
    assert_eq!(problem.reason, Reason::InvalidArgument);
    assert_eq!(problem.field.as_deref(), Some("seen"));
    serving.stop().await;
}

async fn heads(client: &mut EventServiceClient<tonic::transport::Channel>) -> GetHeadsResponse {
    let asked = client.get_heads(GetHeadsRequest::default()).await;
    asked.unwrap().into_inner()
}
