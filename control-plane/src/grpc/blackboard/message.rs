//! What is told of boards, as messages.

use authguardian_proto::{blackboard::v1 as pb, board::Key, common::v1::Position as PbPosition};
use tonic::Response;

use crate::{
    blackboard::{
        Blackboard, Board, Change, ChangeKind, Entry, Message, Outcome, Performed, Range, ReadFrom,
        Who, Written, key_not_found,
    },
    error::{Error, Result},
    events::Position,
    grpc::convert::{next_page_token, parse, parse_optional, position, timestamp},
};

/// Keys of a page when the caller says nothing.
const DEFAULT_LIMIT: u32 = 100;

/// Most keys of a page.
const MAX_LIMIT: u32 = 1000;

pub(super) async fn get(
    blackboard: &Blackboard,
    who: Who,
    message: pb::GetRequest,
) -> Result<Response<pb::GetResponse>> {
    let board = parse("board", &message.board)?;
    let key = parse("key", &message.key)?;
    let from = ReadFrom {
        strong: message.strong,
        after: position_of("after", message.after)?,
    };
    let found = blackboard.find(who, board, &key, from).await?;
    if found.entry.is_none() && !message.or_absent {
        return Err(key_not_found(&key));
    }
    Ok(Response::new(pb::GetResponse {
        entry: found.entry.map(entry),
        position: Some(position(found.position)),
        copies: found.copies,
    }))
}

pub(super) async fn list(
    blackboard: &Blackboard,
    who: Who,
    message: pb::ListRequest,
) -> Result<Response<pb::ListResponse>> {
    let board = parse("board", &message.board)?;
    let range = Range {
        prefix: prefix_of(message.prefix)?,
        after: parse_optional("page_token", &message.page_token)?,
        keys_only: message.keys_only,
        limit: match message.limit {
            0 => DEFAULT_LIMIT,
            asked @ 1..=MAX_LIMIT => asked,
            _ => {
                return Err(Error::invalid(
                    "limit",
                    format!("expected 1 to {MAX_LIMIT}"),
                ));
            }
        },
    };
    let from = ReadFrom {
        strong: message.strong,
        after: position_of("after", message.after)?,
    };
    let listed = blackboard.list(who, board, range, from).await?;
    Ok(Response::new(pb::ListResponse {
        entries: listed.entries.into_iter().map(entry).collect(),
        next_page_token: listed
            .next
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        position: Some(position(listed.position)),
        copies: listed.copies,
    }))
}

pub(super) fn put(written: &Written) -> pb::PutResponse {
    let (previous_revision, expires_at) = match written.outcome {
        Outcome::Put {
            previous_revision,
            expires_at,
        } => (previous_revision, expires_at),
        _ => Default::default(),
    };
    pb::PutResponse {
        position: Some(position(written.position)),
        previous_revision: previous_revision.unsigned_abs(),
        copies: written.copies,
        expires_at: expires_at.map(timestamp),
    }
}

pub(super) fn deleted(written: &Written) -> pb::DeleteResponse {
    let previous_revision = match written.outcome {
        Outcome::Delete { previous_revision } => previous_revision,
        _ => 0,
    };
    pb::DeleteResponse {
        deleted: previous_revision > 0,
        position: Some(position(written.position)),
        previous_revision: previous_revision.unsigned_abs(),
        copies: written.copies,
    }
}

pub(super) fn transacted(written: Written) -> pb::TransactResponse {
    let (succeeded, performed) = match written.outcome {
        Outcome::Transact {
            succeeded,
            performed,
        } => (succeeded, performed),
        _ => Default::default(),
    };
    pb::TransactResponse {
        succeeded,
        results: performed.into_iter().map(result).collect(),
        position: Some(position(written.position)),
        copies: written.copies,
    }
}

