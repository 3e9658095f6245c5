//! What a replica of boards and the control plane tell each other; on the
//! machine's behalf, without a session.

use std::time::Duration;

use authguardian_proto::{
    blackboard::v1::{
        BoardPosition, FollowRequest, FollowResponse, OpenRequest, OpenResponse, PushRequest,
        PushResponse, Pushed, replica_service_client::ReplicaServiceClient,
    },
    reason::{Problem, Reason},
    status::from_status,
};
use tokio::sync::watch;
use tonic::{Request, Status, Streaming};

use super::{Upstream, in_time::in_time};
use crate::dial::Channel;

/// For one try of a call.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The control plane gives a sign of life every second; after this silence the
/// stream is taken for broken.
const SILENCE: Duration = Duration::from_secs(5);

/// Longest message, bytes: a page of a board is about a megabyte, and the last
/// value of it may be large.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Most messages that are taken at once.
const MAX_MESSAGES: usize = 64;

/// A stream of all that changes on boards.
pub struct ReplicaFollow {
    stream: Streaming<FollowResponse>,
    replaced: watch::Receiver<()>,
}

impl Upstream {
    /// Leases the replica's place, and learns which actor it is.
    ///
    /// # Errors
    /// As the RPC; `UNAVAILABLE`.
    pub async fn open_replica(&self, request: OpenRequest) -> Result<OpenResponse, Problem> {
        let mut client = client(self.channel.clone());
        in_time(TIMEOUT, client.open(bounded(request))).await
    }

    /// Hands writes over.
    ///
    /// # Errors
    /// As the RPC; `UNAVAILABLE`: they can be handed over again.
    pub async fn push_writes(
        &self,
        incarnation: u32,
        epoch: u64,
        writes: Vec<Pushed>,
    ) -> Result<PushResponse, Problem> {
        let mut client = client(self.channel.clone());
        let request = PushRequest {
            incarnation,
            writes,
            epoch,
        };
        in_time(TIMEOUT, client.push(bounded(request))).await
    }

    /// Begins to follow all boards from where the replica has them.
    ///
    /// # Errors
    /// As the RPC; `UNAVAILABLE`.
    pub async fn follow_boards(&self, have: Vec<BoardPosition>) -> Result<ReplicaFollow, Problem> {
        let mut replaced = self.channel.replacements();
        replaced.mark_unchanged();
        let mut client = client(self.channel.clone());
        let stream = in_time(TIMEOUT, client.follow(Request::new(FollowRequest { have }))).await?;
        Ok(ReplicaFollow { stream, replaced })
    }
}

impl ReplicaFollow {
    /// What comes next, all of it that is there; ends where the stream breaks, or goes on
    /// over a connection to another control plane.
    ///
    /// # Errors
    /// Why there is no more.
    pub async fn next(&mut self) -> Result<Vec<FollowResponse>, Problem> {
        let first = tokio::select! {
            Ok(()) = self.replaced.changed() => return Err(ended()),
            message = tokio::time::timeout(SILENCE, self.stream.message()) => {
                read(message.map_err(|_| ended())?)?
            }
        };
        let mut messages = vec![first];
        while messages.len() < MAX_MESSAGES {
            let ready = std::pin::pin!(self.stream.message());
            match futures::poll!(ready) {
                std::task::Poll::Ready(message) => messages.push(read(message)?),
                std::task::Poll::Pending => break,
            }
        }
        Ok(messages)
    }
}

fn client(channel: Channel) -> ReplicaServiceClient<Channel> {
    ReplicaServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

fn read(message: Result<Option<FollowResponse>, Status>) -> Result<FollowResponse, Problem> {
    message
        .map_err(|status| from_status(&status))?
        .ok_or_else(ended)
}

fn ended() -> Problem {
    Problem::new(Reason::Unavailable, "the stream of boards has ended")
}
