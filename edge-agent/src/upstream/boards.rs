//! Boards: calls about them, and following one, resumed where the stream broke.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    blackboard::v1::{
        BoardChange, DeleteRequest, DeleteResponse, GetRequest, GetResponse, ListBoardsRequest,
        ListBoardsResponse, ListRequest, ListResponse, LockRequest, LockResponse, PutRequest,
        PutResponse, TransactRequest, TransactResponse, WatchRequest, WatchResponse,
        blackboard_service_client::BlackboardServiceClient,
    },
    common::v1::Position,
    reason::{Problem, Reason},
};
use tokio::{sync::watch, time::Instant};
use tonic::{Request, Status, Streaming};

use super::{
    Held, Login, Session, Upstream,
    call::{Effect, Failure, classify},
};

/// Longest answer, bytes: as many values as a transaction can read, or a revision
/// of as many with what was there before.
const MAX_ANSWER: usize = 128 * 1024 * 1024;

/// For the beginning of a stream, each time: a control plane that is behind the
/// position that it is to begin after waits for its own news first.
const OPENING: Duration = Duration::from_secs(8);
/// For a stream that somebody waits to see begin.
const PATIENCE: Duration = Duration::from_secs(12);
/// The control plane tells its progress every second; after this silence the
/// stream is taken for broken.
const SILENCE: Duration = Duration::from_secs(5);
/// After a break, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3);

/// What is heard of a board.
#[derive(Debug, Clone, PartialEq)]
pub enum BoardNews {
    /// All changes of one revision that were asked for; none: nothing but progress.
    Changes {
        /// In the order of their keys or operations.
        changes: Vec<BoardChange>,
        /// Everything up to here was told.
        up_to: Position,
    },
    /// What came after the last position can be told by nobody any more: all has
    /// to be read again, and it goes on from here.
    Compacted {
        /// Where it goes on.
        up_to: Position,
    },
    /// The reader was too slow; nothing is lost when it goes on after this.
    Lagged {
        /// What was told.
        up_to: Position,
    },
    /// There is no more, and why.
    Over(Problem),
}

/// A board that is followed.
pub struct BoardFollow {
    upstream: Upstream,
    login: Arc<Login>,
    /// Of a key, for as long as this lives.
    _held: Option<Held>,
    /// `after` is where the stream goes on.
    request: WatchRequest,
    stream: Option<Streaming<WatchResponse>>,
    /// What it was opened with.
    session: Arc<Session>,
    /// What was read of it when it began.
    first: Option<WatchResponse>,
    /// Whether the next position is the first after a gap.
    has_gap: bool,
    retry: Duration,
    replaced: watch::Receiver<()>,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident: $rpc:ident, $effect:ident, $request:ty => $response:ty;)*) => {
        impl Upstream {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// As the RPC; `UNAVAILABLE` when nothing was done, `OUTCOME_UNKNOWN`
            /// when a change may have been made.
            pub async fn $name(&self, login: &Login, request: $request) -> Result<$response, Problem> {
                self.forward(login, Effect::$effect, request, |channel, request| async move {
                    BlackboardServiceClient::new(channel)
                        .max_decoding_message_size(MAX_ANSWER)
                        .$rpc(request)
                        .await
                })
                .await
            }
        )*}
    };
}

calls! {
    /// Reads a key.
    board_get: get, Read, GetRequest => GetResponse;
    /// Writes a key.
    board_put: put, Change, PutRequest => PutResponse;
    /// Deletes a key.
    board_delete: delete, Change, DeleteRequest => DeleteResponse;
    /// Lists one page of keys.
    board_list: list, Read, ListRequest => ListResponse;
    /// Compares, and does one list of operations or another.
    board_transact: transact, Change, TransactRequest => TransactResponse;
    /// Takes, keeps or leaves a lock.
    board_lock: lock, Change, LockRequest => LockResponse;
    /// Lists one page of boards.
    list_boards: list_boards, Read, ListBoardsRequest => ListBoardsResponse;
}

impl Upstream {
    /// Begins to follow a board.
    ///
    /// # Errors
    /// As the RPC; `UNAVAILABLE`.
    pub async fn follow_board(
        &self,
        login: &Login,
        request: WatchRequest,
    ) -> Result<BoardFollow, Problem> {
        let mut follow = BoardFollow {
            upstream: self.clone(),
            login: Arc::new(login.without_key()),
            _held: (!login.is_by_session()).then(|| self.hold(login)),
            request,
            session: login.session(),
            stream: None,
            first: None,
            has_gap: false,
            retry: RETRY_MIN,
            replaced: self.channel.replacements(),
        };
        follow.begin(login).await?;
        Ok(follow)
    }
}

