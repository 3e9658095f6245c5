//! Boards, as operators make them.

use authguardian_proto::{
    agents,
    board::{Level, MAX_TTL_SECONDS},
    ids::{AgentId, BoardName},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    error::{Error, Result},
    events::Position,
};

const MAX_DESCRIPTION: usize = 500;
const MAX_KEYS: u64 = 1 << 40;
const MAX_BYTES: u64 = 1 << 50;
const MAX_RETENTION: u64 = 30 * 86_400;

/// Seconds for which changes are kept at least, so that a reader who comes
/// again after a failover still finds his place.
const MIN_RETENTION: u64 = 60;

/// A board and what is on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// Its name.
    pub name: BoardName,
    /// What it promises; never changes.
    pub level: Level,
    /// What operators say of it.
    pub terms: Terms,
    /// Keys that it has.
    pub keys: u64,
    /// Bytes of keys and values that it has.
    pub bytes: u64,
    /// Its newest revision.
    pub position: Position,
    /// Changes up to here are no longer kept.
    pub floor: i64,
    /// Tombstones of an eventual board up to here are forgotten.
    #[serde(default)]
    pub collected: i64,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// What operators say of a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Agents that may read: their ids, or `*`.
    pub readers: Vec<String>,
    /// Agents that may write, and read too.
    pub writers: Vec<String>,
    /// Agents trusted less may neither read nor write, 0 to 1000.
    pub min_trust: u32,
    /// Whether a live grant on `board:<name>` is needed.
    pub requires_grant: bool,
    /// Keys that it may have.
    pub max_keys: u64,
    /// Bytes of keys and values that it may have.
    pub max_bytes: u64,
    /// Seconds that an entry lives whose writer says nothing; 0: for ever.
    pub default_ttl_seconds: u64,
    /// Seconds for which changes are kept.
    pub retention_seconds: u64,
    /// For people.
    pub description: String,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            readers: vec![agents::EVERYBODY.to_owned()],
            writers: vec![agents::EVERYBODY.to_owned()],
            min_trust: 0,
            requires_grant: false,
            max_keys: 1_000_000,
            max_bytes: 1 << 30,
            default_ttl_seconds: 0,
            retention_seconds: 3600,
            description: String::new(),
        }
    }
}

/// A board to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewBoard {
    /// Its name.
    pub name: BoardName,
    /// What it is to promise.
    pub level: Level,
    /// What else is said of it.
    pub terms: BoardUpdate,
}

/// What is to be otherwise; `None`: as before, or as usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of `Terms`")]
pub struct BoardUpdate {
    pub readers: Option<Vec<String>>,
    pub writers: Option<Vec<String>>,
    pub min_trust: Option<u32>,
    pub requires_grant: Option<bool>,
    pub max_keys: Option<u64>,
    pub max_bytes: Option<u64>,
    pub default_ttl_seconds: Option<u64>,
    pub retention_seconds: Option<u64>,
    pub description: Option<String>,
}

impl BoardUpdate {
    /// The terms with what is to be otherwise.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(super) fn applied_to(self, before: Terms) -> Result<Terms> {
        let terms = Terms {
            readers: self.readers.unwrap_or(before.readers),
            writers: self.writers.unwrap_or(before.writers),
            min_trust: self.min_trust.unwrap_or(before.min_trust),
            requires_grant: self.requires_grant.unwrap_or(before.requires_grant),
            max_keys: self.max_keys.unwrap_or(before.max_keys),
            max_bytes: self.max_bytes.unwrap_or(before.max_bytes),
            default_ttl_seconds: self
                .default_ttl_seconds
                .unwrap_or(before.default_ttl_seconds),
            retention_seconds: self.retention_seconds.unwrap_or(before.retention_seconds),
            description: self.description.unwrap_or(before.description),
        };
        terms.check()?;
        Ok(terms)
    }
}

impl Terms {
    fn check(&self) -> Result<()> {
        check_agents("board.readers", &self.readers)?;
        check_agents("board.writers", &self.writers)?;
        let within = |field: &str, number: u64, least: u64, most: u64| {
            if (least..=most).contains(&number) {
                return Ok(());
            }
            Err(Error::invalid(field, format!("expected {least} to {most}")))
        };
        within("board.min_trust", self.min_trust.into(), 0, 1000)?;
        within("board.max_keys", self.max_keys, 1, MAX_KEYS)?;
        within("board.max_bytes", self.max_bytes, 1, MAX_BYTES)?;
        let ttl = self.default_ttl_seconds;
        within("board.default_ttl_seconds", ttl, 0, MAX_TTL_SECONDS.into())?;
        let retention = self.retention_seconds;
        within(
            "board.retention_seconds",
            retention,
            MIN_RETENTION,
            MAX_RETENTION,
        )?;
        let description = &self.description;
        if description.chars().count() > MAX_DESCRIPTION || description.contains('\0') {
            return Err(Error::invalid(
                "board.description",
                format!("expected at most {MAX_DESCRIPTION} characters, none of them NUL"),
            ));
        }
        Ok(())
    }

    /// Whether an agent is named among the writers.
    pub(super) fn lets_write(&self, agent: &AgentId) -> bool {
        agents::lets(&self.writers, agent)
    }

    /// Whether an agent is named among those who may read.
    pub(super) fn lets_read(&self, agent: &AgentId) -> bool {
        agents::lets(&self.readers, agent) || self.lets_write(agent)
    }
}

fn check_agents(field: &str, list: &[String]) -> Result<()> {
    agents::check(list).map_err(|expected| Error::invalid(field, expected))
}

pub(super) fn not_found(name: &BoardName) -> Error {
    let detail = format!("there is no board `{name}`; `board list` shows those there are");
    Problem::new(Reason::BoardNotFound, detail)
        .at("board")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays_and_what_is_said_is_checked() {
        let changed = BoardUpdate {
            readers: Some(vec!["scout".to_owned()]),
            ..BoardUpdate::default()
        };
        let terms = changed.applied_to(Terms::default()).unwrap();
        assert_eq!(terms.readers, ["scout"]);
        assert_eq!(terms.max_keys, 1_000_000);
        for (update, field) in [
            (
                BoardUpdate {
                    readers: Some(vec!["a b".to_owned()]),
                    ..BoardUpdate::default()
                },
                "board.readers",
            ),
            (
                BoardUpdate {
                    writers: Some(vec!["*".to_owned(), "*".to_owned()]),
                    ..BoardUpdate::default()
                },
                "board.writers",
            ),
            (
                BoardUpdate {
                    min_trust: Some(1001),
                    ..BoardUpdate::default()
                },
                "board.min_trust",
            ),
            (
                BoardUpdate {
                    max_keys: Some(0),
                    ..BoardUpdate::default()
                },
                "board.max_keys",
            ),
            (
                BoardUpdate {
                    retention_seconds: Some(59),
                    ..BoardUpdate::default()
                },
                "board.retention_seconds",
            ),
        ] {
            let refused = update.applied_to(Terms::default()).unwrap_err();
            assert_eq!(refused.problem().field.as_deref(), Some(field));
        }
    }

    #[test]
    fn writers_read_and_readers_do_not_write() {
        let terms = Terms {
            readers: vec!["reader".to_owned()],
            writers: vec!["writer".to_owned()],
            ..Terms::default()
        };
        let [reader, writer, other] = ["reader", "writer", "other"].map(|id| id.parse().unwrap());
        assert!(terms.lets_read(&reader) && !terms.lets_write(&reader));
        assert!(terms.lets_read(&writer) && terms.lets_write(&writer));
        assert!(!terms.lets_read(&other));
    }
}
