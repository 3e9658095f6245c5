//! What is in keys.

use std::collections::{BTreeMap, HashMap};

use authguardian_proto::{
    board::{Key, MAX_KEY_BYTES},
    ids::{BoardName, GrantId, MachineId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{board_name, count, key};
use crate::{
    blackboard::{
        entry::{Entry, Value},
        write::Known,
    },
    error::{Error, Result},
};

struct Row {
    board: String,
    key: String,
    value: Option<String>,
    bytes: i64,
    revision: i64,
    created_revision: i64,
    is_lock: bool,
    writer: String,
    machine_id: Option<Uuid>,
    grant_id: Option<Uuid>,
    written_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    /// Rows within the limit, also those left out for their size.
    there: i64,
}

impl TryFrom<Row> for Entry {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            key: key(&row.key)?,
            value: row.value.map(Value::stored),
            revision: row.revision,
            created_revision: row.created_revision,
            is_lock: row.is_lock,
            writer: row.writer,
            machine_id: row.machine_id.map(MachineId::from_uuid),
            grant_id: row.grant_id.map(GrantId::from_uuid),
            written_at: row.written_at,
            expires_at: row.expires_at,
        })
    }
}

/// Entries of these keys, with their values where they are wanted; those that
/// are not there are left out.
#[tracing::instrument(name = "db.board_entry.read", skip_all)]
pub(in crate::blackboard) async fn entries(
    connection: &mut PgConnection,
    places: &BTreeMap<(&BoardName, &Key), bool>,
) -> Result<HashMap<(BoardName, Key), Known>> {
    let boards: Vec<String> = places.keys().map(|(board, _)| board.to_string()).collect();
    let keys: Vec<String> = places.keys().map(|(_, key)| key.to_string()).collect();
    let valued: Vec<bool> = places.values().copied().collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT board AS "board!", key AS "key!", CASE WHEN valued THEN value END AS value,
                  octet_length(key)::bigint + octet_length(value) AS "bytes!", revision AS "revision!",
                  created_revision AS "created_revision!", is_lock AS "is_lock!", writer AS "writer!",
                  machine_id, grant_id, written_at AS "written_at!", expires_at, 1::bigint AS "there!"
           FROM unnest($1::text[], $2::text[], $3::boolean[]) AS wanted (board, key, valued)
           JOIN board_entry USING (board, key)"#,
        &boards,
        &keys,
        &valued,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let (board, bytes) = (board_name(&row.board)?, count(row.bytes));
            let entry = Entry::try_from(row)?;
            Ok(((board, entry.key.clone()), Known { entry, bytes }))
        })
        .collect()
}

/// Entries of a board whose keys begin so, after a key, in byte order; up to
/// `limit`, and no more once their values have `max_bytes`. Also whether these
/// are all within the limit.
#[tracing::instrument(name = "db.board_entry.list", skip_all)]
pub(in crate::blackboard) async fn list(
    connection: &mut PgConnection,
    board: &BoardName,
    prefix: &str,
    after: &str,
    keys_only: bool,
    limit: i64,
    max_bytes: i64,
) -> Result<(Vec<Entry>, bool)> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT board AS "board!", key AS "key!", value, bytes AS "bytes!", revision AS "revision!",
                  created_revision AS "created_revision!", is_lock AS "is_lock!", writer AS "writer!",
                  machine_id, grant_id, written_at AS "written_at!", expires_at, there AS "there!"
           FROM (SELECT board, key, CASE WHEN $6 THEN NULL ELSE value END AS value, revision, created_revision,
                        is_lock, writer, machine_id, grant_id, written_at, expires_at,
                        octet_length(key)::bigint + octet_length(value) AS bytes,
                        (sum(octet_length(value)) OVER (ORDER BY key) - octet_length(value))::bigint AS before,
                        count(*) OVER () AS there
                 FROM (SELECT * FROM board_entry
                       WHERE board = $1 AND key > $2 AND key >= $3 AND key < $4
                       ORDER BY key LIMIT $5) AS one) AS page
           WHERE $6 OR before < $7
           ORDER BY key"#,
        board.as_str(),
        after,
        prefix,
        end_of(prefix).unwrap_or_else(after_all),
        limit,
        keys_only,
        max_bytes,
    )
    .fetch_all(connection)
    .await?;
    let is_whole = rows
        .first()
        .is_none_or(|row| count(row.there) == rows.len() as u64);
    let entries = rows.into_iter().map(Entry::try_from);
    Ok((entries.collect::<Result<_>>()?, is_whole))
}

/// The least text that is after all that begin with `prefix`; `None`: there is
/// none, or the prefix is empty.
pub(super) fn end_of(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        let next = match last {
            // surrogates are no characters
            '\u{d7ff}' => Some('\u{e000}'),
            char::MAX => None,
            last => char::from_u32(last as u32 + 1),
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// A text after every key.
pub(super) fn after_all() -> String {
    char::MAX.to_string().repeat(MAX_KEY_BYTES / 4 + 1)
}

/// Keys that have come to their end, the longest ago first.
pub(in crate::blackboard) async fn over(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<(BoardName, Key)>> {
    let rows = sqlx::query!(
        r#"SELECT board, key FROM board_entry WHERE expires_at <= clock_timestamp()
           ORDER BY expires_at LIMIT $1"#,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| Ok((board_name(&row.board)?, key(&row.key)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_begins_so_is_between_the_prefix_and_its_end(prefix in ".{1,6}", rest in ".{0,6}", other in ".{0,8}") {
            let within = |text: &str| {
                text >= prefix.as_str() && end_of(&prefix).is_none_or(|end| text < end.as_str())
            };
            prop_assert!(within(&(prefix.clone() + &rest)));
            prop_assert_eq!(within(&other), other.starts_with(&prefix));
        }
    }

    #[test]
    fn the_end_of_a_prefix_steps_over_what_is_no_character() {
        assert_eq!(end_of("a/").as_deref(), Some("a0"));
        assert_eq!(end_of("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(end_of("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(end_of("\u{10ffff}"), None);
        assert_eq!(end_of(""), None);
    }
}
