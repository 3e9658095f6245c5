//! Telling a caller what happens on a board, as events with positions.

use std::{fmt, str::FromStr};

use authguardian_proto::{
    blackboard::v1::{BoardChange, WatchRequest, board_change::Kind},
    common::v1::Position,
    ids::{AgentId, BoardName},
    reason::{Problem, Reason},
};
use futures::{Stream, stream};
use serde_json::{Map, Value, json};

use super::{EntryResult, here::BoardStream};
use crate::{
    core::{Caller, Core, Told},
    upstream::BoardNews,
};

/// What the audit log calls it to follow a board.
pub(super) const ACTION: &str = "event.watch";

/// What kind of event of a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BoardEventName {
    /// A key was written.
    Put,
    /// A key was deleted.
    Deleted,
    /// A key has ended by itself.
    Expired,
}

impl BoardEventName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Put, Self::Deleted, Self::Expired];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "blackboard.put",
            Self::Deleted => "blackboard.deleted",
            Self::Expired => "blackboard.expired",
        }
    }
}

/// Up to where a reader of a board has heard everything: `board:name:epoch.revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardEventId {
    /// The board.
    pub board: BoardName,
    /// Where on it.
    pub position: Position,
}

impl BoardEventId {
    /// The form as a regular expression (ECMA-262), for schemas.
    pub const PATTERN: &'static str = r"^board:[a-z][a-z0-9_-]{0,63}:[0-9]{1,18}\.[0-9]{1,18}$";
}

/// Text that is no [`BoardEventId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the id of an event of a board, such as `board:strong:3.120`")]
pub struct ParseBoardEventIdError;

impl fmt::Display for BoardEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { epoch, revision } = self.position;
        write!(f, "board:{}:{epoch}.{revision}", self.board)
    }
}

impl FromStr for BoardEventId {
    type Err = ParseBoardEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (board, position) = text.strip_prefix("board:")?.split_once(':')?;
            let (epoch, revision) = position.split_once('.')?;
            Some(Self {
                board: board.parse().ok()?,
                position: Position {
                    epoch: number(epoch)?,
                    revision: number(revision)?,
                },
            })
        };
        read().ok_or(ParseBoardEventIdError)
    }
}

/// The control plane counts below 2^63.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = text.parse().ok().filter(|_| is_plain)?;
    u64::try_from(number).ok()
}

/// What of a board's events a caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardEventsWanted {
    /// Of which board.
    pub board: BoardName,
    /// Of this key alone; empty: by prefix.
    pub key: String,
    /// Of keys that begin so.
    pub prefix: String,
    /// Only of these kinds; none: of all.
    pub names: Vec<BoardEventName>,
    /// Whether with what was there before.
    pub previous: bool,
    /// As which of the caller's agents; `None`: the first that the board lets.
    pub agent_id: Option<AgentId>,
    /// Only what came after this; `None`: from now on.
    pub after: Option<Position>,
}

impl BoardEventsWanted {
    /// All of a board's, from now on.
    pub fn of(board: BoardName) -> Self {
        Self {
            board,
            key: String::new(),
            prefix: String::new(),
            names: Vec::new(),
            previous: false,
            agent_id: None,
            after: None,
        }
    }
}

/// An event of a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardEvent {
    /// What kind.
    pub name: BoardEventName,
    /// What is told of it: a JSON object in one line.
    pub data: String,
}

/// What a reader of a board hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeardOfBoard {
    /// The events of one revision that are wanted; there may be none.
    Events {
        /// In order.
        events: Vec<BoardEvent>,
        /// Everything up to here was looked at.
        up_to: BoardEventId,
    },
    /// What came after the reader's position can be told by nobody any more: it
    /// has to read the board again, and goes on from here.
    Compacted {
        /// Where it goes on.
        up_to: BoardEventId,
    },
    /// The reader was too slow. It is over; to come again with this position
    /// loses nothing.
    Lagged {
        /// What was looked at.
        up_to: BoardEventId,
    },
    /// There is no more, and why.
    Over(Problem),
}

