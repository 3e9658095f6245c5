//! TLS of the HTTP faces.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Certificate, Client, StatusCode, tls};
use serde_json::Value;
use tempfile::TempDir;

use super::{edge, rig};
use crate::{
    edge::{asking, command, output, read},
    rig::ControlPlane,
    wait::{DEADLINE, until_async},
};

/// A fresh certificate for loopback in `dir`; it vouches for itself.
fn write(dir: &Path) -> Certificate {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(dir.join("chain.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

fn files() -> (TempDir, Certificate, Vec<(&'static str, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let certificate = write(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let environment = vec![
        ("AUTHGUARDIAN_TLS__CERTIFICATE_FILE", path("chain.pem")),
        ("AUTHGUARDIAN_TLS__KEY_FILE", path("key.pem")),
    ];
    (dir, certificate, environment)
}

/// A client that trusts this certificate and speaks up to this version; each
/// request has a connection of its own.
fn client(certificate: &Certificate, max: tls::Version) -> Client {
    Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .pool_max_idle_per_host(0)
        .tls_certs_only([certificate.clone()])
        .tls_version_max(max)
        .build()
        .unwrap()
}

fn refs<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let borrow = |(name, value): &'a (&'static str, String)| (*name, value.as_str());
    environment.iter().map(borrow).collect()
}

#[tokio::test]
async fn the_faces_speak_tls_with_files_that_may_be_replaced() {
    let (dir, old, environment) = files();
    let rig = rig(&refs(&environment)).await;
    assert!(rig.edge.url.starts_with("https://"), "{}", rig.edge.url);
    let ask = |client: Client| {
        let url = format!("{}/mcp/tools/request_permission", rig.edge.url);
        let request = client
            .post(url)
            .bearer_auth(&rig.api_key)
            .json(&asking("data_analyst"));
        async move { request.send().await }
    };
    let (_, body) = read(ask(client(&old, tls::Version::TLS_1_3)).await.unwrap()).await;
    assert_eq!(body["decision"], "granted");

    // neither clear text nor an older version
    let plain = rig.edge.url.replace("https://", "http://");
    assert!(
        Client::new()
            .get(format!("{plain}/livez"))
            .send()
            .await
            .is_err()
    );
    assert!(ask(client(&old, tls::Version::TLS_1_2)).await.is_err());

    let new = write(dir.path());
    assert!(ask(client(&new, tls::Version::TLS_1_3)).await.is_err());
    rig.edge.hang_up();
    until_async("the new certificate is shown", async || {
        ask(client(&new, tls::Version::TLS_1_3)).await.is_ok()
    })
    .await;
    assert!(ask(client(&old, tls::Version::TLS_1_3)).await.is_err());
}

#[tokio::test]
async fn tls_1_2_is_spoken_where_it_is_asked_for() {
    let (_dir, certificate, mut environment) = files();
    environment.push(("AUTHGUARDIAN_TLS__MIN_VERSION", "1.2".to_owned()));
    let rig = rig(&refs(&environment)).await;
    for version in [tls::Version::TLS_1_2, tls::Version::TLS_1_3] {
        let live = client(&certificate, version)
            .get(format!("{}/livez", rig.edge.url))
            .send()
            .await
            .unwrap();
        assert_eq!(live.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_cut_off() {
    let (_dir, certificate, mut environment) = files();
    let timeout = (
        "AUTHGUARDIAN_LIMITS__HEADER_TIMEOUT_SECONDS",
        "1".to_owned(),
    );
    environment.push(timeout);
    let rig = rig(&refs(&environment)).await;
    let address = rig.edge.url.trim_start_matches("https://");
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let live = client(&certificate, tls::Version::TLS_1_3)
        .get(format!("{}/livez", rig.edge.url))
        .send()
        .await
        .unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    let mut text = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut text);
    tokio::time::timeout(DEADLINE, reading)
        .await
        .unwrap()
        .unwrap();
    assert!(text.is_empty());
}

#[tokio::test]
async fn the_machines_own_certificate_can_be_shown() {
    let control_plane = ControlPlane::start().await;
    let environment = [("AUTHGUARDIAN_TLS__MACHINE_CERTIFICATE", "true")];
    let edge = edge(&control_plane, "host", &environment).await;
    let client = Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .tls_info(true)
        .build()
        .unwrap();
    let live = client
        .get(format!("{}/livez", edge.url))
        .send()
        .await
        .unwrap();
    let shown = live.extensions().get::<tls::TlsInfo>().unwrap();
    let identity: Value = serde_json::from_slice(&fs::read(edge.identity()).unwrap()).unwrap();
    let own = identity["chain"][0].as_str().unwrap();
    assert_eq!(
        shown.peer_certificate().unwrap(),
        BASE64_STANDARD.decode(own).unwrap()
    );
}

#[tokio::test]
async fn an_address_beyond_this_host_needs_a_certificate_that_can_be_used() {
    let (dir, _certificate, _) = files();
    let run = |arguments: &[(&str, &str)]| {
        let mut command = command();
        command
            .args([
                "run",
                "--listen",
                "0.0.0.0:0",
                "--listen-websocket",
                "",
                "--data-dir",
            ])
            .arg(dir.path());
        command.envs(arguments.iter().copied());
        output(command)
    };
    for (environment, said) in [
        (vec![], "listen.http"),
        (
            vec![("AUTHGUARDIAN_TLS__CERTIFICATE_FILE", "/nowhere")],
            "tls.key_file",
        ),
        (
            vec![("AUTHGUARDIAN_TLS__MIN_VERSION", "1.1")],
            "min_version",
        ),
        (
            vec![("AUTHGUARDIAN_LISTEN__ALLOWED_NETWORKS", "here")],
            "`here`",
        ),
        (
            vec![("AUTHGUARDIAN_LIMITS__MAX_REQUESTS", "0")],
            "limits.max_requests",
        ),
    ] {
        let mut environment = environment;
        if said.starts_with("limits") {
            environment.push(("AUTHGUARDIAN_TLS__MACHINE_CERTIFICATE", "true"));
        }
        let refused = run(&environment).await;
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}: {stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
}
