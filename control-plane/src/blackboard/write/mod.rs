//! Writing to boards: every act is planned in memory on what its batch has
//! locked, and becomes one revision of its board.

mod act;
mod batch;
mod plan;

pub use act::{
    Act, Compare, Condition, Deed, LockAct, LockHeld, MergedWrite, Operation, Outcome, Performed,
    RefusedWrite, Ttl,
};
use authguardian_proto::ids::BoardName;
pub(super) use batch::{Batch, Request};
pub(super) use plan::{Known, Plan};

use super::{Blackboard, Who};
use crate::{audit::Context, error::Result, events::Position};

pub(super) const METHOD: &str = "blackboard.write";

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What.
    pub outcome: Outcome,
    /// Where the board is with it.
    pub position: Position,
    /// How many database nodes have it, at least.
    pub copies: u32,
}

impl Blackboard {
    /// Does something to a board, once for each request id.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` or `TOO_LARGE` with the field, `BOARD_NOT_FOUND`,
    /// `PERMISSION_DENIED`, `TRUST_TOO_LOW`, `SUSPENDED`, `ZONE_FORBIDS`,
    /// `UNSUPPORTED_FOR_LEVEL`, `REVISION_CONFLICT`, `RESOURCE_EXHAUSTED`,
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`, `UNAVAILABLE`.
    pub async fn write(
        &self,
        context: Context,
        who: Who,
        board: BoardName,
        act: Act,
    ) -> Result<Written> {
        act.check()?;
        let agent = match &who {
            Who::Agent { agent, .. } => agent.as_ref(),
            Who::Operator(_) | Who::Machine(_) | Who::System => None,
        };
        let key = context.request_key(&self.ambient, METHOD, &(&board, agent, &act))?;
        self.writes
            .call(Request {
                context,
                who,
                board,
                act,
                key,
            })
            .await
    }
}
