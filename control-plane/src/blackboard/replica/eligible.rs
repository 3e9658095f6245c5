//! The boards that a machine may have replicas of.

use std::collections::BTreeMap;

use authguardian_proto::ids::{BoardName, MachineId};
use sqlx::PgConnection;

use crate::{
    blackboard::{access::is_replicated, board::Board, store},
    error::{Error, Result},
    identity::{self, Machine},
};

/// Boards that are read at once.
const PAGE: i64 = 1000;

/// A machine whose calls count.
///
/// # Errors
/// `MACHINE_BANNED`, `MACHINE_EVICTED`.
pub(super) async fn machine(connection: &mut PgConnection, id: MachineId) -> Result<Machine> {
    let mut found = identity::machine::machines(connection, &[id]).await?;
    let machine = found
        .pop()
        .ok_or_else(|| Error::internal("a machine is gone"))?;
    machine.state.check()?;
    Ok(machine)
}

/// All boards that it may have replicas of.
pub(super) async fn boards(
    connection: &mut PgConnection,
    machine: &Machine,
) -> Result<BTreeMap<BoardName, Board>> {
    let mut boards = BTreeMap::new();
    let mut after: Option<BoardName> = None;
    loop {
        let page = store::list_boards(connection, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(boards);
        };
        after = Some(last.name.clone());
        let theirs = page.into_iter().filter(|one| is_replicated(one, machine));
        boards.extend(theirs.map(|board| (board.name.clone(), board)));
    }
}

/// Whether it may have a replica of one.
pub(super) async fn may_have(
    connection: &mut PgConnection,
    machine: &Machine,
    name: &BoardName,
) -> Result<bool> {
    let found = store::boards(connection, [name].into()).await?;
    Ok(found
        .get(name)
        .is_some_and(|board| is_replicated(board, machine)))
}
