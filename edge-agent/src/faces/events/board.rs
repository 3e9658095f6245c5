//! What of a board a client asks to be told of.

use authguardian_proto::{
    common::v1::Position,
    ids::{BoardName, ParseIdError},
    reason::Problem,
};

use super::{LAST_EVENT_ID, shortened, unknown};
use crate::core::{
    BoardEventId, BoardEventName, BoardEventsWanted, ParseBoardEventIdError, check_key,
    check_prefix,
};

/// Reads the parameters, and the header of a client that comes again.
///
/// # Errors
/// `INVALID_ARGUMENT` and `TOO_LARGE`, naming the parameter.
pub(super) fn wanted(
    parameters: &[(String, String)],
    last: Option<&str>,
) -> Result<BoardEventsWanted, Problem> {
    let board = parameters.iter().find(|(name, _)| name == "board");
    let board = board.map(|(_, name)| name.as_str()).unwrap_or_default();
    let invalid = |error: ParseIdError| Problem::invalid("board", error.to_string());
    let mut wanted = BoardEventsWanted::of(board.parse().map_err(invalid)?);
    let mut begin = None;
    for (name, value) in parameters {
        match name.as_str() {
            "board" => {}
            "key" => {
                check_key("key", value)?;
                wanted.key.clone_from(value);
            }
            "prefix" => {
                check_prefix("prefix", value)?;
                wanted.prefix.clone_from(value);
            }
            "previous" => wanted.previous = flag("previous", value)?,
            "events" => wanted.names = names(value)?,
            "agent_id" => {
                let parsed = value.parse();
                let invalid = |error: ParseIdError| Problem::invalid("agent_id", error.to_string());
                wanted.agent_id = Some(parsed.map_err(invalid)?);
            }
            "last_event_id" => begin = Some(value),
            _ => return Err(unknown(name)),
        }
    }
    if !wanted.key.is_empty() && !wanted.prefix.is_empty() {
        return Err(Problem::invalid(
            "prefix",
            "expected `key` or `prefix`, not both",
        ));
    }
    if let Some(text) = begin {
        wanted.after = position("last_event_id", text, &wanted.board)?;
    }
    if let Some(text) = last
        && let Some(after) = position(LAST_EVENT_ID, text, &wanted.board)?
    {
        wanted.after = Some(after);
    }
    Ok(wanted)
}

/// Nothing is no position: what some clients send before their first event.
fn position(field: &str, text: &str, board: &BoardName) -> Result<Option<Position>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |error: ParseBoardEventIdError| Problem::invalid(field, error.to_string());
    let id: BoardEventId = text.parse().map_err(invalid)?;
    if id.board != *board {
        return Err(Problem::invalid(field, "is of another board"));
    }
    Ok(Some(id.position))
}

fn flag(field: &str, text: &str) -> Result<bool, Problem> {
    text.parse()
        .map_err(|_| Problem::invalid(field, "expected true or false"))
}

/// Names, and `blackboard.*` for all of them.
fn names(text: &str) -> Result<Vec<BoardEventName>, Problem> {
    let mut names = Vec::new();
    for pattern in text.split(',').map(str::trim) {
        let fits = |name: &BoardEventName| pattern == "blackboard.*" || name.as_str() == pattern;
        let before = names.len();
        names.extend(BoardEventName::ALL.into_iter().filter(fits));
        if names.len() == before {
            let known = BoardEventName::ALL.map(BoardEventName::as_str).join("`, `");
            let detail = format!(
                "there is no event `{}` of a board; expected `{known}`, or `blackboard.*` for all",
                shortened(pattern)
            );
            return Err(Problem::invalid("events", detail));
        }
    }
    Ok(names)
}
