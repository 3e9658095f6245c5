//! Eventual boards: read and written in the replica, whether the control plane is
//! there or not.

use std::time::Duration;

use authguardian_proto::{
    blackboard::v1::{DeleteRequest, GetRequest, ListRequest, PutRequest},
    board::{Key, Level},
    common::v1::Position,
    ids::AgentId,
    reason::{Problem, Reason},
};

use super::{Here, Want, key_not_found, repeats::digest, unreadable};
use crate::{
    core::{
        Caller, Core, Tool,
        blackboard::{
            BlackboardDeleteResult, BlackboardListResult, BlackboardReadResult,
            BlackboardWriteResult, EntryResult,
            entry::{SiblingResult, moment},
        },
    },
    replica::{Acknowledged, BoardState, Delete, Failed, Found, Put, Range, WriteError},
};

/// How long a first write waits to hear as whom the replica writes. Later it makes an
/// actor up, which every clock has to name from then on.
const OPENING: Duration = Duration::from_secs(2);

/// Keys of a page when the caller says nothing.
const DEFAULT_LIMIT: usize = 100;

/// Something that is read here.
pub(in crate::core::blackboard) type Answer<T> = Option<Result<T, Problem>>;

impl Core {
    /// Reads a key, where its board is eventual and here. `all`: every value that it
    /// has.
    pub(in crate::core::blackboard) fn read_eventual(
        &self,
        caller: &Caller,
        request: &GetRequest,
        all: bool,
    ) -> Answer<BlackboardReadResult> {
        if request.strong {
            return None;
        }
        let here = self.here()?;
        let board = here.board(&request.board, Level::Eventual)?;
        let answer = here.read_eventual(&board, caller, request, all);
        Some(self.note_here(caller, || Tool::BlackboardRead.action(), answer))
    }

    /// Lists keys, where their board is eventual and here.
    pub(in crate::core::blackboard) fn list_eventual(
        &self,
        caller: &Caller,
        request: &ListRequest,
    ) -> Answer<BlackboardListResult> {
        if request.strong {
            return None;
        }
        let here = self.here()?;
        let board = here.board(&request.board, Level::Eventual)?;
        let answer = here.list_eventual(&board, caller, request);
        Some(self.note_here(caller, || Tool::BlackboardList.action(), answer))
    }

    /// Writes a key, where its board is eventual and here; once for each request id
    /// that the caller has named.
    pub(in crate::core::blackboard) async fn write_eventual(
        &self,
        caller: &Caller,
        request: &PutRequest,
        request_id: Option<&str>,
    ) -> Answer<BlackboardWriteResult> {
        let here = self.here()?;
        let board = here.board(&request.board, Level::Eventual)?;
        let answer = here
            .write_eventual(&board, caller, request, request_id)
            .await;
        Some(self.note_here(caller, || Tool::BlackboardWrite.action(), answer))
    }

    /// As [`Core::write_eventual`], of deleting a key.
    pub(in crate::core::blackboard) async fn delete_eventual(
        &self,
        caller: &Caller,
        request: &DeleteRequest,
        request_id: Option<&str>,
    ) -> Answer<BlackboardDeleteResult> {
        let here = self.here()?;
        let board = here.board(&request.board, Level::Eventual)?;
        let answer = here
            .delete_eventual(&board, caller, request, request_id)
            .await;
        Some(self.note_here(caller, || Tool::BlackboardDelete.action(), answer))
    }
}

impl Here {
    fn read_eventual(
        &self,
        board: &BoardState,
        caller: &Caller,
        request: &GetRequest,
        all: bool,
    ) -> Result<BlackboardReadResult, Problem> {
        self.judge(board, caller, &request.agent_id, Want::Read)?;
        let position = self.reached(board, request.after)?;
        let key = key(&request.key)?;
        let found = self
            .replica
            .get(&board.name, &key)
            .map_err(|failed| unreadable(&failed))?
            .ok_or_else(|| key_not_found(&request.key))?;
        let mut entry = EntryResult::of_replica(key.as_str(), found)?;
        if all {
            let siblings = self.replica.siblings(&board.name, &key);
            let siblings = siblings.map_err(|failed| unreadable(&failed))?;
            let values = siblings.into_iter().filter_map(SiblingResult::of);
            entry.values = Some(values.collect::<Result<_, _>>()?);
        }
        Ok(BlackboardReadResult {
            board: board.name.to_string(),
            entry,
            epoch: position.epoch,
            board_revision: position.revision,
            copies: 0,
        })
    }

