//! Asking for shares of rate limits.

use std::time::Duration;

use authguardian_proto::{
    identity::v1::{LeaseRatesRequest, RateShare, RateUse, rate_service_client::RateServiceClient},
    rate::{LimitId, Share, Use},
    reason::{Problem, Reason},
};

use super::{Upstream, in_time::in_time};

/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

impl Upstream {
    /// This machine's shares of limits: one for each use, `None` where there is
    /// no such limit. One call at a time.
    ///
    /// # Errors
    /// `UNAVAILABLE`, and `INTERNAL` when the answer cannot be understood.
    pub async fn lease_rates(
        &self,
        uses: &[(LimitId, Use)],
    ) -> Result<Vec<Option<Share>>, Problem> {
        let mut request = tonic::Request::new(LeaseRatesRequest {
            uses: uses.iter().map(message).collect(),
        });
        request.set_timeout(TIMEOUT);
        let mut client = RateServiceClient::new(self.channel.clone());
        let shares = in_time(TIMEOUT, client.lease_rates(request)).await?.shares;
        if shares.len() != uses.len() {
            let detail = "the control plane's answer cannot be understood by this edge";
            return Err(Problem::new(Reason::Internal, detail));
        }
        Ok(shares.iter().map(share).collect())
    }
}

fn message((id, told): &(LimitId, Use)) -> RateUse {
    RateUse {
        api_key_id: id.api_key_id.to_string(),
        tool: id.tool.clone(),
        wanted: told.wanted,
        held: told.held,
        tokens: told.tokens,
        release: told.release,
    }
}

/// Numbers that make no sense come to no share.
fn share(message: &RateShare) -> Option<Share> {
    if message.unlimited {
        return None;
    }
    let number = |number: f64| {
        if number.is_finite() {
            number.max(0.0)
        } else {
            0.0
        }
    };
    Some(Share {
        per_second: number(message.per_second),
        burst: message.burst,
        tokens: number(message.tokens),
        lease: Duration::from_millis(message.lease_ms.into()),
        again: Duration::from_millis(message.again_ms.into()),
    })
}
