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
    core::{Caller, Core, Tool},
    replica::{BoardState, Content, Found},
    upstream::{Login, Upstream},
};

/// How long a replica that is behind the caller is waited for: mostly it is behind by
/// a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(100);

/// A read of a board whose writes are ordered.
pub(in crate::core::blackboard) trait Ordered:
    Clone + Send + Sync
{
    /// What is told.
    type Answer: Send;

    /// Which tool it is for.
    const TOOL: Tool;

    /// Of which board, and as which agent.
    fn board_and_agent(&self) -> (&str, &str);

    /// Whether only the control plane can answer.
    fn is_strong(&self) -> bool;

    /// Only an answer that is at least as new.
    fn after(&mut self) -> &mut Option<Position>;

    /// Reads in the replica.
    fn read(&self, here: &Here, board: &BoardState) -> Result<Self::Answer, Problem>;

    /// Asks the control plane.
    fn forward(
        self,
        upstream: &Upstream,
        login: &Login,
    ) -> impl Future<Output = Result<Self::Answer, Problem>> + Send;

    /// Where the board was.
    fn position(answer: &Self::Answer) -> Option<Position>;
}

impl Ordered for GetRequest {
    type Answer = GetResponse;

    const TOOL: Tool = Tool::BlackboardRead;

    fn board_and_agent(&self) -> (&str, &str) {
        (&self.board, &self.agent_id)
    }

    fn is_strong(&self) -> bool {
        self.strong
    }

    fn after(&mut self) -> &mut Option<Position> {
        &mut self.after
    }

    fn read(&self, here: &Here, board: &BoardState) -> Result<GetResponse, Problem> {
        here.read_session(board, self)
    }

    async fn forward(mut self, upstream: &Upstream, login: &Login) -> Result<GetResponse, Problem> {
        // an absence has a position too
        self.or_absent = true;
        upstream.board_get(login, self).await
    }

    fn position(answer: &GetResponse) -> Option<Position> {
        answer.position
    }
}

impl Ordered for ListRequest {
    type Answer = ListResponse;

    const TOOL: Tool = Tool::BlackboardList;

    fn board_and_agent(&self) -> (&str, &str) {
        (&self.board, &self.agent_id)
    }

    fn is_strong(&self) -> bool {
        self.strong
    }

    fn after(&mut self) -> &mut Option<Position> {
        &mut self.after
    }

    fn read(&self, here: &Here, board: &BoardState) -> Result<ListResponse, Problem> {
        here.list_session(board, self)
    }

    async fn forward(self, upstream: &Upstream, login: &Login) -> Result<ListResponse, Problem> {
        upstream.board_list(login, self).await
    }

    fn position(answer: &ListResponse) -> Option<Position> {
        answer.position
    }
}

impl Core {
    /// Reads a board that is not answered for here as eventual: in the replica, where
    /// that has come as far as the caller has seen, else at the control plane. What is
    /// told is marked.
    pub(in crate::core::blackboard) async fn read_ordered<R: Ordered>(
        &self,
        caller: &Caller,
        mut request: R,
    ) -> Result<R::Answer, Problem> {
        let named = *request.after();
        let (board, agent) = request.board_and_agent();
        let (board, agent) = (board.to_owned(), agent.to_owned());
        if let Some(here) = self.here()
            && !request.is_strong()
            && let Some(known) = here.session(caller, &board, request.after()).await
        {
            let judged = here.judge(&known, caller, &agent, Want::Read);
            self.note_here(caller, || R::TOOL.action(), judged)?;
            let answer = request.read(here, &known)?;
            self.mark(caller, &board, R::position(&answer));
            return Ok(answer);
        }
        let forwarded = request.clone().forward(&self.upstream, caller.login());
        let answer = match forwarded.await {
            // of a position that this edge has asked for, and its caller has not, nobody knows
            // any more: then nothing is older
            Err(problem)
                if named.is_none()
                    && request.after().is_some()
                    && matches!(problem.reason, Reason::Compacted | Reason::InvalidArgument) =>
            {
                if let Some((here, board)) = self.ordered_here(&board) {
                    here.marks.forget(caller.api_key_id(), &board);
                }
                *request.after() = None;
                request.forward(&self.upstream, caller.login()).await?
            }
            answer => answer?,
        };
        self.mark(caller, &board, R::position(&answer));
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
            position: Some(position),
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
        Ok(ListResponse {
            entries: entries.collect::<Result<_, _>>()?,
            next_page_token: listed.next.map(|key| key.to_string()).unwrap_or_default(),
            position: Some(position),
            copies: 0,
        })
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
