//! Telling the audit log of calls that ended here.

use std::time::Duration;

use authguardian_proto::{
    audit::v1::{ReportCallsRequest, audit_service_client::AuditServiceClient},
    reason::Problem,
};

use super::{Upstream, in_time::in_time};

/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(4);

impl Upstream {
    /// Tells of a batch of the journal; the highest place of that journal that is written.
    ///
    /// # Errors
    /// As the RPC; `UNAVAILABLE` without an answer.
    pub async fn report_calls(&self, batch: ReportCallsRequest) -> Result<u64, Problem> {
        let mut request = tonic::Request::new(batch);
        request.set_timeout(TIMEOUT);
        let mut client = AuditServiceClient::new(self.channel.clone());
        let response = in_time(TIMEOUT, client.report_calls(request)).await?;
        Ok(response.sequence)
    }
}
