//! The certificate of the control plane's own listeners.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Ambient,
    error::{Error, Result},
    identity::{Identity, Keyring},
};

/// How long a server certificate lives; it is replaced at half of that.
const LIFETIME: time::Duration = time::Duration::days(7);

/// The server certificate in use; new connections get the newest, always of
/// the CA that is active now.
pub(super) struct ServerCertificate {
    identity: Identity,
    ambient: Ambient,
    issued: ArcSwap<Issued>,
}

struct Issued {
    key: Arc<CertifiedKey>,
    /// The CA's certificate and what vouches for it, as presented.
    authority: Vec<CertificateDer<'static>>,
}

impl ServerCertificate {
    pub(super) fn issue(identity: Identity, ambient: Ambient) -> Result<Arc<Self>> {
        let issued = certify(&identity, &ambient, &identity.keyring())?;
        Ok(Arc::new(Self {
            identity,
            ambient,
            issued: ArcSwap::from_pointee(issued),
        }))
    }

    /// Replaces the certificate at half of its life, until `stop`.
    pub(super) async fn renew(self: Arc<Self>, stop: CancellationToken) {
        let half: Duration = LIFETIME.unsigned_abs() / 2;
        loop {
            tokio::select! {
                () = tokio::time::sleep(half.mul_f64(self.ambient.entropy.jitter())) => {}
                () = stop.cancelled() => return,
            }
            self.replace(&self.identity.keyring());
        }
    }

    fn replace(&self, keyring: &Keyring) {
        match certify(&self.identity, &self.ambient, keyring) {
            Ok(issued) => self.issued.store(Arc::new(issued)),
            Err(error) => tracing::error!(%error, "cannot renew the server certificate"),
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keyring = self.identity.keyring();
        if self.issued.load().authority != keyring.presented_authority() {
            self.replace(&keyring);
        }
        Some(Arc::clone(&self.issued.load().key))
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificate")
    }
}

fn certify(identity: &Identity, ambient: &Ambient, keyring: &Keyring) -> Result<Issued> {
    let (now, settings) = (ambient.clock.now(), identity.settings());
    let certified = keyring.ca().certify_server(
        &settings.server_names,
        &settings.trust_domain,
        &ambient.entropy,
        now,
        now + LIFETIME,
    )?;
    let key = aws_lc_rs::sign::any_supported_type(&certified.key).map_err(Error::internal)?;
    let authority = keyring.presented_authority().to_vec();
    let mut chain = vec![certified.certificate];
    chain.extend(authority.iter().cloned());
    Ok(Issued {
        key: Arc::new(CertifiedKey::new(chain, key)),
        authority,
    })
}
