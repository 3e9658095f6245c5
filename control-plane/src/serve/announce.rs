//! Telling edges of the local network where this is.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use authguardian_discovery::{Announcement, Mdns};
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// How soon another CA is announced.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Announces the edge listener until `stop`, with the CA that is active. What
/// cannot be announced hinders nobody who knows the address.
pub(super) async fn announce(
    app: Arc<App>,
    mdns: Mdns,
    edge_grpc: SocketAddr,
    stop: CancellationToken,
) {
    // several of one installation may be in one network
    let instance = format!("control-plane-{}", app.ambient.uuid().simple());
    let mut announced = None;
    loop {
        match app.identity.trust_bundle().await {
            Ok(bundle) if announced != Some(bundle.active) => {
                let ca_fingerprint = bundle.active;
                let said = Announcement::ControlPlane { ca_fingerprint };
                match mdns.announce(&instance, edge_grpc.port(), &said) {
                    Ok(()) => announced = Some(ca_fingerprint),
                    Err(error) => tracing::warn!(%error, "the edge listener is not announced"),
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the CA to announce cannot be read"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => break,
        }
    }
    mdns.close().await;
}
