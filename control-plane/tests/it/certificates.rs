//! Client certificates: what counts, since when and until when.

use std::time::Duration;

use authguardian_proto::reason::Reason;
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

/// The reason that a call is refused with before it reaches its service.
async fn may(channel: &Channel, path: &'static str) -> Option<Reason> {
    call(channel.clone(), path, None).await
}
