//! Asking for the newest checkpoint of the audit log, as a witness of it.

use std::time::Duration;

use authguardian_proto::{
    audit::v1::{
        WitnessCheckpointRequest, WitnessCheckpointResponse,
        audit_service_client::AuditServiceClient,
    },
    reason::Problem,
};

use super::{Upstream, in_time::in_time};

/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(4);

impl Upstream {
    /// Tells what is kept of the audit log; the newest checkpoint of it.
    ///
    /// # Errors
    /// As the RPC: `INVALID_ARGUMENT` when what is kept was not signed there;
    /// `UNAVAILABLE` without an answer.
    pub async fn witness_checkpoint(
        &self,
        kept: WitnessCheckpointRequest,
    ) -> Result<WitnessCheckpointResponse, Problem> {
        let mut request = tonic::Request::new(kept);
        request.set_timeout(TIMEOUT);
        let mut client = AuditServiceClient::new(self.channel.clone());
        in_time(TIMEOUT, client.witness_checkpoint(request)).await
    }
}
