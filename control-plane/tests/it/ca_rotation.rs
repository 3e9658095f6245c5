//! Another CA takes over: who trusts only the one before is led to it, and
//! what it has certified counts until it is dropped.

use std::time::Duration;

use authguardian_proto::{
    credential::sha256,
    events::v1::{StreamPosition, WatchRequest, event_service_client::EventServiceClient},
    reason::Reason,
};
use control_plane::identity::{KeyState, Purpose, SigningKey};
use tonic::transport::{Certificate, Channel, Identity};

use crate::{
    rig::{Rig, admin, requested_key},
    serving::{Serving, call},
    wait::{DEADLINE, until},
};

const GET_HEADS: &str = "/authguardian.events.v1.EventService/GetHeads";
const GET_STATUS: &str = "/authguardian.status.v1.StatusService/GetStatus";

/// As the rig's configuration has it.
const PUBLICATION: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_ca_is_published_then_certifies_and_is_trusted_as_long_as_it_can_be_renewed_from() {
    let rig = Rig::open().await;
    let identity = &rig.app.identity;
    let machine = rig.machine("host").await;
    let old = fingerprints(&rig).await.0;

    let prepared = identity.prepare_signing_key(admin(), Purpose::Ca);
    let prepared = prepared.await.unwrap();
    let (active, all) = fingerprints(&rig).await;
    assert_eq!(
        (active, all.len()),
        (old, 2),
        "published, and not yet in use"
    );
    let early = identity.activate_signing_key(admin(), prepared.id, false);
    let early = early.await.unwrap_err();
    assert_eq!(early.reason(), Reason::RevisionConflict);

    rig.clock.advance(PUBLICATION);
    let activated = identity.activate_signing_key(admin(), prepared.id, false);
    let (_, retired) = activated.await.unwrap();
    let (new, all) = fingerprints(&rig).await;
    assert_ne!(new, old);
    assert_eq!(all.len(), 2, "certificates of the old one still count");
    let (_, key) = requested_key();
    let renewed = identity.renew_certificate(admin(), machine, &key).await;
    let renewed = renewed.unwrap();
    assert_eq!(sha256(&renewed.chain[1]), new);
    assert_eq!(renewed.ca_certificates.len(), 2);

    // the last certificate of the old one ends after a day, and is renewable for 30
    let trusted = Duration::from_hours(31 * 24) + Duration::from_mins(1);
    let retired = retired.unwrap();
    let accepted_until = retired.retired_at.unwrap() + trusted;
    assert_eq!(retired.accepted_until, Some(accepted_until));
    let second = Duration::from_secs(1);
    rig.clock.advance(trusted.saturating_sub(second));
    assert_eq!(identity.drop_retired_keys().await.unwrap(), 0);
    rig.clock.advance(second);
    assert_eq!(identity.drop_retired_keys().await.unwrap(), 1);
    assert_eq!(fingerprints(&rig).await, (new, vec![new]));
}

#[tokio::test]
async fn who_trusts_only_a_ca_of_before_is_led_to_the_active_one() {
    let serving = Serving::start().await;
    let certificate = serving.machine("host").await;
    let mut trusted = vec![serving.ca()];
    for _ in 0..3 {
        rotate(&serving).await;
        trusted.push(serving.ca());
    }
    for (age, ca) in trusted.iter().rev().enumerate() {
        let edge = serving.edge_trusting(ca.clone(), Some(certificate.clone()));
        let edge = edge
            .await
            .unwrap_or_else(|error| panic!("{age}: {error:?}"));
        let heads = call(edge, GET_HEADS, None).await;
        assert_eq!(heads, None, "{age}: a certificate of the first CA counts");
        let admin = serving.admin_trusting(ca.clone()).await.unwrap();
        let refused = call(admin, GET_STATUS, None).await;
        assert_eq!(refused, Some(Reason::Unauthenticated), "{age}");
    }

    let elsewhere = Serving::start().await;
    let foreign = elsewhere.ca();
    assert!(serving.edge_trusting(foreign, None).await.is_err());
    elsewhere.stop().await;
    serving.stop().await;
}