impl Core {
    /// Begins to tell a caller of what happens on a board; it counts as one call.
    ///
    /// # Errors
    /// `RATE_LIMITED`; `AGENT_MISMATCH`; `BOARD_NOT_FOUND`, `PERMISSION_DENIED`
    /// and what else the control plane refuses; `UNAVAILABLE`.
    pub async fn board_events(
        &self,
        caller: &Caller,
        wanted: BoardEventsWanted,
    ) -> Result<impl Stream<Item = HeardOfBoard> + Send + use<>, Problem> {
        self.admit(caller, None, || ACTION.to_owned()).await?;
        let agent = wanted.agent_id.clone();
        let begun = self.begin_board_events(caller, wanted).await;
        let problem = begun.as_ref().err();
        self.note_outcome(caller, || ACTION.to_owned(), || agent, problem);
        Ok(begun?.heard())
    }

    async fn begin_board_events(
        &self,
        caller: &Caller,
        wanted: BoardEventsWanted,
    ) -> Result<Telling, Problem> {
        if let Some(agent) = &wanted.agent_id {
            caller.speaks_for(agent)?;
        }
        let agent = wanted.agent_id.as_ref();
        let request = WatchRequest {
            board: wanted.board.to_string(),
            key: wanted.key,
            prefix: wanted.prefix,
            after: wanted.after,
            previous: wanted.previous,
            agent_id: agent.map(ToString::to_string).unwrap_or_default(),
        };
        let follow = self.follow_board(caller, request).await?;
        Ok(Telling {
            core: self.clone(),
            caller: caller.without_key(),
            board: wanted.board,
            names: wanted.names,
            follow,
        })
    }
}

/// One reader of a board.
struct Telling {
    core: Core,
    caller: Caller,
    board: BoardName,
    names: Vec<BoardEventName>,
    follow: BoardStream,
}

impl Telling {
    fn heard(self) -> impl Stream<Item = HeardOfBoard> + Send + use<> {
        stream::unfold(Some(self), |telling| async {
            let mut telling = telling?;
            let heard = telling.next().await;
            let is_over = matches!(heard, HeardOfBoard::Lagged { .. } | HeardOfBoard::Over(_));
            Some((heard, (!is_over).then_some(telling)))
        })
    }

    async fn next(&mut self) -> HeardOfBoard {
        match self.follow.next().await {
            BoardNews::Changes { changes, up_to } => {
                let board = self.board.as_str();
                self.core.mark_told(&self.caller, board, up_to);
                let events = changes.into_iter();
                let events = events.map(|change| event(&self.board, up_to.epoch, change));
                match events.collect::<Result<Vec<_>, _>>() {
                    Ok(mut events) => {
                        events.retain(|event| self.wants(event.name));
                        let up_to = self.id(up_to);
                        HeardOfBoard::Events { events, up_to }
                    }
                    Err(problem) => HeardOfBoard::Over(problem),
                }
            }
            BoardNews::Compacted { up_to } => HeardOfBoard::Compacted {
                up_to: self.id(up_to),
            },
            BoardNews::Lagged { up_to } => HeardOfBoard::Lagged {
                up_to: self.id(up_to),
            },
            BoardNews::Over(problem) => HeardOfBoard::Over(problem),
        }
    }

    fn wants(&self, name: BoardEventName) -> bool {
        self.names.is_empty() || self.names.contains(&name)
    }

    fn id(&self, position: Position) -> BoardEventId {
        BoardEventId {
            board: self.board.clone(),
            position,
        }
    }
}

