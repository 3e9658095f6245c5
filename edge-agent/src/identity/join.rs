//! Becoming a machine: a join token and a signing request for a certificate.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use authguardian_proto::{
    credential::JoinToken,
    identity::v1::{JoinRequest, JoinResponse, enrolment_service_client::EnrolmentServiceClient},
    reason::{Problem, Reason},
    status::from_status,
};
use rustls_pki_types::CertificateDer;

use super::{Identity, IdentityError, MachineKey, Store, StoreError, Validity, verifier};
use crate::dial::{self, ServerAddress};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The machine has an identity already.
    #[error(
        "this host has joined already, as `{0}`; remove `identity` in its data directory to join again"
    )]
    AlreadyJoined(String),
    /// The control plane refused, or could not be reached.
    #[error("{0}")]
    Refused(Problem),
    /// The identity's files cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What came back cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Trades a join token for an identity, which is stored. The server is trusted
/// by the fingerprint in the token. After a lost reply the same token can be
/// used again: the key was stored before it was asked for.
///
/// # Errors
/// [`JoinError`]; with [`Reason::Unavailable`] a retry is safe.
pub async fn join(
    store: &Store,
    server: &ServerAddress,
    token: &JoinToken,
) -> Result<Identity, JoinError> {
    if let Some(identity) = store.load()? {
        return Err(JoinError::AlreadyJoined(identity.machine_id.to_string()));
    }
    let key = store.pending_key()?;
    let request = JoinRequest {
        join_token: token.expose().to_string(),
        csr_der: key.signing_request()?,
    };
    let tls = verifier::pinned(token.ca_fingerprint())
        .map_err(|error| IdentityError(error.to_string()))?;
    let channel = dial::channel(
        std::slice::from_ref(server),
        Arc::new(ArcSwap::from_pointee(tls)),
    );
    let mut request = tonic::Request::new(request);
    request.set_timeout(TIMEOUT);
    let response = EnrolmentServiceClient::new(channel)
        .join(request)
        .await
        .map_err(|status| JoinError::Refused(explain(&status)))?
        .into_inner();
    let identity = read(server, key, response)?;
    identity.tls()?;
    store.adopt(&identity)?;
    Ok(identity)
}

fn read(
    server: &ServerAddress,
    key: MachineKey,
    response: JoinResponse,
) -> Result<Identity, IdentityError> {
    let chain = certificates(response.certificate_chain_der);
    let validity = chain
        .first()
        .and_then(Validity::of)
        .ok_or_else(|| IdentityError("the control plane sent no certificate".to_owned()))?;
    Ok(Identity {
        machine_id: response
            .machine_id
            .parse()
            .map_err(|_| IdentityError("the control plane sent no machine id".to_owned()))?,
        machine_name: response.machine_name,
        trust_domain: response.trust_domain,
        server: server.clone(),
        validity,
        key,
        chain,
        authorities: certificates(response.ca_certificates_der),
    })
}

pub(super) fn certificates(der: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    der.into_iter().map(CertificateDer::from).collect()
}

/// A refused certificate is worth telling from a server that is not there.
fn explain(status: &tonic::Status) -> Problem {
    let Some(failure) = dial::dial_failure(status) else {
        return from_status(status);
    };
    let cause = std::error::Error::source(failure)
        .map(ToString::to_string)
        .unwrap_or_default();
    if cause.contains("invalid peer certificate") {
        let detail = format!(
            "the server at `{}` is not the one that the join token is for, or its CA was replaced since: {cause}",
            failure.address
        );
        return Problem::new(Reason::JoinTokenInvalid, detail);
    }
    Problem::new(Reason::Unavailable, format!("{failure}: {cause}"))
}