impl BoardFollow {
    /// The first time: whoever waits for it still has the key to log in with.
    async fn begin(&mut self, login: &Login) -> Result<(), Problem> {
        let deadline = Instant::now() + PATIENCE;
        let mut logged_in_again = false;
        loop {
            let pause = match self.open().await {
                Ok(()) => return Ok(()),
                Err(Failure::Refused(problem)) if problem.reason == Reason::Compacted => {
                    self.lose();
                    Duration::ZERO
                }
                Err(Failure::Refused(problem)) => return Err(problem),
                Err(Failure::Session(problem)) if logged_in_again => return Err(problem),
                Err(Failure::Session(_)) => {
                    logged_in_again = true;
                    self.upstream.log_in_again(login).await?;
                    self.login.continue_with(login.session());
                    Duration::ZERO
                }
                Err(Failure::Unsent(problem) | Failure::Unknown(problem)) => {
                    let pause = self.pause();
                    if Instant::now() + pause >= deadline {
                        return Err(Problem {
                            reason: Reason::Unavailable,
                            ..problem
                        });
                    }
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// What comes next, however long it takes.
    pub async fn next(&mut self) -> BoardNews {
        loop {
            let failure = match self.receive().await {
                Ok(message) => {
                    self.retry = RETRY_MIN;
                    return self.take(message);
                }
                Err(failure) => failure,
            };
            self.stream = None;
            match failure {
                Failure::Refused(problem) if problem.reason == Reason::Compacted => self.lose(),
                Failure::Refused(problem) if problem.reason == Reason::Lagged => {
                    if let Some(up_to) = self.request.after {
                        return BoardNews::Lagged { up_to };
                    }
                }
                // a stream ends with the session that it was opened with, and goes on with what that became
                Failure::Session(problem) => {
                    let goes_on = self.upstream.go_on(&self.login).is_ok();
                    if !goes_on || Arc::ptr_eq(&self.login.session(), &self.session) {
                        return BoardNews::Over(problem);
                    }
                }
                Failure::Refused(problem) => return BoardNews::Over(problem),
                Failure::Unsent(problem) | Failure::Unknown(problem) => {
                    let (reason, detail) = (problem.reason, problem.detail);
                    tracing::debug!(%reason, detail, "a board cannot be followed for a while");
                    let pause = self.pause();
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// The next message, of the stream as it is or as it goes on.
    async fn receive(&mut self) -> Result<WatchResponse, Failure> {
        if self.stream.is_none() {
            let going_on = self.upstream.go_on(&self.login);
            going_on.map_err(Failure::Session)?;
            self.open().await?;
        }
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let Some(stream) = &mut self.stream else {
            return Err(ended());
        };
        tokio::select! {
            // it goes on at once on the connection that is used now
            Ok(()) = self.replaced.changed() => {
                self.retry = Duration::ZERO;
                Err(ended())
            }
            message = tokio::time::timeout(SILENCE, stream.message()) => read(message),
        }
    }

    async fn open(&mut self) -> Result<(), Failure> {
        let mut request = Request::new(self.request.clone());
        self.session = self.login.session();
        let bearer = self.session.bearer.clone();
        request.metadata_mut().insert("authorization", bearer);
        self.replaced.mark_unchanged();
        let mut client = BlackboardServiceClient::new(self.upstream.channel.clone())
            .max_decoding_message_size(MAX_ANSWER);
        let opening = async {
            let mut stream = client.watch(request).await?.into_inner();
            let first = stream.message().await?;
            Ok(first.map(|first| (stream, first)))
        };
        let (stream, first) = read(tokio::time::timeout(OPENING, opening).await)?;
        (self.stream, self.first) = (Some(stream), Some(first));
        Ok(())
    }

    fn take(&mut self, message: WatchResponse) -> BoardNews {
        let Some(up_to) = message.position else {
            let detail = "the control plane's answer cannot be understood by this edge";
            return BoardNews::Over(Problem::new(Reason::Internal, detail));
        };
        self.request.after = Some(up_to);
        if std::mem::take(&mut self.has_gap) {
            return BoardNews::Compacted { up_to };
        }
        BoardNews::Changes {
            changes: message.changes,
            up_to,
        }
    }

    /// From now on, with a gap before.
    fn lose(&mut self) {
        self.request.after = None;
        self.has_gap = true;
    }

    fn pause(&mut self) -> Duration {
        let pause = self.upstream.ambient.jittered(self.retry);
        self.retry = (self.retry * 2).clamp(RETRY_MIN, RETRY_MAX);
        pause
    }
}

/// What came in time.
fn read<T>(
    came: Result<Result<Option<T>, Status>, tokio::time::error::Elapsed>,
) -> Result<T, Failure> {
    match came {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) | Err(_) => Err(ended()),
        Ok(Err(status)) => Err(classify(&status)),
    }
}

fn ended() -> Failure {
    let detail = "the stream of the board's changes has ended";
    Failure::Unsent(Problem::new(Reason::Unavailable, detail))
}
