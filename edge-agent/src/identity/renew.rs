//! Keeping the certificate fresh, and the CAs that servers are trusted by.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use authguardian_proto::{
    identity::v1::{
        GetJwksRequest, GetOwnMachineRequest, GetTrustBundleRequest, RenewCertificateRequest,
        enrolment_service_client::EnrolmentServiceClient, key_service_client::KeyServiceClient,
    },
    reason::Reason,
    status::from_status,
};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    CertificateSource, Identity, IdentityError, Store, StoreError, Validity, join::certificates,
    names, step,
};
use crate::{
    clock::Ambient,
    dial::{self, Addresses, Channel, TlsSource},
    trust::Trust,
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// After a failure, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_mins(5);
/// Between looks at what the certificate is to be that no change has asked for.
const LOOK: Duration = Duration::from_mins(10);
/// See [`spread`].
const SPREAD_MAX: Duration = Duration::from_mins(5);
/// How long one wait may be, since timers stand still while a machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Renews the identity at half-life, soon when another CA is active than the one
/// that it is of, at once when its certificate is to carry other names, and
/// follows the CAs that servers are trusted by. The new key is stored before a
/// certificate is asked for; the old identity stays in use, and on disk, until a
/// connection with the new one has worked.
pub struct Renewal {
    /// Where identities are kept.
    pub store: Store,
    /// The identity in use.
    pub identity: Identity,
    /// What new connections use; swapped once a new identity works.
    pub tls: TlsSource,
    /// Of the faces, where they show the machine's certificate.
    pub shown: CertificateSource,
    /// Who other machines are; follows the CAs.
    pub trust: Arc<Trust>,
    /// To the control plane; replaced once there is another certificate to show.
    pub channel: Channel,
    /// Addresses for the trial connection.
    pub addresses: Addresses,
    /// Time and jitter.
    pub ambient: Ambient,
    /// Told when the CAs, or the names that the certificate is to carry, may be
    /// others.
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

/// When something is to be tried next, and how long to wait after a failure.
struct Due {
    at: OffsetDateTime,
    retry: Duration,
}

impl Due {
    fn at(at: OffsetDateTime) -> Self {
        Self {
            at,
            retry: RETRY_MIN,
        }
    }

    /// After a failure.
    fn again(&mut self, ambient: &Ambient) {
        self.at = ambient.clock.now() + ambient.jittered(self.retry);
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }
}

impl Renewal {
    /// Renews and follows whenever it is time, until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut renewal = Due::at(due(self.identity.validity, &self.ambient));
        let mut look = Due::at(self.ambient.clock.now());
        loop {
            let next = renewal.at.min(look.at);
            let wait = Duration::try_from(next - self.ambient.clock.now()).unwrap_or_default();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait.min(LOOK_AGAIN)) => {}
                () = self.changed.notified() => look = Due::at(self.ambient.clock.now()),
            }
            if renewal.at <= self.ambient.clock.now() {
                self.renew_now(&mut renewal, &mut look).await;
            }
            if look.at <= self.ambient.clock.now() {
                self.look_now(&mut renewal, &mut look).await;
            }
        }
    }

    async fn renew_now(&mut self, renewal: &mut Due, look: &mut Due) {
        let outcome = self.renew().await;
        let (now, ends) = (self.ambient.clock.now(), self.identity.validity.ends);
        match outcome {
            Ok(()) => {
                let next = due(self.identity.validity, &self.ambient);
                *renewal = Due::at(next.max(now + RETRY_MIN));
                // it has come with the CAs of when it was asked for
                *look = Due::at(now + RETRY_MIN);
                tracing::info!(%ends, "renewed the machine's certificate");
            }
            Err(error) => {
                renewal.again(&self.ambient);
                tracing::warn!(%error, %ends, "cannot renew the machine's certificate");
            }
        }
    }

    /// Looks whether another certificate is to be asked for.
    async fn look_now(&mut self, renewal: &mut Due, look: &mut Due) {
        let looked = async {
            let active = self.follow_authorities().await?;
            Ok::<_, RenewError>((active, self.has_other_names().await?))
        };
        let outcome = looked.await;
        let now = self.ambient.clock.now();
        match outcome {
            Ok((_, true)) => renewal.at = now,
            Ok((active, false)) if !self.identity.is_of(&active) => {
                let soon = self.ambient.part_of(spread(self.identity.validity));
                renewal.at = renewal.at.min(now + soon);
            }
            Ok(_) => {}
            Err(error) => {
                look.again(&self.ambient);
                tracing::debug!(%error, "cannot learn what the certificate is to be");
                return;
            }
        }
        *look = Due::at(now + self.ambient.jittered(LOOK));
    }

    /// Whether the certificate is to carry other names than it does.
    async fn has_other_names(&self) -> Result<bool, RenewError> {
        let own = EnrolmentServiceClient::new(self.channel.clone())
            .get_own_machine(timed(GetOwnMachineRequest {}))
            .await
            .map_err(|status| RenewError::Refused(from_status(&status)))?
            .into_inner();
        let leaf = self.identity.chain.first();
        let carried = leaf.map(names::carried).unwrap_or_default();
        Ok(carried != own.server_names.into_iter().collect())
    }

    /// Reads the CAs and trusts them for new connections; returns the
    /// fingerprint of the active one.
    async fn follow_authorities(&mut self) -> Result<Vec<u8>, RenewError> {
        let bundle = KeyServiceClient::new(self.channel.clone())
            .get_trust_bundle(timed(GetTrustBundleRequest {}))
            .await
            .map_err(|status| RenewError::Refused(from_status(&status)))?
            .into_inner();
        let told = certificates(bundle.ca_certificates_der);
        if told.is_empty() {
            let detail = "the control plane named no CA to trust".to_owned();
            return Err(IdentityError(detail).into());
        }
        let known = &self.identity.authorities;
        if told != *known {
            let distrusted = known.iter().any(|authority| !told.contains(authority));
            let next = Identity {
                authorities: told,
                ..self.identity.clone()
            };
            let tls = next.tls()?;
            self.store.keep(&next)?;
            self.trust
                .set_authorities(next.authorities())
                .map_err(|error| IdentityError(error.to_string()))?;
            tracing::info!(
                authorities = next.authorities.len(),
                "other CAs are trusted"
            );
            self.identity = next;
            self.tls.store(Arc::new(tls));
            if distrusted {
                self.channel.replace();
            }
        }
        Ok(bundle.active_ca_sha256)
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
        self.trust
            .set_authorities(next.authorities())
            .map_err(|error| IdentityError(error.to_string()))?;
        self.tls.store(Arc::new(next.tls()?));
        self.shown.store(Arc::new(next.certified_key()?));
        self.identity = next;
        // the connection of before ends with the certificate that it was made with
        self.channel.replace();
        Ok(())
    }

    async fn ask(&self) -> Result<Identity, RenewError> {
        let key = self.store.pending_key()?;
        let request = RenewCertificateRequest {
            csr_der: key.signing_request()?,
        };
        step::reached();
        let response = EnrolmentServiceClient::new(self.channel.clone())
            .renew_certificate(timed(request))
            .await
            .map_err(|status| RenewError::Refused(from_status(&status)))?
            .into_inner();
        step::reached();
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
        let channel = dial::channel_to(self.addresses.clone(), tls);
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

/// Machines whose CA was replaced renew within this time of learning it: a small
/// part of the certificate's life, so that they do not all come at once.
fn spread(validity: Validity) -> Duration {
    let life = Duration::try_from(validity.ends - validity.begins).unwrap_or_default();
    (life / 300).min(SPREAD_MAX)
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
