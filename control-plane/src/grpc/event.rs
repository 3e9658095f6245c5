//! `EventService`.

use std::{pin::Pin, sync::Arc};

use authguardian_proto::{
    common::v1 as common,
    events::v1::{
        AgentChanged, ApiKeyChanged, ApiKeyRevoked, BudgetChanged, Change, Changes,
        GetHeadsRequest, GetHeadsResponse, GrantExpired, GrantIssued, GrantRenewed, GrantRevoked,
        GrantsRevoked, ListRevocationsRequest, ListRevocationsResponse, MachineChanged,
        PolicyChanged, Progress, SeenChange, SessionEnded, SigningKeysChanged, StreamPosition,
        SuspensionChanged, WatchRequest, WatchResponse, change::Body,
        event_service_server::EventService, grants_revoked::Target,
        watch_response::Message as Sent,
    },
    reason::Reason,
};
use futures::stream;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{position, time, timestamp},
    suspension::target_message,
};
use crate::{
    audit::{Context, Refusals},
    clock::Ambient,
    error::{Error, Result},
    events::{self, ChangeBody, Message, Position, Publisher, RevocationTarget, Stream},
    grants::{Grants, Revocations},
    metrics::Metrics,
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct Events {
    /// Where changes come from.
    pub publisher: Arc<Publisher>,
    /// What was revoked before.
    pub grants: Grants,
    /// The time that tokens end by.
    pub ambient: Ambient,
    /// Ends watches.
    pub stop: CancellationToken,
    /// Where it is told that the database was put back.
    pub refusals: Arc<Refusals>,
    /// The same, counted.
    pub metrics: Metrics,
}

type BoxStream<T> = Pin<Box<dyn futures::Stream<Item = std::result::Result<T, Status>> + Send>>;

/// Revocations in one message: some 40 KiB.
const PART: usize = 512;

#[tonic::async_trait]
impl EventService for Events {
    type WatchStream = BoxStream<WatchResponse>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> std::result::Result<Response<Self::WatchStream>, Status> {
        let context = auth::context(&request, "")?;
        let WatchRequest {
            after,
            seen,
            from_client,
        } = request.into_inner();
        if after.is_empty() {
            return Err(
                Error::invalid("after", "expected one position for each wanted stream").into(),
            );
        }
        let after = after.iter().map(wanted).collect::<Result<Vec<_>>>()?;
        if seen.len() > Stream::ALL.len() {
            let detail = "expected one change for each wanted stream at most";
            return Err(Error::invalid("seen", detail).into());
        }
        let seen = seen.iter().map(seen_change);
        let seen = seen.collect::<Result<Vec<_>>>()?;
        let subscription = async {
            self.publisher.compare(&seen).await?;
            self.publisher.subscribe(&after).await
        };
        let subscription = subscription.await;
        let subscription = subscription.map_err(|error| match events::is_ahead(&error) {
            true if from_client => Error::new(
                Reason::Compacted,
                "the position is none that was published: list again and begin at the head",
            ),
            true => self.tell_ahead(&context, error),
            false => error,
        })?;
        let stop = self.stop.clone();
        let messages = stream::try_unfold(subscription, move |mut subscription| {
            let stop = stop.clone();
            async move {
                tokio::select! {
                    next = subscription.next() => Ok(Some((sent(next?), subscription))),
                    () = stop.cancelled() => Ok(None),
                }
            }
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn get_heads(
        &self,
        request: Request<GetHeadsRequest>,
    ) -> std::result::Result<Response<GetHeadsResponse>, Status> {
        let wanted = request
            .into_inner()
            .streams
            .iter()
            .map(|name| stream_named(name))
            .collect::<Result<Vec<_>>>()?;
        let server_time = self.ambient.clock.now();
        let ends = self.publisher.proved_ends().await?;
        let heads = ends
            .heads
            .into_iter()
            .filter(|(stream, _)| wanted.is_empty() || wanted.contains(stream))
            .map(head)
            .collect();
        Ok(Response::new(GetHeadsResponse {
            heads,
            server_time: Some(timestamp(server_time)),
            restored_epoch: ends.restored_epoch.unsigned_abs(),
        }))
    }

    type ListRevocationsStream = BoxStream<ListRevocationsResponse>;

    async fn list_revocations(
        &self,
        _: Request<ListRevocationsRequest>,
    ) -> std::result::Result<Response<Self::ListRevocationsStream>, Status> {
        let revocations = self.grants.revocations().await?;
        let parts = (0..parts(&revocations)).map(move |number| Ok(part(&revocations, number)));
        Ok(Response::new(Box::pin(stream::iter(parts))))
    }
}

impl Events {
    /// Lets operators know that somebody has seen what this database does not
    /// have: their edges refuse it.
    fn tell_ahead(&self, context: &Context, error: Error) -> Error {
        tracing::error!(caller = context.principal(), %error, "the database was put back without a fence");
        self.metrics.position_ahead();
        self.refusals
            .note(context.clone(), "events.watch_ahead", error.reason());
        error
    }
}

fn parts(revocations: &Revocations) -> usize {
    let all = revocations.single.len() + revocations.matching.len();
    all.div_ceil(PART).max(1)
}

fn part(revocations: &Revocations, number: usize) -> ListRevocationsResponse {
    let single = revocations.single.iter().map(|revoked| {
        let body = ChangeBody::GrantRevoked {
            grant_id: revoked.grant_id,
            agent_id: revoked.agent_id.clone(),
            expires_at: revoked.expires_at,
        };
        (None, body)
    });
    let matching = revocations.matching.iter().map(|predicate| {
        let body = ChangeBody::GrantsRevoked {
            target: predicate.target.clone(),
            expires_at: predicate.expires_at,
        };
        (Some(predicate.position), body)
    });
    let listed = single.chain(matching).skip(number * PART).take(PART);
    ListRevocationsResponse {
        revocations: listed
            .map(|(at, revoked)| Change {
                stream: Stream::Grants.as_str().to_owned(),
                position: at.map(position),
                occurred_at: None,
                body: Some(body(revoked)),
            })
            .collect(),
        heads: revocations.ends.heads.iter().copied().map(head).collect(),
        restored_epoch: revocations.ends.restored_epoch.unsigned_abs(),
    }
}

fn stream_named(name: &str) -> Result<Stream> {
    Stream::parse(name).ok_or_else(|| {
        Error::invalid(
            "stream",
            "expected `budgets`, `grants`, `identity`, `policy` or `registry`",
        )
    })
}

fn wanted(wanted: &StreamPosition) -> Result<(Stream, Option<Position>)> {
    let position = wanted.position.map(read_position).transpose()?;
    Ok((stream_named(&wanted.stream)?, position))
}

fn seen_change(seen: &SeenChange) -> Result<(Stream, Position, OffsetDateTime)> {
    let position = seen.position.unwrap_or_default();
    let occurred_at = seen.occurred_at.unwrap_or_default();
    Ok((
        stream_named(&seen.stream)?,
        read_position(position)?,
        time("seen", occurred_at)?,
    ))
}

fn read_position(position: common::Position) -> Result<Position> {
    match (
        i64::try_from(position.epoch),
        i64::try_from(position.revision),
    ) {
        (Ok(epoch), Ok(revision)) => Ok(Position { epoch, revision }),
        _ => Err(Error::invalid("position", "expected numbers below 2^63")),
    }
}

/// A stream's head as a message.
pub(super) fn head((stream, at): (Stream, Position)) -> StreamPosition {
    StreamPosition {
        stream: stream.as_str().to_owned(),
        position: Some(position(at)),
    }
}

fn sent(message: Message) -> WatchResponse {
    let message = match message {
        Message::Changes(changes) => Sent::Changes(Changes {
            changes: changes.into_iter().map(change_message).collect(),
        }),
        Message::Progress(heads) => Sent::Progress(Progress {
            heads: heads.into_iter().map(head).collect(),
        }),
    };
    WatchResponse {
        message: Some(message),
    }
}

fn change_message(change: events::Change) -> Change {
    Change {
        stream: change.stream.as_str().to_owned(),
        position: Some(position(change.position)),
        occurred_at: Some(timestamp(change.occurred_at)),
        body: Some(body(change.body)),
    }
}

fn body(body: ChangeBody) -> Body {
    match body {
        ChangeBody::GrantIssued {
            grant_id,
            agent_id,
            resource_type,
            expires_at,
        } => Body::GrantIssued(GrantIssued {
            grant_id: grant_id.to_string(),
            agent_id: agent_id.to_string(),
            resource_type: resource_type.to_string(),
            expires_at: Some(timestamp(expires_at)),
        }),
        ChangeBody::GrantRenewed {
            grant_id,
            agent_id,
            expires_at,
        } => Body::GrantRenewed(GrantRenewed {
            grant_id: grant_id.to_string(),
            agent_id: agent_id.to_string(),
            expires_at: Some(timestamp(expires_at)),
        }),
        ChangeBody::GrantRevoked {
            grant_id,
            agent_id,
            expires_at,
        } => Body::GrantRevoked(GrantRevoked {
            grant_id: grant_id.to_string(),
            agent_id: agent_id.to_string(),
            expires_at: Some(timestamp(expires_at)),
        }),
        ChangeBody::GrantsRevoked { target, expires_at } => Body::GrantsRevoked(GrantsRevoked {
            target: Some(match target {
                RevocationTarget::Agent(agent) => Target::AgentId(agent.to_string()),
                RevocationTarget::Machine(machine) => Target::MachineId(machine.to_string()),
                RevocationTarget::ResourceType(name) => Target::ResourceType(name.to_string()),
                RevocationTarget::Policy(id) => Target::PolicyId(id),
                RevocationTarget::Everything => Target::Everything(true),
            }),
            expires_at: Some(timestamp(expires_at)),
        }),
        ChangeBody::GrantExpired { grant_id, agent_id } => Body::GrantExpired(GrantExpired {
            grant_id: grant_id.to_string(),
            agent_id: agent_id.to_string(),
        }),
        ChangeBody::ApiKeyRevoked { api_key_id } => Body::ApiKeyRevoked(ApiKeyRevoked {
            api_key_id: api_key_id.to_string(),
        }),
        ChangeBody::ApiKeyChanged { api_key_id } => Body::ApiKeyChanged(ApiKeyChanged {
            api_key_id: api_key_id.to_string(),
        }),
        ChangeBody::SessionEnded { session_id } => Body::SessionEnded(SessionEnded {
            session_id: session_id.to_string(),
        }),
        ChangeBody::SigningKeysChanged => Body::SigningKeysChanged(SigningKeysChanged {}),
        ChangeBody::MachineChanged { machine_id, state } => Body::MachineChanged(MachineChanged {
            machine_id: machine_id.to_string(),
            state,
        }),
        ChangeBody::SuspensionChanged { target, suspended } => {
            Body::SuspensionChanged(SuspensionChanged {
                target: Some(target_message(target)),
                suspended,
            })
        }
        ChangeBody::AgentChanged {
            agent_id,
            what,
            machine_id,
            epoch,
        } => Body::AgentChanged(AgentChanged {
            agent_id: agent_id.to_string(),
            what,
            machine_id: machine_id.map(|id| id.to_string()).unwrap_or_default(),
            epoch: epoch.unsigned_abs(),
        }),
        ChangeBody::BudgetChanged {
            task_id,
            what,
            percent,
            machine_id,
        } => Body::BudgetChanged(BudgetChanged {
            task_id: task_id.to_string(),
            what,
            percent,
            machine_id: machine_id.map(|id| id.to_string()).unwrap_or_default(),
        }),
        ChangeBody::PolicyChanged { policy_version } => Body::PolicyChanged(PolicyChanged {
            policy_version: policy_version.unsigned_abs(),
        }),
    }
}
