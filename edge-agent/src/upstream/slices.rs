//! Telling what was spent of this machine's slices of budgets, and getting more.

use std::time::Duration;

use authguardian_proto::{
    budgets::v1::{ExchangeRequest, ExchangeResponse, slice_service_client::SliceServiceClient},
    reason::Problem,
};

use super::{Upstream, in_time::in_time};

/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Longest answer, bytes: a thousand budgets with all that may spend from them.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

impl Upstream {
    /// Tells of this machine's slices. One call at a time.
    ///
    /// # Errors
    /// As the RPC; `UNAVAILABLE` without an answer.
    pub async fn exchange_slices(
        &self,
        exchange: ExchangeRequest,
    ) -> Result<ExchangeResponse, Problem> {
        let mut request = tonic::Request::new(exchange);
        request.set_timeout(TIMEOUT);
        let mut client =
            SliceServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        in_time(TIMEOUT, client.exchange(request)).await
    }
}