    fn list_eventual(
        &self,
        board: &BoardState,
        caller: &Caller,
        request: &ListRequest,
    ) -> Result<BlackboardListResult, Problem> {
        self.judge(board, caller, &request.agent_id, Want::Read)?;
        self.reached(board, request.after)?;
        let range = range(request)?;
        let listed = self
            .replica
            .list(&board.name, &range, request.keys_only)
            .map_err(|failed| unreadable(&failed))?;
        let entries = listed.entries.into_iter();
        let entries =
            entries.map(|(key, found): (Key, Found)| EntryResult::of_replica(key.as_str(), found));
        Ok(BlackboardListResult {
            board: board.name.to_string(),
            entries: entries.collect::<Result<_, _>>()?,
            next_cursor: listed.next.map(|key| key.to_string()),
            revision: listed.position.revision,
            epoch: listed.position.epoch,
            copies: 0,
        })
    }

    async fn write_eventual(
        &self,
        board: &BoardState,
        caller: &Caller,
        request: &PutRequest,
        request_id: Option<&str>,
    ) -> Result<BlackboardWriteResult, Problem> {
        let agent = self.judge(board, caller, &request.agent_id, Want::Write)?;
        let (if_revision, if_lock) = (request.if_revision, &request.if_lock);
        check_level(board, if_revision.is_some(), if_lock.is_some())?;
        let what = (
            "put",
            &request.board,
            &request.key,
            &request.value,
            request.ttl_seconds,
            &agent,
        );
        let put = self.replica.put(Put {
            board: board.name.clone(),
            key: key(&request.key)?,
            value: request.value.as_str().into(),
            writer: writer(&agent),
            ttl_seconds: request.ttl_seconds,
        });
        let done = self.once(caller, request_id, digest(what), async {
            put.await.map(Some)
        });
        let done = done.await?.ok_or_else(|| unreadable(&Failed::Closed))?;
        Ok(BlackboardWriteResult {
            board: request.board.clone(),
            key: request.key.clone(),
            revision: done.position.revision,
            previous_revision: done.previous_revision,
            epoch: done.position.epoch,
            expires_at: done.expires_at_millis.and_then(moment),
            version: Some(done.dot.to_string()),
            vector_clock: Some(done.clock),
            copies: 0,
        })
    }

    async fn delete_eventual(
        &self,
        board: &BoardState,
        caller: &Caller,
        request: &DeleteRequest,
        request_id: Option<&str>,
    ) -> Result<BlackboardDeleteResult, Problem> {
        let agent = self.judge(board, caller, &request.agent_id, Want::Write)?;
        let (if_revision, if_lock) = (request.if_revision, &request.if_lock);
        check_level(board, if_revision.is_some(), if_lock.is_some())?;
        let what = ("delete", &request.board, &request.key, &agent);
        let delete = self.replica.delete(Delete {
            board: board.name.clone(),
            key: key(&request.key)?,
            writer: writer(&agent),
        });
        let done = self.once(caller, request_id, digest(what), delete);
        let done = done.await?;
        let position = done
            .as_ref()
            .map_or_else(|| self.replica.position(), |done| done.position);
        Ok(BlackboardDeleteResult {
            board: request.board.clone(),
            key: request.key.clone(),
            deleted: done.is_some(),
            revision: position.revision,
            previous_revision: done.map_or(0, |done| done.previous_revision),
            epoch: position.epoch,
            copies: 0,
        })
    }

