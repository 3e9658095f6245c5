//! Making boards and looking at them.

use std::collections::BTreeSet;

use authguardian_proto::{
    ids::BoardName,
    reason::{Problem, Reason},
};

use super::{
    Blackboard, Board, BoardUpdate, NewBoard, Who,
    access::{Rights, Want},
    board::{Terms, not_found},
    store,
};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::Result,
};

/// Most boards that are looked at for one page of those that an agent may read.
const LOOKED_AT: i64 = 1000;

impl Blackboard {
    /// Makes a board.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field; `REVISION_CONFLICT` where there is one
    /// of the name; `REQUEST_ID_REUSED`.
    pub async fn create(&self, context: Context, new: NewBoard) -> Result<Board> {
        let terms = new.terms.clone().applied_to(Terms::default())?;
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "blackboard.create_board", &new)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(board) => return Ok(board),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        if !store::insert_board(connection, &new.name, new.level, &terms, now).await? {
            let detail = format!("there is a board `{}` already", new.name);
            return Err(Problem::new(Reason::RevisionConflict, detail)
                .at("board.name")
                .into());
        }
        let entry = Entry::ok(context, "board.create", new.name.to_string());
        audit::append(connection, now, &[entry]).await?;
        let board = one(connection, &new.name).await?;
        request.finish(&board).await?;
        Ok(board)
    }

    /// Changes what is said of a board.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field; `BOARD_NOT_FOUND`;
    /// `REQUEST_ID_REUSED`.
    pub async fn update(
        &self,
        context: Context,
        name: BoardName,
        update: BoardUpdate,
    ) -> Result<Board> {
        let now = self.ambient.clock.now();
        let key =
            context.request_key(&self.ambient, "blackboard.update_board", &(&name, &update))?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(board) => return Ok(board),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        let (mut locked, _) = store::lock_boards(connection, BTreeSet::from([&name])).await?;
        let before = locked.remove(&name).ok_or_else(|| not_found(&name))?;
        let terms = update.applied_to(before.terms.clone())?;
        store::update_board(connection, &name, &terms).await?;
        let entry = Entry::ok(context, "board.update", name.to_string());
        audit::append(connection, now, &[entry]).await?;
        let board = Board { terms, ..before };
        request.finish(&board).await?;
        Ok(board)
    }

    /// One board, as an operator sees it.
    ///
    /// # Errors
    /// `BOARD_NOT_FOUND`.
    pub async fn board(&self, name: &BoardName) -> Result<Board> {
        one(&mut *self.db.read().await?, name).await
    }

    /// Boards by name, after one (`None`: from the first), as an operator sees
    /// them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn boards(&self, after: Option<&BoardName>, limit: i64) -> Result<Vec<Board>> {
        store::list_boards(&mut *self.db.read().await?, after, limit).await
    }

    /// Boards that somebody may read, by name, after one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn readable(
        &self,
        who: &Who,
        after: Option<&BoardName>,
        limit: usize,
    ) -> Result<Vec<Board>> {
        let mut connection = self.db.read().await?;
        let all = store::list_boards(&mut connection, after, LOOKED_AT).await?;
        let calls = all.iter().map(|board| (who, Some(board)));
        let rights = Rights::read(&mut connection, calls, self.ambient.clock.now()).await?;
        Ok(all
            .into_iter()
            .filter(|board| {
                rights
                    .check(who, Some(board), &board.name, Want::Read)
                    .is_ok()
            })
            .take(limit)
            .collect())
    }
}

async fn one(connection: &mut sqlx::PgConnection, name: &BoardName) -> Result<Board> {
    let mut found = store::boards(connection, BTreeSet::from([name])).await?;
    found.remove(name).ok_or_else(|| not_found(name))
}
