//! Keeping the certificate fresh.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use authguardian_proto::{
    identity::v1::{
        GetJwksRequest, GetOwnMachineRequest, RenewCertificateRequest,
        enrolment_service_client::EnrolmentServiceClient, key_service_client::KeyServiceClient,
    },
    reason::{Problem, Reason},
    status::from_status,
};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{
    CertificateSource, Identity, IdentityError, Store, StoreError, Validity, join::certificates,
    names,
};
use crate::{
    clock::Ambient,
    dial::{self, ServerAddress, TlsSource},
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// After a failure, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_mins(5);
/// How long one wait may be, since timers stand still while a machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Renews the identity at half-life, and when its certificate is to carry other
/// names. The new key is stored before a
/// certificate is asked for; the old identity stays in use, and on disk, until
/// a connection with the new one has worked.
pub struct Renewal {
    /// Where identities are kept.
    pub store: Store,
    /// The identity in use.
    pub identity: Identity,
    /// What new connections use; swapped once a new identity works.
    pub tls: TlsSource,
    /// Of the faces, where they show the machine's certificate.
    pub shown: CertificateSource,
    /// To the control plane.
    pub channel: Channel,
    /// Addresses for the trial connection.
    pub addresses: Vec<ServerAddress>,
    /// Time and jitter.
    pub ambient: Ambient,
    /// Told when the names that the certificate is to carry may be others.
    pub changed: Arc<Notify>,
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("{0}")]
    Refused(authguardian_proto::reason::Problem),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Renewal {
    /// Renews whenever it is time, until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut due = due(self.identity.validity, &self.ambient);
        let mut retry = RETRY_MIN;
        let mut unsure = false;
        loop {
            let wait = Duration::try_from(due - self.ambient.clock.now()).unwrap_or_default();
            let longest = if unsure { RETRY_MIN } else { LOOK_AGAIN };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait.min(longest)) => {}
                () = self.changed.notified() => unsure = true,
            }
            if unsure {
                match self.has_other_names().await {
                    Ok(other) => {
                        unsure = false;
                        if other {
                            due = self.ambient.clock.now();
                        }
                    }
                    // what refuses this machine tells of a change when it does no more
                    Err(problem) => unsure = problem.reason == Reason::Unavailable,
                }
            }
            if self.ambient.clock.now() < due {
                continue;
            }
            let outcome = self.renew().await;
            let ends = self.identity.validity.ends;
            match outcome {
                Ok(()) => {
                    let earliest = self.ambient.clock.now() + RETRY_MIN;
                    due = self::due(self.identity.validity, &self.ambient).max(earliest);
                    retry = RETRY_MIN;
                    tracing::info!(%ends, "renewed the machine's certificate");
                }
                Err(error) => {
                    due = self.ambient.clock.now() + self.ambient.jittered(retry);
                    retry = (retry * 2).min(RETRY_MAX);
                    tracing::warn!(%error, %ends, "cannot renew the machine's certificate");
                }
            }
        }
    }

    /// Whether the certificate is to carry other names than it does.
    async fn has_other_names(&self) -> Result<bool, Problem> {
        let own = EnrolmentServiceClient::new(self.channel.clone())
            .get_own_machine(timed(GetOwnMachineRequest {}))
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        let leaf = self.identity.chain.first();
        let carried = leaf.map(names::carried).unwrap_or_default();
        Ok(carried != own.server_names.into_iter().collect())
    }

    async fn renew(&mut self) -> Result<(), RenewError> {
        let next = match self.store.staged()? {
            Some(next) => next,
            None => self.ask().await?,
        };
        if let Err(error) = self.try_out(&next).await {
            // what was refused, or has ended meanwhile, would never work
            let refused = matches!(&error, RenewError::Refused(problem) if problem.reason != Reason::Unavailable);
            if refused || next.validity.ends <= self.ambient.clock.now() {
                self.store.discard_staged()?;
            }
            return Err(error);
        }
        self.store.promote()?;
        self.tls.store(Arc::new(next.tls()?));
        self.shown.store(Arc::new(next.certified_key()?));
        self.identity = next;
        Ok(())
    }

    async fn ask(&self) -> Result<Identity, RenewError> {
        let key = self.store.pending_key()?;
        let request = RenewCertificateRequest {
            csr_der: key.signing_request()?,
        };
        let response = EnrolmentServiceClient::new(self.channel.clone())
            .renew_certificate(timed(request))
            .await
            .map_err(|status| RenewError::Refused(from_status(&status)))?
            .into_inner();
        let chain = certificates(response.certificate_chain_der);
        let validity = chain
            .first()
            .and_then(Validity::of)
            .ok_or_else(|| IdentityError("the control plane sent no certificate".to_owned()))?;
        let next = Identity {
            machine_id: self.identity.machine_id,
            machine_name: self.identity.machine_name.clone(),
            trust_domain: self.identity.trust_domain.clone(),
            server: self.identity.server.clone(),
            validity,
            key,
            chain,
            authorities: certificates(response.ca_certificates_der),
        };
        next.tls()?;
        self.store.stage(&next)?;
        Ok(next)
    }

    async fn try_out(&self, next: &Identity) -> Result<(), RenewError> {
        let tls = Arc::new(ArcSwap::from_pointee(next.tls()?));
        let channel = dial::channel(&self.addresses, tls);
        KeyServiceClient::new(channel)
            .get_jwks(timed(GetJwksRequest {}))
            .await
            .map(|_| ())
            .map_err(|status| RenewError::Refused(from_status(&status)))
    }
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

/// Half-life, give or take a fifth of it, so that machines that joined
/// together do not renew together.
fn due(validity: Validity, ambient: &Ambient) -> OffsetDateTime {
    let half = Duration::try_from(validity.ends - validity.begins).unwrap_or_default() / 2;
    validity.begins + ambient.jittered(half)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::clock::manual::ManualClock;

    #[test]
    fn renewal_is_due_around_half_life() {
        let (_, ambient) = ManualClock::ambient();
        let validity = Validity {
            begins: datetime!(2026-01-01 0:00 UTC),
            ends: datetime!(2026-01-02 0:00 UTC),
        };
        for _ in 0..100 {
            let due = due(validity, &ambient);
            assert!(
                due >= datetime!(2026-01-01 9:36 UTC) && due <= datetime!(2026-01-01 14:24 UTC)
            );
        }
    }
}