#[tokio::test]
async fn a_dropped_ca_closes_its_connections_and_its_certificates_are_refused() {
    let serving = Serving::start().await;
    let old = serving.machine("one").await;
    let of_the_old = serving.edge(Some(old.clone())).await.unwrap();
    let watching = watch(&of_the_old).await;
    let retired = rotate(&serving).await;
    let new = serving.machine("two").await;
    let of_the_new = serving.edge(Some(new.clone())).await.unwrap();
    let mut staying = watch(&of_the_new).await;
    for channel in [&of_the_old, &of_the_new] {
        assert_eq!(call(channel.clone(), GET_HEADS, None).await, None);
    }

    let identity = &serving.rig.app.identity;
    let dropped = identity.retire_signing_key(admin(), retired.id, true).await;
    assert!(dropped.unwrap().dropped_at.is_some());
    ended(watching).await;
    serving.is_shut_out(Some(old)).await;
    assert_eq!(call(of_the_new, GET_HEADS, None).await, None);
    let told = tokio::time::timeout(DEADLINE, staying.message()).await;
    assert!(told.unwrap().unwrap().is_some(), "its stream goes on");
    serving.stop().await;
}

#[tokio::test]
async fn every_control_plane_closes_what_rests_on_a_dropped_ca() {
    let serving = Serving::start().await;
    let other = serving.beside().await;
    let old = serving.machine("one").await;
    let there = other.edge(Some(old.clone())).await.unwrap();
    let watching = watch(&there).await;
    let retired = rotate(&serving).await;
    until("the other one has heard of the new CA", || {
        other.rig.app.identity.keyring().ca().fingerprint()
            == serving.rig.app.identity.keyring().ca().fingerprint()
    })
    .await;
    let identity = &serving.rig.app.identity;
    let dropped = identity.retire_signing_key(admin(), retired.id, true).await;
    dropped.unwrap();
    ended(watching).await;
    other.is_shut_out(Some(old)).await;
    other.stop().await;
    serving.stop().await;
}

/// Replaces the CA at once; returns the one before.
async fn rotate(serving: &Serving) -> SigningKey {
    let identity = &serving.rig.app.identity;
    let made = identity.prepare_signing_key(admin(), Purpose::Ca).await;
    let changed = identity.activate_signing_key(admin(), made.unwrap().id, true);
    let (active, retired) = changed.await.unwrap();
    assert_eq!(active.state, KeyState::Active);
    retired.unwrap()
}

/// The active CA, and all that count.
async fn fingerprints(rig: &Rig) -> ([u8; 32], Vec<[u8; 32]>) {
    let bundle = rig.app.identity.trust_bundle().await.unwrap();
    let all = bundle.certificates.iter().map(|der| sha256(der)).collect();
    (bundle.active, all)
}

type Watching = tonic::Streaming<authguardian_proto::events::v1::WatchResponse>;

async fn watch(channel: &Channel) -> Watching {
    let request = WatchRequest {
        after: vec![StreamPosition {
            stream: "identity".to_owned(),
            position: None,
        }],
        ..WatchRequest::default()
    };
    let mut client = EventServiceClient::new(channel.clone());
    client.watch(request).await.unwrap().into_inner()
}

async fn ended(mut watching: Watching) {
    let end = async { while let Ok(Some(_)) = watching.message().await {} };
    let ended = tokio::time::timeout(DEADLINE, end).await;
    assert!(ended.is_ok(), "the stream goes on");
}

impl Serving {
    async fn edge_trusting(
        &self,
        ca: Certificate,
        identity: Option<Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        self.connect(self.addresses.edge_grpc, ca, identity).await
    }

    async fn admin_trusting(&self, ca: Certificate) -> Result<Channel, tonic::transport::Error> {
        self.connect(self.addresses.admin_grpc, ca, None).await
    }
}
