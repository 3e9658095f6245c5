//! Following a board: in the replica where it is eventual and here, else at the
//! control plane.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    blackboard::v1::{BoardChange, Entry, WatchRequest, board_change::Kind},
    board::Level,
    common::v1::Position,
    ids::BoardName,
    reason::{Problem, Reason},
};
use tokio::time::Instant;

use super::{Here, Want, eventual::key, not_found, unreadable};
use crate::{
    core::{
        Caller, Core,
        blackboard::{
            entry::{machine, timestamp},
            events::ACTION,
        },
    },
    replica::{Change, ChangeKind, Content, Filter, News, Watch, WatchError},
    upstream::{BoardFollow, BoardNews},
};

/// How often progress is told, and it is looked whether the reader may still read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A board that is followed.
pub(in crate::core) enum BoardStream {
    /// At the control plane.
    Upstream(Box<BoardFollow>),
    /// In the replica.
    Here(Box<Followed>),
}

/// A board that is followed in the replica.
pub(in crate::core) struct Followed {
    here: Arc<Here>,
    caller: Caller,
    board: BoardName,
    agent_id: String,
    filter: Filter,
    watch: Watch,
    /// Whether the next position is the first after a gap.
    has_gap: bool,
    look_at: Instant,
}

impl BoardStream {
    /// What comes next, however long it takes.
    pub(in crate::core) async fn next(&mut self) -> BoardNews {
        match self {
            Self::Upstream(follow) => follow.next().await,
            Self::Here(followed) => followed.next().await,
        }
    }
}

impl Core {
    /// Begins to follow a board.
    pub(in crate::core::blackboard) async fn follow_board(
        &self,
        caller: &Caller,
        request: WatchRequest,
    ) -> Result<BoardStream, Problem> {
        if let Some(here) = &self.here
            && here.board(&request.board, Level::Eventual).is_some()
        {
            let begun = Followed::begin(here, caller, request);
            let followed = self.note_here(caller, || ACTION.to_owned(), begun)?;
            return Ok(BoardStream::Here(Box::new(followed)));
        }
        let follow = self.upstream.follow_board(caller.login(), request).await?;
        Ok(BoardStream::Upstream(Box::new(follow)))
    }
}

impl Followed {
    fn begin(here: &Arc<Here>, caller: &Caller, request: WatchRequest) -> Result<Self, Problem> {
        let board: BoardName = request
            .board
            .parse()
            .map_err(|_| Problem::invalid("board", BoardName::EXPECTED))?;
        let filter = if request.key.is_empty() {
            Filter::Prefix(request.prefix.into())
        } else {
            Filter::Key(key(&request.key)?)
        };
        let (watch, has_gap) = begin(here, &board, &filter, request.after)?;
        let followed = Self {
            here: here.clone(),
            caller: caller.without_key(),
            board,
            agent_id: request.agent_id,
            filter,
            watch,
            has_gap,
            look_at: Instant::now() + LOOK_EVERY,
        };
        followed.judge()?;
        Ok(followed)
    }

    fn judge(&self) -> Result<(), Problem> {
        let board = self.here.board(self.board.as_str(), Level::Eventual);
        let board = board.ok_or_else(|| not_found(&self.board))?;
        let judged = self
            .here
            .judge(&board, &self.caller, &self.agent_id, Want::Read);
        judged.map(drop)
    }

    async fn next(&mut self) -> BoardNews {
        if std::mem::take(&mut self.has_gap) {
            return BoardNews::Compacted {
                up_to: self.watch.position(),
            };
        }
        // also where something is always there to be told
        if Instant::now() >= self.look_at {
            self.look_at = Instant::now() + LOOK_EVERY;
            if let Err(problem) = self.judge() {
                return BoardNews::Over(problem);
            }
        }
        match tokio::time::timeout_at(self.look_at, self.watch.next()).await {
            Ok(Ok(News { changes, up_to })) => BoardNews::Changes {
                changes: changes.iter().map(|change| told(change)).collect(),
                up_to,
            },
            Ok(Err(WatchError::Lagged)) => BoardNews::Lagged {
                up_to: self.watch.position(),
            },
            Ok(Err(WatchError::Compacted)) => {
                match begin(&self.here, &self.board, &self.filter, None) {
                    Ok((watch, _)) => self.watch = watch,
                    Err(problem) => return BoardNews::Over(problem),
                }
                BoardNews::Compacted {
                    up_to: self.watch.position(),
                }
            }
            Ok(Err(WatchError::NoBoard(name))) => BoardNews::Over(not_found(&name)),
            Ok(Err(WatchError::Failed(failed))) => BoardNews::Over(unreadable(&failed)),
            Err(_) => BoardNews::Changes {
                changes: Vec::new(),
                up_to: self.watch.position(),
            },
        }
    }
}

/// Begins a watch; from now on, with a gap before, where what came after a position
/// can no longer be told.
fn begin(
    here: &Here,
    board: &BoardName,
    filter: &Filter,
    after: Option<Position>,
) -> Result<(Watch, bool), Problem> {
    let watch = |after| here.replica.watch(board, filter.clone(), after);
    let begun = match watch(after) {
        Err(WatchError::Compacted) => watch(None).map(|watch| (watch, true)),
        begun => begun.map(|watch| (watch, false)),
    };
    begun.map_err(|error| match error {
        WatchError::NoBoard(name) => not_found(&name),
        WatchError::Failed(failed) => unreadable(&failed),
        WatchError::Compacted | WatchError::Lagged => Problem::new(
            Reason::Unavailable,
            "the board cannot be followed now; try again",
        ),
    })
}

fn told(change: &Change) -> BoardChange {
    let kind = match change.kind {
        ChangeKind::Put => Kind::Put,
        ChangeKind::Delete => Kind::Delete,
        ChangeKind::Expire => Kind::Expire,
    };
    let entry = Entry {
        key: change.key.to_string(),
        revision: change.revision,
        writer: change.writer.to_string(),
        ..Entry::default()
    };
    let entry = match change.found.as_ref().map(|found| &found.content) {
        Some(Content::Eventual(value)) => Entry {
            value: value.value.to_string(),
            machine_id: machine(value.dot).unwrap_or_default(),
            written_at: timestamp(value.time.millis()),
            expires_at: value.expires_at_millis.and_then(timestamp),
            ..entry
        },
        Some(Content::Session(entry)) => entry.clone(),
        None => entry,
    };
    BoardChange {
        kind: kind.into(),
        entry: Some(entry),
        previous: None,
        previous_revision: None,
    }
}
