//! The edge's own ping: what was known at the instant before the question.

use std::time::Duration;

use authguardian_proto::{
    events::v1::{GetHeadsRequest, event_service_client::EventServiceClient},
    reason::{Problem, Reason},
};
use tokio_util::sync::CancellationToken;

use super::{Feed, REFUSED, is_of_machine, position::PROVED};
use crate::{dial::Channel, freshness::Proof, upstream::in_time::in_time};

/// Between questions.
const EVERY: Duration = Duration::from_secs(1);
/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// After no answer.
const RETRY: Duration = Duration::from_millis(250);

impl Feed {
    /// Asks again and again until told to stop.
    pub(super) async fn keep_proving(&self, channel: Channel, stop: &CancellationToken) {
        let mut client = EventServiceClient::new(channel);
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = self.ask(&mut client) => asked,
            };
            let pause = match asked {
                Ok(()) => EVERY,
                Err(problem) => {
                    tracing::debug!(reason = %problem.reason, detail = problem.detail, "no answer to a ping");
                    self.hear(&problem);
                    if is_of_machine(problem.reason) {
                        REFUSED
                    } else {
                        RETRY
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.ambient.jittered(pause)) => {}
                () = self.resumed.notified() => {}
            }
        }
    }

    async fn ask(&self, client: &mut EventServiceClient<Channel>) -> Result<(), Problem> {
        let mut request = tonic::Request::new(GetHeadsRequest {
            streams: PROVED.map(str::to_owned).into(),
        });
        request.set_timeout(TIMEOUT);
        // what was followed by now has to be counted in
        let floor = self.guard.floor();
        let asked_at = self.ambient.clock.since_boot();
        let answer = in_time(TIMEOUT, client.get_heads(request)).await?;
        self.served(asked_at);
        self.guard
            .judge(&floor, &answer.heads, answer.restored_epoch)?;
        let server_time = answer
            .server_time
            .ok_or_else(|| Problem::new(Reason::Internal, "the answer has no time"))?;
        let proof = Proof {
            asked_at,
            server_time_ms: server_time
                .seconds
                .saturating_mul(1000)
                .saturating_add(i64::from(server_time.nanos / 1_000_000)),
        };
        self.expect(proof, answer.heads);
        Ok(())
    }
}
