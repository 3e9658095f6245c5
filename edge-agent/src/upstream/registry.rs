//! The edge's own word with the registry: its lease, and what it says of its
//! agents.

use std::time::Duration;

use authguardian_proto::{
    reason::Problem,
    registry::v1::{
        BeginEdgeRequest, BeginEdgeResponse, HeartbeatRequest, HeartbeatResponse,
        Timing as TimingMessage, registry_service_client::RegistryServiceClient,
    },
};

use super::{Upstream, in_time::in_time};

/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Longest answer to a beginning, bytes: 10,000 agents with all that they may say.
const MAX_BEGUN: usize = 512 * 1024 * 1024;

/// No edge is heard more often, whatever it is told.
const SHORTEST: u32 = 10;

/// How often this edge has to be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// After so long without one its agents are suspect …
    pub suspect_after: Duration,
    /// … and after so long gone.
    pub gone_after: Duration,
}

impl Default for Timing {
    /// What a control plane says that is not configured otherwise.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            suspect_after: Duration::from_secs(15),
            gone_after: Duration::from_mins(1),
        }
    }
}

impl Timing {
    fn read(message: Option<TimingMessage>) -> Self {
        let Some(message) = message else {
            return Self::default();
        };
        let duration = |ms: u32| Duration::from_millis(ms.max(SHORTEST).into());
        Self {
            heartbeat: duration(message.heartbeat_ms),
            suspect_after: duration(message.suspect_after_ms),
            gone_after: duration(message.gone_after_ms),
        }
    }
}

impl Upstream {
    /// Begins the lease of this process on its machine.
    ///
    /// # Errors
    /// As the RPC; `UNAVAILABLE` without an answer.
    pub async fn begin_edge(
        &self,
        peer_address: String,
    ) -> Result<(BeginEdgeResponse, Timing), Problem> {
        let mut request = tonic::Request::new(BeginEdgeRequest { peer_address });
        request.set_timeout(TIMEOUT);
        // it names all agents of the machine, of which there may be thousands
        let mut client =
            RegistryServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_BEGUN);
        let begun = in_time(TIMEOUT, client.begin_edge(request)).await?;
        let timing = Timing::read(begun.timing);
        Ok((begun, timing))
    }

    /// Prolongs it.
    ///
    /// # Errors
    /// As the RPC; `UNAVAILABLE` without an answer.
    pub async fn heartbeat(
        &self,
        heartbeat: HeartbeatRequest,
    ) -> Result<(HeartbeatResponse, Timing), Problem> {
        let mut request = tonic::Request::new(heartbeat);
        request.set_timeout(TIMEOUT);
        let mut client = RegistryServiceClient::new(self.channel.clone());
        let heard = in_time(TIMEOUT, client.heartbeat(request)).await?;
        let timing = Timing::read(heard.timing);
        Ok((heard, timing))
    }
}
