//! Boards that are answered for here, out of the replica: who may do what with
//! them, as the control plane last told.

mod eventual;
mod keep;
mod marks;
mod repeats;
mod session;
mod watch;

use std::sync::Arc;

use arc_swap::ArcSwap;
use authguardian_proto::{
    agents,
    blackboard::v1::Suspended,
    board::Level,
    ids::{AgentId, BoardName},
    reason::{Problem, Reason},
    zone::Zone,
};
use tokio::sync::{Mutex, Notify, watch as latest};

use marks::Marks;
use repeats::Repeats;
pub(in crate::core) use watch::BoardStream;

use crate::{
    core::{Caller, Core, Outcome, note::is_refusal},
    replica::{BoardState, Failed, Replica},
};

/// The replica of this machine, and what goes with it.
pub struct Here {
    pub(in crate::core) replica: Replica,
    /// Who is suspended, as was told last.
    suspended: ArcSwap<Suspended>,
    /// What callers have seen of session boards.
    marks: Marks,
    /// What came of writes that may be asked for again.
    repeats: Repeats,
    /// In which epoch of the database the control plane has said as whom this replica
    /// writes; `None`: it is to say so first.
    opened_in: latest::Sender<Option<u64>>,
    /// Asks for that.
    to_be_opened: Notify,
    /// Of opening and handing over: one at a time.
    turn: Mutex<()>,
    /// Whether the replica has once had all that there was.
    has_caught_up: latest::Sender<bool>,
}

/// What a caller wants with a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Read,
    Write,
}

impl Here {
    /// Goes with a replica.
    pub fn new(replica: Replica) -> Arc<Self> {
        Arc::new(Self {
            replica,
            suspended: ArcSwap::default(),
            marks: Marks::default(),
            repeats: Repeats::default(),
            opened_in: latest::Sender::new(None),
            to_be_opened: Notify::new(),
            turn: Mutex::new(()),
            has_caught_up: latest::Sender::new(false),
        })
    }

    /// A board of this level that is answered for here: an eventual one from when it
    /// was here as a whole for the first time, a session one while it is.
    fn board(&self, name: &str, level: Level) -> Option<Arc<BoardState>> {
        let board = self.replica.board(&name.parse().ok()?)?;
        let is_here = match board.level {
            Level::Eventual => board.position.is_some(),
            Level::Session => board.is_ready(),
            Level::Strong => false,
        };
        (is_here && board.level == level).then_some(board)
    }

    /// Whether an operator has suspended an agent, this machine or everything, as was told
    /// last.
    pub(in crate::core) fn is_suspended(&self, agent: &AgentId) -> bool {
        let suspended = self.suspended.load();
        let mut agents = suspended.agents.iter();
        suspended.everything || agents.any(|one| one == agent.as_str())
    }

    /// As whom a caller may do something: as the agent that it names, else as the
    /// first that the board lets.
    fn judge(
        &self,
        board: &BoardState,
        caller: &Caller,
        named: &str,
        want: Want,
    ) -> Result<AgentId, Problem> {
        let session = caller.session();
        let agents = session.agent_ids.iter();
        let mut first = None;
        for agent in agents.filter(|agent| named.is_empty() || agent.as_str() == named) {
            match self.judge_agent(board, agent, want) {
                Ok(()) => return Ok(agent.clone()),
                Err(problem) => first = first.or(Some(problem)),
            }
        }
        Err(first.unwrap_or_else(|| not_found(&board.name)))
    }

    fn judge_agent(&self, board: &BoardState, agent: &AgentId, want: Want) -> Result<(), Problem> {
        let (readers, writers) = (&board.terms.readers, &board.terms.writers);
        let may_write = agents::lets(writers, agent);
        if !may_write && !agents::lets(readers, agent) {
            return Err(not_found(&board.name));
        }
        if want == Want::Write && !may_write {
            let detail = format!(
                "agent `{agent}` may read board `{}`, and not write",
                board.name
            );
            return Err(Problem::new(Reason::PermissionDenied, detail));
        }
        let suspended = self.suspended.load();
        let mut boards = suspended.boards.iter();
        if self.is_suspended(agent) || boards.any(|one| one == board.name.as_str()) {
            return Err(Problem::new(
                Reason::Suspended,
                "an operator has suspended this agent, its machine, the board or everything",
            ));
        }
        Ok(())
    }
}

impl Core {
    /// What is answered for here, if anything.
    fn here(&self) -> Option<&Here> {
        self.here.as_deref()
    }

    /// Notes a refusal of which the control plane does not hear, since it was made
    /// here; what comes from beyond every configured network is noted anyway.
    fn note_here<T>(
        &self,
        caller: &Caller,
        action: impl FnOnce() -> String,
        judged: Result<T, Problem>,
    ) -> Result<T, Problem> {
        if let Err(problem) = &judged
            && is_refusal(problem.reason)
            && caller.peer.zone() != Zone::External
        {
            let reason = Some(problem.reason);
            self.note(caller, action(), None, Outcome::Refused, reason);
        }
        judged
    }
}

fn not_found(name: &BoardName) -> Problem {
    let detail = format!("there is no board `{name}`; `board list` shows those there are");
    Problem::new(Reason::BoardNotFound, detail).at("board")
}

fn key_not_found(key: &str) -> Problem {
    Problem::new(Reason::KeyNotFound, format!("there is no key `{key}`")).at("key")
}

/// The replica cannot be read.
fn unreadable(failed: &Failed) -> Problem {
    if let Failed::Storage(cause) = failed {
        tracing::error!(%cause, "the replica of boards cannot be read");
    }
    Problem::new(
        Reason::Unavailable,
        "the replica of this board cannot be read now",
    )
}