/// A change as it is told: what `blackboard_read` says of the key, and what was
/// there before.
fn event(board: &BoardName, epoch: u64, change: BoardChange) -> Result<BoardEvent, Problem> {
    let unreadable = || Problem::new(Reason::Internal, "a change of the board cannot be read");
    let name = match change.kind() {
        Kind::Put => BoardEventName::Put,
        Kind::Delete => BoardEventName::Deleted,
        Kind::Expire => BoardEventName::Expired,
        Kind::Unspecified => return Err(unreadable()),
    };
    let entry = EntryResult::read(change.entry.ok_or_else(unreadable)?)?;
    let mut data = Map::new();
    data.insert("board".to_owned(), json!(board));
    data.insert("epoch".to_owned(), json!(epoch));
    if let Value::Object(entry) = Told::of(entry).value() {
        data.extend(entry);
    }
    if name != BoardEventName::Put {
        // of what is gone there is none
        data.shift_remove("created_revision");
    }
    if data.get("writer").is_some_and(|writer| writer == "") {
        data.shift_remove("writer");
    }
    // replicas do not know it
    if let Some(previous_revision) = change.previous_revision {
        data.insert("previous_revision".to_owned(), json!(previous_revision));
    }
    if let Some(previous) = change.previous {
        let previous = Told::of(EntryResult::read(previous)?);
        data.insert("previous".to_owned(), previous.value());
    }
    Ok(BoardEvent {
        name,
        data: Value::Object(data).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use authguardian_proto::blackboard::v1::Entry;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_its_own_form_is_read() {
        let id: BoardEventId = "board:team-7:3.120".parse().unwrap();
        let position = Position {
            epoch: 3,
            revision: 120,
        };
        assert_eq!((id.board.as_str(), id.position), ("team-7", position));
        for rubbish in [
            "",
            "board:",
            "board:strong",
            "board:strong:",
            "board:strong:3",
            "board:strong:3.+1",
            "board:strong:3.1.2",
            "board:Strong:3.1",
            "board::3.1",
            "grants:3.1",
            "board:strong:1.9223372036854775808",
        ] {
            assert!(rubbish.parse::<BoardEventId>().is_err(), "{rubbish}");
        }
    }

    #[test]
    fn a_change_is_told_with_its_value_as_it_was_written() {
        let entry = |value: &str, revision| Entry {
            key: "a b".into(),
            value: value.into(),
            revision,
            created_revision: 3,
            writer: "agent:data_analyst".into(),
            ..Entry::default()
        };
        let put = BoardChange {
            kind: Kind::Put.into(),
            entry: Some(entry("\"a\\nb\"", 5)),
            previous: Some(entry("1e400", 3)),
            previous_revision: Some(3),
        };
        let told = event(&"strong".parse().unwrap(), 2, put).unwrap();
        assert_eq!(told.name.as_str(), "blackboard.put");
        assert_eq!(
            told.data,
            r#"{"board":"strong","epoch":2,"key":"a b","value":"a\nb","revision":5,"created_revision":3,"writer":"data_analyst","previous_revision":3,"previous":{"key":"a b","value":1e400,"revision":3,"created_revision":3,"writer":"data_analyst"}}"#
        );
        let expired = BoardChange {
            kind: Kind::Expire.into(),
            entry: Some(Entry {
                key: "a b".into(),
                revision: 6,
                ..Entry::default()
            }),
            previous: None,
            previous_revision: Some(5),
        };
        let told = event(&"strong".parse().unwrap(), 2, expired).unwrap();
        assert_eq!(told.name.as_str(), "blackboard.expired");
        assert_eq!(
            told.data,
            r#"{"board":"strong","epoch":2,"key":"a b","revision":6,"previous_revision":5}"#
        );
        assert!(event(&"strong".parse().unwrap(), 2, BoardChange::default()).is_err());
    }

    proptest! {
        #[test]
        fn an_id_reads_back(board in "[a-z][a-z0-9_-]{0,63}", epoch in 0..=i64::MAX as u64, revision in 0..=i64::MAX as u64) {
            let id = BoardEventId { board: board.parse().unwrap(), position: Position { epoch, revision } };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn any_text_is_an_id_or_not(text in "(board:)?.{0,60}") {
            let _ = text.parse::<BoardEventId>();
        }
    }
}
