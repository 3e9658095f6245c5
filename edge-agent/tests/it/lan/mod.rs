//! Discovery in a local network, for real: mDNS over a cable between two network
//! namespaces. Nothing is sent on the interfaces of the host itself.

use std::{net::Ipv4Addr, process::Output, sync::mpsc};

use authguardian_discovery::{Announcement, Mdns};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    edge::{BINARY, cleared, output},
    rig::ControlPlane,
};
use namespaces::{Host, Lan};

mod edges;
mod namespaces;

/// A control plane on one of the hosts; ends when it is dropped.
struct There {
    /// For a machine that joins.
    join_token: String,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl There {
    /// `announced`: whether it says where it is.
    fn start(host: &Host, announced: bool) -> Self {
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (address, interface) = (host.address, host.interface.clone());
        let thread = host.run(move || async move {
            let control_plane = ControlPlane::start_with(|config| {
                config.listen.edge_grpc = (Ipv4Addr::UNSPECIFIED, 0).into();
                config.identity.server_names = vec![address.to_string()];
                config.mdns.enabled = announced;
                config.mdns.interfaces = vec![interface];
            })
            .await;
            let token = control_plane.join_token("laptop").await;
            tell.send((token, control_plane.edge_grpc.port())).unwrap();
            let _ = stopped.await;
            control_plane.stop().await;
        });
        let (join_token, port) = told.recv().unwrap();
        Self {
            join_token,
            port,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What its CA's announcements carry.
    fn ca_fingerprint(&self) -> [u8; 32] {
        let token: authguardian_proto::credential::JoinToken = self.join_token.parse().unwrap();
        token.ca_fingerprint()
    }
}

impl Drop for There {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Somebody who says on this host that a control plane listens at this port.
struct Forger(
    Option<oneshot::Sender<()>>,
    Option<std::thread::JoinHandle<()>>,
);

impl Forger {
    fn start(host: &Host, port: u16, ca_fingerprint: [u8; 32]) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let interface = host.interface.clone();
        let thread = host.run(move || async move {
            let mdns = Mdns::open(&[interface]).unwrap();
            let said = Announcement::ControlPlane { ca_fingerprint };
            mdns.announce("forged", port, &said).unwrap();
            let _ = stopped.await;
            mdns.close().await;
        });
        Self(Some(stop), Some(thread))
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        drop(self.0.take());
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

async fn join(host: &Host, token: &str) -> (Output, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = cleared(host.command(BINARY));
    command
        .args(["join", "--discover", "--interface", &host.interface])
        .args(["--token", token, "-o", "json", "--data-dir"])
        .arg(dir.path());
    (output(command).await, dir)
}

#[tokio::test]
async fn a_machine_joins_the_control_plane_of_its_token_that_it_finds() {
    let Some(lan) = Lan::build() else { return };
    // one of another CA says where it is, too
    let other = There::start(&lan.left, true);
    let wanted = There::start(&lan.left, true);
    let (joined, _dir) = join(&lan.right, &wanted.join_token).await;
    let stderr = String::from_utf8_lossy(&joined.stderr).into_owned();
    assert_eq!(joined.status.code(), Some(0), "{stderr}");
    let said: Value = serde_json::from_slice(&joined.stdout).unwrap();
    assert_eq!(said["machine_name"], "laptop");
    drop(other);
}

#[tokio::test]
async fn a_forged_announcement_is_not_trusted() {
    let Some(lan) = Lan::build() else { return };
    let wanted = There::start(&lan.left, false);
    // the right fingerprint, and another server behind it
    let foreign = There::start(&lan.left, false);
    let forger = Forger::start(&lan.left, foreign.port, wanted.ca_fingerprint());
    let (refused, dir) = join(&lan.right, &wanted.join_token).await;
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{stderr}");
    assert!(
        stderr.contains("not the one that the join token is for"),
        "{stderr}"
    );
    assert!(!dir.path().join("identity/machine.json").exists());
    drop(forger);
}

#[tokio::test]
async fn nobody_who_is_silent_is_found() {
    let Some(lan) = Lan::build() else { return };
    let silent = There::start(&lan.left, false);
    let (refused, _dir) = join(&lan.right, &silent.join_token).await;
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(6), "{stderr}");
    assert!(stderr.contains("was heard of"), "{stderr}");
}
