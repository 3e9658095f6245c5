//! Client certificates: what counts, since when and until when.

use std::time::Duration;

use authguardian_proto::{
    events::v1::{StreamPosition, WatchRequest, event_service_client::EventServiceClient},
    identity::v1::{JoinRequest, enrolment_service_client::EnrolmentServiceClient},
    reason::Reason,
    status::from_status,
};
use tonic::transport::Channel;

use crate::serving::{Serving, call};

const GET_HEADS: &str = "/authguardian.events.v1.EventService/GetHeads";
const RENEW: &str = "/authguardian.identity.v1.EnrolmentService/RenewCertificate";

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn a_certificate_that_has_ended_may_only_be_renewed_and_for_30_days() {
    let serving = Serving::start().await;
    let certificate = serving.machine("host").await;
    let old = serving.edge(Some(certificate.clone())).await.unwrap();
    assert_eq!(may(&old, GET_HEADS).await, None);

    serving.rig.clock.advance(DAY + Duration::from_secs(1));
    let new = serving.edge(Some(certificate.clone())).await.unwrap();
    for channel in [&old, &new] {
        let refused = may(channel, GET_HEADS).await;
        assert_eq!(refused, Some(Reason::Unauthenticated));
        let session = "/authguardian.grants.v1.GrantService/RequestPermission";
        assert_eq!(
            call(channel.clone(), session, Some("rubbish")).await,
            Some(Reason::Unauthenticated)
        );
        assert_eq!(may(channel, RENEW).await, None, "let through");
    }

    serving.rig.clock.advance(29 * DAY);
    let late = serving.edge(Some(certificate.clone())).await.unwrap();
    assert_eq!(may(&late, RENEW).await, None);
    assert_eq!(may(&late, GET_HEADS).await, Some(Reason::Unauthenticated));
    serving.rig.clock.advance(DAY);
    for channel in [&old, &late] {
        let refused = may(channel, RENEW).await;
        assert_eq!(refused, Some(Reason::Unauthenticated), "31 days");
    }
    serving.is_shut_out(Some(certificate)).await;
    serving.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_certificate_it_was_begun_with() {
    let serving = Serving::start().await;
    let certificate = serving.machine("host").await;
    let channel = serving.edge(Some(certificate)).await.unwrap();
    let after = vec![StreamPosition {
        stream: "identity".to_owned(),
        position: None,
    }];
    let mut client = EventServiceClient::new(channel);
    let watching = client
        .watch(WatchRequest {
            after,
            ..WatchRequest::default()
        })
        .await;
    let mut changes = watching.unwrap().into_inner();
    assert!(changes.message().await.unwrap().is_some());
    serving.rig.clock.advance(DAY + Duration::from_secs(1));
    let ended = loop {
        match changes.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a reason"),
            Err(status) => break from_status(&status),
        }
    };
    assert_eq!(ended.reason, Reason::Unauthenticated);
    assert!(ended.detail.contains("renew it"), "{ended}");
    serving.stop().await;
}

#[tokio::test]
async fn of_those_who_show_nothing_only_small_requests_are_read() {
    let serving = Serving::start().await;
    let nobody = serving.edge(None).await.unwrap();
    let join = async |length| {
        let request = JoinRequest {
            join_token: "x".repeat(length),
            csr_der: Vec::new(),
        };
        let mut client = EnrolmentServiceClient::new(nobody.clone());
        from_status(&client.join(request).await.unwrap_err()).reason
    };
    assert_eq!(join(60_000).await, Reason::JoinTokenInvalid);
    assert_ne!(join(70_000).await, Reason::JoinTokenInvalid);
    serving.stop().await;
}

/// The reason that a call is refused with before it reaches its service.
async fn may(channel: &Channel, path: &'static str) -> Option<Reason> {
    call(channel.clone(), path, None).await
}
