//! Taking what was written to replicas.

use authguardian_proto::{
    board::Key,
    crdt::{Actor, Version, Write},
    ids::{AgentId, BoardName},
    reason::{Problem, Reason},
};

use super::Taken;
use crate::{
    audit::Context,
    blackboard::{
        Blackboard, Who, store,
        write::{Act, MergedWrite, Outcome},
    },
    error::{Error, Result},
};

/// A write that a replica hands over.
#[derive(Debug, Clone)]
pub struct PushedWrite {
    /// To which board.
    pub board: BoardName,
    /// To which key.
    pub key: Key,
    /// What.
    pub version: Version<Write>,
    /// On whose behalf.
    pub agent: AgentId,
}

/// A write that was not taken, and what is in its key instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// To which board.
    pub board: BoardName,
    /// To which key.
    pub key: Key,
    /// Which of the replica's writes.
    pub counter: u64,
    /// Why not.
    pub problem: Problem,
    /// What is there.
    pub siblings: Vec<Taken>,
}

impl Blackboard {
    /// Takes writes of a replica, in the order of their counters, board by board;
    /// those that were taken before change nothing. What the board is not for is
    /// refused for good.
    ///
    /// # Errors
    /// When the database refuses: then a part may have been taken, and all can be
    /// handed over again.
    pub async fn push(
        &self,
        context: Context,
        actor: Actor,
        writes: Vec<PushedWrite>,
    ) -> Result<Vec<Refusal>> {
        let mut boards: Vec<(BoardName, Vec<MergedWrite>)> = Vec::new();
        for write in writes {
            let merged = MergedWrite {
                key: write.key,
                version: write.version,
                agent: write.agent,
            };
            match boards.iter_mut().find(|(board, _)| *board == write.board) {
                Some((_, some)) => some.push(merged),
                None => boards.push((write.board, vec![merged])),
            }
        }
        let mut refused = Vec::new();
        for (board, writes) in boards {
            refused.extend(self.push_to(context.clone(), actor, board, writes).await?);
        }
        Ok(refused)
    }

    async fn push_to(
        &self,
        context: Context,
        actor: Actor,
        board: BoardName,
        writes: Vec<MergedWrite>,
    ) -> Result<Vec<Refusal>> {
        let who = Who::Machine(actor.machine);
        let keys: Vec<(Key, u64)> = writes
            .iter()
            .map(|write| (write.key.clone(), write.version.dot.counter))
            .collect();
        let act = Act::Merge { actor, writes };
        let refused = match self.write(context, who, board.clone(), act).await {
            Ok(written) => match written.outcome {
                Outcome::Merge { refused, .. } => refused
                    .into_iter()
                    .map(|write| (write.key, write.counter, write.problem))
                    .collect(),
                _ => {
                    return Err(Error::internal(
                        "writes of a replica came to something else",
                    ));
                }
            },
            // none of them can ever be taken
            Err(error) if is_final(error.reason()) => {
                let problem = error.problem().clone();
                let all = keys.into_iter();
                all.map(|(key, counter)| (key, counter, problem.clone()))
                    .collect::<Vec<_>>()
            }
            Err(error) => return Err(error),
        };
        let mut told = Vec::with_capacity(refused.len());
        for (key, counter, problem) in refused {
            let mut connection = self.db.read().await?;
            told.push(Refusal {
                siblings: store::versions_of(&mut connection, &board, &key).await?,
                board: board.clone(),
                key,
                counter,
                problem,
            });
        }
        Ok(told)
    }
}

fn is_final(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BoardNotFound | Reason::InvalidArgument | Reason::PermissionDenied
    )
}
