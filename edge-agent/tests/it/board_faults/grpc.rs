//! Calls by gRPC at the control planes, as an edge makes them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authguardian_history as history;
use authguardian_history::{
    Act, Answer, Call, Compare, Condition, Do, LockHeld, Outcome, Position, Step, StepResult,
};
use authguardian_proto::{
    blackboard::v1::{
        Compare as CompareMessage, DeleteRequest, Entry, Erase, Fetch, GetRequest, ListRequest,
        LockHeld as LockHeldMessage, LockRequest, Operation, PutRequest, TransactRequest,
        TransactResponse, WatchRequest, WatchResponse, Write,
        blackboard_service_client::BlackboardServiceClient, compare, lock_request, operation,
    },
    common::v1::Position as PositionMessage,
    credential::ApiKey,
    identity::v1::{
        CreateChallengeRequest, CreateSessionRequest, session_service_client::SessionServiceClient,
    },
    reason::Reason,
    status::from_status,
    zone::Zone,
};
use edge_agent::{
    clock::Ambient,
    dial::{self, Channel, ServerAddress},
    identity::{self, Store},
};
use tonic::{Request, Status, Streaming, metadata::AsciiMetadataValue};

use super::{rest::agent, way::BOARD};

/// A machine that has joined, and a session of one agent.
#[derive(Clone)]
pub(super) struct Grpc {
    pub(super) agent: String,
    channel: Channel,
    api_key: String,
    bearer: Arc<ArcSwap<AsciiMetadataValue>>,
}

impl Grpc {
    /// Joins at the first of the servers, and calls any of them.
    pub(super) async fn join(
        servers: &[ServerAddress],
        join_token: &str,
        agent: &str,
        api_key: &str,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let token = join_token.parse().unwrap();
        let identity = identity::join(&store, &servers[0], &token).await.unwrap();
        let tls = Arc::new(ArcSwap::from_pointee(identity.tls().unwrap()));
        let channel = dial::channel(servers, tls);
        let bearer = log_in(&channel, api_key).await.unwrap();
        tokio::spawn(dial::follow_service(
            channel.clone(),
            Ambient::system().unwrap(),
        ));
        Self {
            agent: agent.to_owned(),
            channel,
            api_key: api_key.to_owned(),
            bearer: Arc::new(ArcSwap::from_pointee(bearer)),
        }
    }

    pub(super) async fn ask(&self, call: &Call, request_id: &str) -> Outcome {
        match self.attempt(call, request_id).await {
            Ok(answer) => Outcome::Done(answer),
            Err(status) => self.refusal(&status).await,
        }
    }

    /// Changes of the board after a position, each with what was there before.
    pub(super) async fn watch(
        &self,
        prefix: &str,
        after: Position,
    ) -> Result<Streaming<WatchResponse>, Status> {
        let request = WatchRequest {
            board: BOARD.to_owned(),
            key: String::new(),
            prefix: prefix.to_owned(),
            after: Some(PositionMessage {
                epoch: after.epoch,
                revision: after.revision,
            }),
            previous: true,
            ..WatchRequest::default()
        };
        let answer = self.client().watch(self.signed(request)).await;
        match answer {
            Ok(stream) => Ok(stream.into_inner()),
            Err(status) => {
                self.refusal(&status).await;
                Err(status)
            }
        }
    }

    fn client(&self) -> BlackboardServiceClient<Channel> {
        BlackboardServiceClient::new(self.channel.clone())
    }

    fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = AsciiMetadataValue::clone(&self.bearer.load());
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// A session that is over is made anew.
    async fn refusal(&self, status: &Status) -> Outcome {
        let problem = from_status(status);
        let reason = problem.reason;
        if matches!(reason, Reason::SessionExpired | Reason::Unauthenticated) {
            if let Ok(bearer) = log_in(&self.channel, &self.api_key).await {
                self.bearer.store(Arc::new(bearer));
            }
            return Outcome::Unknown;
        }
        super::reason::outcome(reason.as_str(), || status.message().to_owned())
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each call")]
    async fn attempt(&self, call: &Call, request_id: &str) -> Result<Answer, Status> {
        let request_id = request_id.to_owned();
        let board = BOARD.to_owned();
        let mut client = self.client();
        Ok(match call.clone() {
            Call::Get { key } => {
                let request = GetRequest {
                    board,
                    key,
                    ..GetRequest::default()
                };
                let told = client.get(self.signed(request)).await?.into_inner();
                Answer::Found {
                    entry: entry(told.entry.unwrap_or_default()),
                    position: position(told.position),
                }
            }
            Call::Put {
                key,
                value,
                if_revision,
                if_lock,
                ttl,
            } => {
                let request = PutRequest {
                    board,
                    key,
                    value,
                    if_revision,
                    ttl_seconds: ttl.map(|ttl| ttl.as_secs()),
                    request_id,
                    if_lock: if_lock.map(lock_held),
                    ..PutRequest::default()
                };
                let told = client.put(self.signed(request)).await?.into_inner();
                Answer::Written {
                    position: position(told.position),
                    previous_revision: told.previous_revision,
                }
            }
            Call::Delete {
                key,
                if_revision,
                if_lock,
            } => {
                let request = DeleteRequest {
                    board,
                    key,
                    if_revision,
                    request_id,
                    if_lock: if_lock.map(lock_held),
                    ..DeleteRequest::default()
                };
                let told = client.delete(self.signed(request)).await?.into_inner();
                Answer::Deleted {
                    deleted: told.deleted,
                    position: position(told.position),
                    previous_revision: told.previous_revision,
                }
            }
            Call::List { prefix, .. } => {
                let request = ListRequest {
                    board,
                    prefix,
                    limit: 1000,
                    ..ListRequest::default()
                };
                let told = client.list(self.signed(request)).await?.into_inner();
                Answer::Listed {
                    entries: told.entries.into_iter().map(entry).collect(),
                    more: !told.next_page_token.is_empty(),
                    position: position(told.position),
                }
            }
            Call::Transact {
                compare,
                then,
                otherwise,
            } => {
                let request = TransactRequest {
                    board,
                    compare: compare.into_iter().map(comparison).collect(),
                    then: then.iter().map(operation).collect(),
                    r#else: otherwise.iter().map(operation).collect(),
                    request_id,
                    ..TransactRequest::default()
                };
                let told = client.transact(self.signed(request)).await?.into_inner();
                transacted(told, &then, &otherwise)
            }
            Call::Lock {
                act,
                key,
                ttl,
                fencing_revision,
            } => {
                let request = LockRequest {
                    board,
                    key,
                    act: lock_act(act).into(),
                    ttl_seconds: if act == Act::Release {
                        0
                    } else {
                        ttl.as_secs()
                    },
                    fencing_revision,
                    request_id,
                    ..LockRequest::default()
                };
                let told = client.lock(self.signed(request)).await?.into_inner();
                Answer::Locked {
                    held: told.held,
                    fencing_revision: told.fencing_revision,
                    holder: agent(&told.holder),
                    position: position(told.position),
                }
            }
        })
    }
}

async fn log_in(channel: &Channel, api_key: &str) -> Result<AsciiMetadataValue, Status> {
    let key: ApiKey = api_key.parse().unwrap();
    let mut sessions = SessionServiceClient::new(channel.clone());
    let api_key_id = key.id().to_string();
    let challenge = CreateChallengeRequest {
        api_key_id: api_key_id.clone(),
    };
    let challenge = sessions.create_challenge(challenge).await?.into_inner();
    let request = CreateSessionRequest {
        api_key_id,
        signature: key.sign_nonce(&challenge.nonce).unwrap(),
        nonce: challenge.nonce,
        zone: Zone::LocalMachine.to_proto().into(),
        client_address: String::new(),
    };
    let session = sessions.create_session(request).await?.into_inner();
    Ok(format!("Bearer {}", session.session_token).parse().unwrap())
}

fn transacted(told: TransactResponse, then: &[Step], otherwise: &[Step]) -> Answer {
    let steps = if told.succeeded { then } else { otherwise };
    let results = steps.iter().zip(told.results).map(|(step, told)| {
        if step.what == Do::Get {
            StepResult::Got(told.entry.map(entry))
        } else {
            StepResult::Changed(told.previous_revision)
        }
    });
    Answer::Transacted {
        succeeded: told.succeeded,
        results: results.collect(),
        position: position(told.position),
    }
}

fn lock_held(lock: LockHeld) -> LockHeldMessage {
    LockHeldMessage {
        key: lock.key,
        fencing_revision: lock.fencing_revision,
    }
}

fn comparison(compare: Compare) -> CompareMessage {
    let condition = match compare.condition {
        Condition::Revision(revision) => compare::Condition::Revision(revision),
        Condition::Held(fencing) => compare::Condition::FencingRevision(fencing),
        Condition::Value(value) => compare::Condition::Value(value),
        Condition::Exists(exists) => compare::Condition::Exists(exists),
    };
    CompareMessage {
        key: compare.key,
        condition: Some(condition),
    }
}

fn operation(step: &Step) -> Operation {
    let action = match &step.what {
        Do::Put(value) => operation::Action::Put(Write {
            value: value.clone(),
            ttl_seconds: None,
        }),
        Do::Delete => operation::Action::Delete(Erase {}),
        Do::Get => operation::Action::Get(Fetch {}),
    };
    Operation {
        key: step.key.clone(),
        action: Some(action),
    }
}

fn lock_act(act: Act) -> lock_request::Act {
    match act {
        Act::Acquire => lock_request::Act::Acquire,
        Act::Renew => lock_request::Act::Renew,
        Act::Release => lock_request::Act::Release,
    }
}

/// As watches and answers tell it.
pub(super) fn entry(told: Entry) -> history::Entry {
    history::Entry {
        key: told.key,
        value: (!told.is_lock && !told.value.is_empty()).then_some(told.value),
        revision: told.revision,
        created_revision: told.created_revision,
        writer: agent(&told.writer),
        is_lock: told.is_lock,
    }
}

pub(super) fn position(told: Option<PositionMessage>) -> Position {
    let told = told.unwrap_or_default();
    Position {
        epoch: told.epoch,
        revision: told.revision,
    }
}
