//! What the registry says of an agent, signed.

use authguardian_proto::agent_record::AgentRecord;
use time::OffsetDateTime;

use super::{Registration, Registry};
use crate::error::{Error, Result};

impl Registry {
    /// The record of a registration, as of now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sign(&self, registration: &Registration) -> Result<String> {
        self.sign_at(registration, self.ambient.clock.now())
    }

    /// The same as of a time: the same time gives the same record.
    pub(super) fn sign_at(
        &self,
        registration: &Registration,
        issued: OffsetDateTime,
    ) -> Result<String> {
        let record = AgentRecord {
            iss: format!("https://{}", self.identity.settings().trust_domain),
            sub: registration.agent_id.clone(),
            machine: registration.machine_id,
            epoch: registration.epoch.unsigned_abs(),
            capabilities: registration.capabilities.clone(),
            labels: registration.labels.clone(),
            trust: registration.trust,
            zone: registration.zone,
            endpoint: registration.endpoint.clone(),
            peer_address: registration.peer_address.as_ref().map(ToString::to_string),
            iat: issued.unix_timestamp(),
            exp: (issued + self.timing.record).unix_timestamp(),
        };
        let keyring = self.identity.keyring();
        keyring
            .grant_signer()
            .grants
            .sign_record(&record)
            .map_err(Error::internal)
    }
}
