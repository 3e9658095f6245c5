//! Session boards: read in the replica where it has come as far as the caller has
//! seen, and forwarded where it has not, or where nobody here knows what the caller
//! has seen.

use std::time::Duration;

use authguardian_proto::{
    blackboard::v1::{GetRequest, GetResponse, ListRequest, ListResponse},
    board::Level,
    common::v1::Position,
    ids::BoardName,
    reason::{Problem, Reason},
};
use tokio::time::Instant;

use super::{
    Here, Want,
    eventual::{key, range},
    marks::later,
    unreadable,
};
use crate::{
    core::{Caller, Core},
    replica::{BoardState, Content, Found},
};

/// How long a replica that is behind the caller is waited for: mostly it is behind by
/// a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(100);

impl Core {
    /// Reads a key of a board that is not answered for here as eventual.
    pub(in crate::core::blackboard) async fn read_session(
        &self,
        caller: &Caller,
        mut request: GetRequest,
    ) -> Result<GetResponse, Problem> {
        let named = request.after;
        if let Some(here) = self.here()
            && !request.strong
            && let Some(board) = here
                .session(caller, &request.board, &mut request.after)
                .await
        {
            here.judge(&board, caller, &request.agent_id, Want::Read)?;
            let answer = here.read_session(&board, &request)?;
            self.mark(caller, &request.board, answer.position);
            return Ok(answer);
        }
        request.or_absent = true;
        let board = request.board.clone();
        let forward = async |request| self.upstream.board_get(caller.login(), request).await;
        let answer = match forward(request.clone()).await {
            Err(problem) if self.forgets_mark(caller, &board, named.is_some(), &problem) => {
                request.after = None;
                forward(request).await?
            }
            answer => answer?,
        };
        self.mark(caller, &board, answer.position);
        Ok(answer)
    }

    /// As [`Core::read_session`], of the keys of a prefix.
    pub(in crate::core::blackboard) async fn list_session(
        &self,
        caller: &Caller,
        mut request: ListRequest,
    ) -> Result<ListResponse, Problem> {
        let named = request.after;
        if let Some(here) = self.here()
            && !request.strong
            && let Some(board) = here
                .session(caller, &request.board, &mut request.after)
                .await
        {
            here.judge(&board, caller, &request.agent_id, Want::Read)?;
            let answer = here.list_session(&board, &request)?;
            self.mark(caller, &request.board, answer.position);
            return Ok(answer);
        }
        let board = request.board.clone();
        let forward = async |request| self.upstream.board_list(caller.login(), request).await;
        let answer = match forward(request.clone()).await {
            Err(problem) if self.forgets_mark(caller, &board, named.is_some(), &problem) => {
                request.after = None;
                forward(request).await?
            }
            answer => answer?,
        };
        self.mark(caller, &board, answer.position);
        Ok(answer)
    }

    /// A caller is told of a board as it is at a position.
    pub(in crate::core::blackboard) fn mark(
        &self,
        caller: &Caller,
        board: &str,
        position: Option<Position>,
    ) {
        if let (Some((here, board)), Some(position)) = (self.ordered_here(board), position) {
            here.marks.raise(caller.api_key_id(), &board, position);
        }
    }

    /// A caller is told of changes of a board up to a position.
    pub(in crate::core::blackboard) fn mark_told(
        &self,
        caller: &Caller,
        board: &str,
        position: Position,
    ) {
        if let Some((here, board)) = self.ordered_here(board) {
            here.marks
                .raise_known(caller.api_key_id(), &board, position);
        }
    }

    /// A session board that there is a replica of, be it whole or not.
    fn ordered_here(&self, board: &str) -> Option<(&Here, BoardName)> {
        let (here, board) = (self.here()?, board.parse().ok()?);
        let known = here.replica.board(&board)?;
        (known.level == Level::Session).then_some((here, board))
    }

    /// Whether a forwarded read failed for what this edge has asked for and its caller has
    /// not: then nobody knows of that position any more, and nothing is older.
    fn forgets_mark(&self, caller: &Caller, board: &str, named: bool, problem: &Problem) -> bool {
        let is_gone = matches!(problem.reason, Reason::Compacted | Reason::InvalidArgument);
        let known = self.ordered_here(board).filter(|_| is_gone && !named);
        if let Some((here, board)) = &known {
            here.marks.forget(caller.api_key_id(), board);
        }
        known.is_some()
    }
}

impl Here {
    /// A session board, and where it is, once it has come as far as the caller has
    /// seen here or names in `after`; that is what `after` is then. `None`: it is to
    /// be forwarded.
    async fn session(
        &self,
        caller: &Caller,
        name: &str,
        after: &mut Option<Position>,
    ) -> Option<std::sync::Arc<BoardState>> {
        let board = self.board(name, Level::Session)?;
        let mark = self.marks.of(caller.api_key_id(), &board.name)?;
        let named = after.map(|named| match named.epoch {
            // of the present one
            0 => Position {
                epoch: mark.epoch,
                ..named
            },
            _ => named,
        });
        let wanted = named.map_or(mark, |named| later(mark, named));
        *after = Some(wanted);
        let deadline = Instant::now() + PATIENCE;
        let has_come = self
            .replica
            .wait_for(&board.name, wanted.epoch, wanted.revision, deadline);
        if !has_come.await {
            return None;
        }
        // as it is now: what is read after this is not older
        let board = self.board(name, Level::Session)?;
        (board.position?.epoch == wanted.epoch).then_some(board)
    }

    fn read_session(
        &self,
        board: &BoardState,
        request: &GetRequest,
    ) -> Result<GetResponse, Problem> {
        let key = key(&request.key)?;
        let (found, position) = self
            .replica
            .get_as_of(&board.name, &key)
            .map_err(|failed| unreadable(&failed))?;
        let position = position.ok_or_else(moved)?;
        let entry = match found.map(|found| found.content) {
            None => None,
            Some(Content::Session(entry)) => Some(entry),
            Some(Content::Eventual(_)) => return Err(confused()),
        };
        Ok(GetResponse {
            position: Some(reached(
                position,
                entry.as_ref().map(|entry| entry.revision),
            )),
            entry,
            copies: 0,
        })
    }

    fn list_session(
        &self,
        board: &BoardState,
        request: &ListRequest,
    ) -> Result<ListResponse, Problem> {
        let (listed, position) = self
            .replica
            .list_as_of(&board.name, &range(request)?, request.keys_only)
            .map_err(|failed| unreadable(&failed))?;
        let position = position.ok_or_else(moved)?;
        let entries = listed.entries.into_iter().map(|(_, found)| match found {
            Found {
                content: Content::Session(entry),
                ..
            } => Ok(entry),
            Found { .. } => Err(confused()),
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let newest = entries.iter().map(|entry| entry.revision).max();
        Ok(ListResponse {
            entries,
            next_page_token: listed.next.map(|key| key.to_string()).unwrap_or_default(),
            position: Some(reached(position, newest)),
            copies: 0,
        })
    }
}

/// Parts of a replica may be ahead of where the whole of it is.
fn reached(position: Position, entry: Option<u64>) -> Position {
    Position {
        revision: entry.map_or(position.revision, |entry| entry.max(position.revision)),
        ..position
    }
}

/// The replica has begun to take more of the board since it was looked at.
fn moved() -> Problem {
    Problem::new(
        Reason::Unavailable,
        "the replica of this board is at no position now; try again",
    )
}

fn confused() -> Problem {
    Problem::new(Reason::Internal, "the replica has another kind of board")
}
