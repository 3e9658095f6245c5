//! Taking what was written to replicas.

use authguardian_proto::{
    board::Key,
    crdt::{Actor, Version, Write},
    ids::{AgentId, BoardName},
    reason::{Problem, Reason},
};

use super::{Taken, eligible};
use crate::{
    audit::Context,
    blackboard::{
        Blackboard, Who, store,
        write::{Act, MergedWrite, Outcome},
    },
    error::{Error, Result},
};

/// Most incarnations that a replica makes up while it is cut off.
const MADE_UP: i64 = 1000;

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
        epoch: i64,
        writes: Vec<PushedWrite>,
    ) -> Result<Vec<Refusal>> {
        self.check_incarnation(actor).await?;
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
        // at once: they may share a transaction
        let pushing = boards
            .into_iter()
            .map(|(board, writes)| self.push_to(context.clone(), actor, epoch, board, writes));
        let refused = futures::future::join_all(pushing).await;
        let refused: Vec<Vec<Refusal>> = refused.into_iter().collect::<Result<_>>()?;
        Ok(refused.into_iter().flatten().collect())
    }

    async fn check_incarnation(&self, actor: Actor) -> Result<()> {
        let mut connection = self.db.read().await?;
        let (machine, incarnation) = (actor.machine, actor.incarnation);
        let known =
            store::is_known_incarnation(&mut connection, machine, incarnation, MADE_UP).await?;
        if known {
            return Ok(());
        }
        Err(Error::new(
            Reason::ResourceExhausted,
            format!("expected an incarnation that was given, or one of {MADE_UP} made up"),
        ))
    }

    async fn push_to(
        &self,
        context: Context,
        actor: Actor,
        epoch: i64,
        board: BoardName,
        writes: Vec<MergedWrite>,
    ) -> Result<Vec<Refusal>> {
        let who = Who::Machine(actor.machine);
        let keys: Vec<(Key, u64)> = writes
            .iter()
            .map(|write| (write.key.clone(), write.version.dot.counter))
            .collect();
        let act = Act::Merge {
            actor,
            epoch,
            writes,
        };
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
        if refused.is_empty() {
            return Ok(told);
        }
        let mut connection = self.db.read().await?;
        // what a machine may have no replica of it is not told on the way of a refusal
        let machine = eligible::machine(&mut connection, actor.machine).await?;
        let may_have = eligible::may_have(&mut connection, &machine, &board).await?;
        for (key, counter, problem) in refused {
            let siblings = if may_have {
                store::versions_of(&mut connection, &board, &key).await?
            } else {
                Vec::new()
            };
            told.push(Refusal {
                siblings,
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