    /// Does a write, once for a request id that the caller has named.
    async fn once(
        &self,
        caller: &Caller,
        request_id: Option<&str>,
        digest: u64,
        write: impl Future<Output = Result<Option<Acknowledged>, WriteError>>,
    ) -> Result<Option<Acknowledged>, Problem> {
        let who = caller.api_key_id();
        if let Some(id) = request_id
            && let Some(done) = self.repeats.find(who, id, digest)?
        {
            return Ok(done);
        }
        if !self.replica.has_actor() {
            let mut opened_in = self.opened_in.subscribe();
            // in vain: the replica makes an actor up
            let _ = tokio::time::timeout(OPENING, opened_in.wait_for(Option::is_some)).await;
        }
        let done = write.await.map_err(|error| refused(&error))?;
        if let Some(id) = request_id {
            self.repeats.keep(who, id, digest, done.clone());
        }
        Ok(done)
    }

    /// Where the replica is, if that is as far as the caller has seen. Positions of
    /// other replicas, and of the control plane, say nothing here.
    fn reached(&self, board: &BoardState, after: Option<Position>) -> Result<Position, Problem> {
        let is = self.replica.position();
        let Some(after) = after else { return Ok(is) };
        if after.epoch != 0 && after.epoch != is.epoch {
            let detail = format!(
                "the position was told by another replica of board `{}`: read it without one",
                board.name
            );
            return Err(Problem::new(Reason::Compacted, detail).at("after_revision"));
        }
        if after.revision > is.revision {
            let detail = format!(
                "this replica has come to revision {}, and not to {}",
                is.revision, after.revision
            );
            return Err(Problem::invalid("after_revision", detail));
        }
        Ok(is)
    }
}

/// What only levels above can keep.
fn check_level(board: &BoardState, if_revision: bool, if_lock: bool) -> Result<(), Problem> {
    let what = match (if_revision, if_lock) {
        (true, _) => ("`if_revision` cannot be kept", Level::Session),
        (_, true) => ("there are no locks", Level::Strong),
        (false, false) => return Ok(()),
    };
    Err(Problem::new(
        Reason::UnsupportedForLevel,
        format!(
            "{} on board `{}`, which is `{}`: use one that is `{}`",
            what.0, board.name, board.level, what.1
        ),
    ))
}

/// Why the replica has not taken a write.
fn refused(error: &WriteError) -> Problem {
    let reason = match error {
        WriteError::TooLarge { .. } => Reason::TooLarge,
        WriteError::Quota { .. } | WriteError::Full { .. } | WriteError::Busy => {
            Reason::ResourceExhausted
        }
        WriteError::NoBoard(name) | WriteError::NotEventual(name) => {
            return super::not_found(name);
        }
        WriteError::Failed(Failed::Closed) => {
            return Problem::new(Reason::Unavailable, "this edge is stopping");
        }
        WriteError::Failed(Failed::Storage(cause)) => {
            tracing::error!(%cause, "the replica of boards cannot be written");
            return Problem::new(
                Reason::OutcomeUnknown,
                "the disk of this edge has failed, and the write may be on it or not",
            );
        }
    };
    Problem::new(reason, error.to_string())
}

fn writer(agent: &AgentId) -> std::sync::Arc<str> {
    format!("agent:{agent}").into()
}

pub(super) fn key(text: &str) -> Result<Key, Problem> {
    text.parse()
        .map_err(|_| Problem::invalid("key", format!("expected {}", Key::EXPECTED)))
}

pub(super) fn range(request: &ListRequest) -> Result<Range, Problem> {
    let after = match request.page_token.as_str() {
        "" => None,
        cursor => Some(cursor.parse().map_err(|_| {
            Problem::invalid("cursor", "expected the `next_cursor` of the page before")
        })?),
    };
    Ok(Range {
        prefix: request.prefix.clone(),
        after,
        limit: match request.limit {
            0 => DEFAULT_LIMIT,
            limit => usize::try_from(limit).unwrap_or(DEFAULT_LIMIT),
        },
    })
}