pub(super) fn locked(written: Written) -> pb::LockResponse {
    let told = pb::LockResponse {
        position: Some(position(written.position)),
        copies: written.copies,
        ..pb::LockResponse::default()
    };
    match written.outcome {
        Outcome::Lock {
            held,
            fencing_revision,
            expires_at,
            holder,
        } => pb::LockResponse {
            held,
            fencing_revision: fencing_revision.unsigned_abs(),
            expires_at: expires_at.map(timestamp),
            holder,
            ..told
        },
        _ => told,
    }
}

fn result(performed: Performed) -> pb::OperationResult {
    pb::OperationResult {
        key: performed.key.to_string(),
        entry: performed.entry.map(entry),
        previous_revision: performed.previous_revision.unsigned_abs(),
    }
}

pub(super) fn watched(message: Message) -> pb::WatchResponse {
    pb::WatchResponse {
        position: Some(position(message.position)),
        changes: message.changes.into_iter().map(change).collect(),
    }
}

fn change(change: Change) -> pb::BoardChange {
    let kind = match change.kind {
        ChangeKind::Put => pb::board_change::Kind::Put,
        ChangeKind::Delete => pb::board_change::Kind::Delete,
        ChangeKind::Expire => pb::board_change::Kind::Expire,
    };
    pb::BoardChange {
        kind: kind.into(),
        entry: Some(entry(change.entry)),
        previous: change.previous.map(|previous| entry(*previous)),
        previous_revision: Some(change.previous_revision.unsigned_abs()),
    }
}

pub(super) fn entry(entry: Entry) -> pb::Entry {
    pb::Entry {
        key: entry.key.to_string(),
        value: entry
            .value
            .map(|value| value.as_str().to_owned())
            .unwrap_or_default(),
        revision: entry.revision.unsigned_abs(),
        created_revision: entry.created_revision.unsigned_abs(),
        writer: entry.writer,
        machine_id: text(entry.machine_id),
        grant_id: text(entry.grant_id),
        written_at: Some(timestamp(entry.written_at)),
        expires_at: entry.expires_at.map(timestamp),
        is_lock: entry.is_lock,
    }
}

pub(super) fn boards(boards: Vec<Board>, page_size: u32) -> pb::ListBoardsResponse {
    pb::ListBoardsResponse {
        next_page_token: next_page_token(&boards, page_size, |board| board.name.to_string()),
        boards: boards.into_iter().map(board).collect(),
    }
}

pub(super) fn board(board: Board) -> pb::Board {
    pb::Board {
        name: board.name.to_string(),
        level: board.level.to_proto().into(),
        readers: board.terms.readers,
        writers: board.terms.writers,
        min_trust: board.terms.min_trust,
        requires_grant: board.terms.requires_grant,
        max_keys: board.terms.max_keys,
        max_bytes: board.terms.max_bytes,
        default_ttl_seconds: board.terms.default_ttl_seconds,
        retention_seconds: board.terms.retention_seconds,
        keys: board.keys,
        bytes: board.bytes,
        position: Some(position(board.position)),
        floor: board.floor.unsigned_abs(),
        created_at: Some(timestamp(board.created_at)),
        description: board.terms.description,
    }
}

/// A position that somebody has seen.
pub(super) fn position_of(field: &str, message: Option<PbPosition>) -> Result<Option<Position>> {
    let number = |number: u64| {
        i64::try_from(number).map_err(|_| Error::invalid(field, "expected numbers below 2^63"))
    };
    message
        .map(|position| {
            Ok(Position {
                epoch: number(position.epoch)?,
                revision: number(position.revision)?,
            })
        })
        .transpose()
}

/// What keys begin with; empty: all.
pub(super) fn prefix_of(text: String) -> Result<String> {
    if !text.is_empty() && text.parse::<Key>().is_err() {
        return Err(Error::invalid(
            "prefix",
            format!("expected {}", Key::EXPECTED),
        ));
    }
    Ok(text)
}

fn text(id: Option<impl ToString>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}
