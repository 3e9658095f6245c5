//! Boards: keys and values that agents share, with what each board promises: in
//! the replica of this machine ([`here`]), and at the control plane.

use authguardian_proto::{common::v1::Position, ids::AgentId, reason::Problem};

use super::{
    Caller,
    form::{Field, Form, Kind},
    request_permission::REQUEST_ID,
};

mod delete;
mod entry;
mod events;
mod follow;
mod here;
mod list;
mod lock;
mod read;
mod transaction;
mod uri;
mod write;

pub use delete::BlackboardDeleteResult;
pub use entry::{EntryResult, SiblingResult};
pub use events::{
    BoardEvent, BoardEventId, BoardEventName, BoardEventsWanted, HeardOfBoard,
    ParseBoardEventIdError,
};
pub use follow::BoardSubscription;
pub use here::Here;
pub use list::BlackboardListResult;
pub use lock::LockResult;
pub use read::BlackboardReadResult;
pub use transaction::{BlackboardTransactionResult, OperationResult};
pub use uri::BoardUri;
pub use write::BlackboardWriteResult;

pub(super) use delete::FIELDS as DELETE;
pub(super) use follow::Followed;
pub(super) use list::FIELDS as LIST;
pub(super) use lock::{ACQUIRE, RELEASE, RENEW};
pub(super) use read::FIELDS as READ;
pub(super) use transaction::FIELDS as TRANSACTION;
pub(super) use uri::{ENCODED, decoded};
pub(super) use write::FIELDS as WRITE;

/// The board of tools that name none.
const DEFAULT_BOARD: &str = "eventual";
/// The board of locks that name none.
const DEFAULT_BOARD_OF_LOCKS: &str = "strong";

const BOARD: Field = Field::optional("board", Kind::Board, "Which board; default `eventual`");

const KEY: Field = Field::required(
    "key",
    Kind::Key,
    "Which key: 1 to 512 bytes of any text without NUL",
);

const AGENT_ID: Field = Field::optional(
    "agent_id",
    Kind::Agent,
    "As which agent, where the API key speaks for several; default the first of them that the board lets",
);

const IF_REVISION: Field = Field::optional(
    "if_revision",
    Kind::Revision,
    "Only if the key's revision is this, else `REVISION_CONFLICT`; 0: only if the key is not there",
);

const IF_LOCK: Field = Field::optional(
    "if_lock",
    Kind::LockHeld,
    "Only while the agent holds this lock of the same board, as `lock_acquire` told it",
);

const CONSISTENCY: Field = Field::optional(
    "consistency",
    Kind::OneOf(&["board", "strong"]),
    "`board` (default): as the board promises; `strong`: linearizable on any board",
);

const AFTER_REVISION: Field = Field::optional(
    "after_revision",
    Kind::Position,
    "Only an answer at least this new: a revision of the board, or with the epoch that it was told in as \
     `epoch.revision`",
);

fn board(form: &Form) -> String {
    form.text("board").unwrap_or(DEFAULT_BOARD).to_owned()
}

fn is_strong(form: &Form) -> bool {
    form.text("consistency") == Some("strong")
}

/// As which of its agents a caller acts, as messages have it: empty where it names
/// none, for the first that the board lets.
fn acting(caller: &Caller, form: &Form) -> Result<String, Problem> {
    let Some(agent) = form.parsed::<AgentId>("agent_id")? else {
        return Ok(String::new());
    };
    caller.speaks_for(&agent)?;
    Ok(agent.to_string())
}

/// Messages have one, always.
fn told(position: Option<Position>) -> Result<Position, Problem> {
    position.ok_or_else(super::decision::not_understood)
}
