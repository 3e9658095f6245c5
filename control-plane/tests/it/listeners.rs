//! Who gets in at the listeners, and what they speak.

use std::{fs, sync::Arc, time::Duration};

use authguardian_proto::network::Networks;
use control_plane::{
    audit::{Record, Tail},
    config::{HttpTls, TlsVersion},
};
use reqwest::{Certificate, Client, tls};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::{io::AsyncReadExt, net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

use crate::{
    serving::{Serving, pem},
    wait::DEADLINE,
};

fn elsewhere() -> Networks {
    ["10.0.0.0/8"]
        .map(|text| text.parse().unwrap())
        .into_iter()
        .collect()
}

/// Reads until the connection is closed.
async fn is_closed(stream: &mut TcpStream) {
    let mut text = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut text))
        .await
        .unwrap();
    assert!(text.is_empty());
}

/// Reads the log until so many connections are told of in it.
async fn refused(serving: &Serving, connections: i64) -> Vec<Record> {
    let mut tail = Tail::begin(serving.rig.app.db.clone(), 1000).await.unwrap();
    let mut told: Vec<Record> = Vec::new();
    let reading = async {
        while told.iter().map(|entry| entry.count).sum::<i64>() < connections {
            let read = tail.read().await.unwrap();
            let of_address =
                |entry: &Record| entry.reason.as_deref() == Some("ADDRESS_NOT_ALLOWED");
            told.extend(read.into_iter().filter(of_address));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.unwrap();
    told
}

#[tokio::test]
async fn a_listener_takes_in_the_networks_that_it_is_for_and_tells_the_log_of_others() {
    let serving = Serving::start_with(|config| {
        config.listen.admin_allowed_networks = elsewhere();
    })
    .await;
    for _ in 0..3 {
        let mut refused = TcpStream::connect(serving.addresses.admin_grpc)
            .await
            .unwrap();
        is_closed(&mut refused).await;
    }
    assert!(serving.edge(None).await.is_ok(), "the other one is for all");
    let told = refused(&serving, 3).await;
    assert_eq!(told.iter().map(|entry| entry.count).sum::<i64>(), 3);
    assert_eq!(told[0].action, "call.refuse");
    assert_eq!(told[0].subject, "listen.admin_grpc");
    assert_eq!(told[0].peer_address.as_deref(), Some("127.0.0.1"));
    serving.stop().await;

    let serving = Serving::start_with(|config| {
        config.listen.edge_allowed_networks = elsewhere();
    })
    .await;
    serving.is_shut_out(None).await;
    serving.admin().await;
    serving.stop().await;
}

#[tokio::test]
async fn those_who_connect_and_are_silent_hold_up_nobody() {
    let serving = Serving::start().await;
    let mut silent = Vec::new();
    // more than there are handshakes at a time
    for _ in 0..300 {
        silent.push(
            TcpStream::connect(serving.addresses.edge_grpc)
                .await
                .unwrap(),
        );
    }
    let began = Instant::now();
    serving.edge(None).await.unwrap();
    // a silent one would have its turn for ten seconds
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    is_closed(&mut silent[0]).await;
    serving.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_places_come_back() {
    let serving = Serving::start_with(|config| config.limits.max_connections = 2).await;
    let first = serving.edge(None).await.unwrap();
    let _second = serving.edge(None).await.unwrap();
    serving.is_shut_out(None).await;
    serving.admin().await; // has places of its own
    drop(first);
    let deadline = Instant::now() + DEADLINE;
    while serving.edge(None).await.is_err() {
        assert!(Instant::now() < deadline, "the place has not come back");
    }
    serving.stop().await;
}

fn client(certificate: Certificate, max: tls::Version) -> Client {
    Client::builder()
        .no_proxy()
        .tls_certs_only([certificate])
        .tls_version_max(max)
        .build()
        .unwrap()
}

/// Whether the public keys are to be had.
async fn serves_keys(serving: &Serving, client: &Client, scheme: &str) -> bool {
    let port = serving.addresses.http.port();
    let url = format!("{scheme}://localhost:{port}/.well-known/jwks.json");
    let response = client.get(url).send().await;
    response.is_ok_and(|response| response.status() == 200)
}

#[tokio::test]
async fn the_http_listener_speaks_tls_with_our_ca_or_with_files() {
    let serving = Serving::start_with(|config| config.tls.http = HttpTls::Own).await;
    let ca = serving
        .rig
        .app
        .identity
        .keyring()
        .ca()
        .certificate()
        .to_vec();
    let ca = Certificate::from_pem(pem("CERTIFICATE", &ca).as_bytes()).unwrap();
    let new = client(ca.clone(), tls::Version::TLS_1_3);
    assert!(serves_keys(&serving, &new, "https").await);
    assert!(!serves_keys(&serving, &new, "http").await);
    let old = client(ca, tls::Version::TLS_1_2);
    assert!(!serves_keys(&serving, &old, "https").await, "too old");
    serving.stop().await;

    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    fs::write(&chain, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let serving = Serving::start_with(|config| {
        config.tls.http = HttpTls::Files;
        config.tls.certificate_file = chain;
        config.tls.key_file = key;
        config.tls.min_version = TlsVersion::V1_2;
    })
    .await;
    for version in [tls::Version::TLS_1_2, tls::Version::TLS_1_3] {
        let own = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        assert!(serves_keys(&serving, &client(own, version), "https").await);
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named_before_anything_is_served() {
    let mut config = control_plane::config::Config::default();
    config.listen.http.set_port(0);
    config.tls.http = HttpTls::Files;
    config.tls.certificate_file = "/nowhere/chain.pem".into();
    config.tls.key_file = "/nowhere/key.pem".into();
    let refused = control_plane::serve::Server::bind(&config)
        .await
        .unwrap_err();
    assert_eq!(
        refused.problem().field.as_deref(),
        Some("tls.certificate_file")
    );
    assert!(refused.problem().detail.contains("/nowhere/chain.pem"));
}

/// Whether TLS of this version is spoken.
async fn shakes_hands(serving: &Serving, version: &'static SupportedProtocolVersion) -> bool {
    let mut roots = RootCertStore::empty();
    let keyring = serving.rig.app.identity.keyring();
    roots.add(keyring.ca().certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(serving.addresses.admin_grpc)
        .await
        .unwrap();
    let name = "localhost".try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.is_ok()
}

#[tokio::test]
async fn the_admin_listener_speaks_tls_1_3_unless_told_otherwise() {
    for (min_version, is_spoken) in [(TlsVersion::V1_3, false), (TlsVersion::V1_2, true)] {
        let serving = Serving::start_with(|config| config.tls.min_version = min_version).await;
        assert!(shakes_hands(&serving, &rustls::version::TLS13).await);
        assert_eq!(
            shakes_hands(&serving, &rustls::version::TLS12).await,
            is_spoken
        );
        serving.stop().await;
    }
}
