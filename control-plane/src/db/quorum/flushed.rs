//! How far PostgreSQL's servers are, and commits that tell it with their answer.

use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::db::servers::timeline;

/// Up to where WAL is on disk: bytes since its beginning.
pub(super) struct Flushed {
    pub(super) primary: i64,
    /// Those of the quorum.
    standbys: Vec<i64>,
    /// Of that WAL.
    pub(super) timeline: i64,
}

impl Flushed {
    pub(super) async fn ask(connection: &mut PgConnection) -> sqlx::Result<Self> {
        Self::read(&sqlx::query(ASK).fetch_one(connection).await?)
    }

    /// A row of [`ASK`].
    pub(super) fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            primary: row.try_get(0)?,
            standbys: row.try_get(1)?,
            timeline: row.try_get(2)?,
        })
    }

    /// Whether the primary and so many standbys have all up to there.
    pub(super) fn reached(&self, target: i64, standbys: usize) -> bool {
        let there = self.standbys.iter().filter(|flushed| **flushed >= target);
        self.primary >= target && there.count() >= standbys
    }
}

/// SQL: a WAL record that belongs to the transaction, so that its commit has to be
/// flushed and confirmed although no row was written; where it is.
macro_rules! emit {
    () => {
        "SELECT (pg_logical_emit_message(true, 'authguardian', '') - '0/0')::bigint"
    };
}

/// SQL: a row of [`Flushed`].
macro_rules! ask {
    () => {
        concat!(
            "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint,
    ARRAY(SELECT (flush_lsn - '0/0')::bigint FROM pg_stat_get_wal_senders()
          WHERE sync_state IN ('sync', 'quorum') AND flush_lsn IS NOT NULL), ",
            timeline!()
        )
    };
}

pub(super) const EMIT: &str = emit!();

const ASK: &str = ask!();

// The following are for connections whose transaction sqlx believes open until it is dropped. An empty one is begun
// for what it then rolls back: without, PostgreSQL would log a warning each time.

pub(super) const COMMIT_AND_ASK: &str = concat!("COMMIT; ", ask!(), "; BEGIN");

pub(super) const END_AND_ASK: &str = concat!(
    "COMMIT; SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint; ",
    ask!(),
    "; BEGIN"
);

pub(super) const EMIT_AND_ASK: &str = concat!("BEGIN; ", emit!(), "; COMMIT; ", ask!(), "; BEGIN");

pub(super) const END_EMIT_AND_ASK: &str =
    concat!("COMMIT; BEGIN; ", emit!(), "; COMMIT; ", ask!(), "; BEGIN");

/// On this node's disk, whatever the standbys do.
pub(super) const COMMIT_LOCALLY: &str = "SET LOCAL synchronous_commit TO local; COMMIT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_is_on_the_primary_and_on_enough_standbys() {
        let flushed = |primary, standbys: &[i64]| Flushed {
            primary,
            standbys: standbys.to_vec(),
            timeline: 1,
        };
        assert!(flushed(9, &[9, 3]).reached(9, 1));
        assert!(flushed(9, &[]).reached(9, 0));
        assert!(!flushed(9, &[8, 3]).reached(9, 1), "a standby is behind");
        assert!(!flushed(9, &[9]).reached(9, 2), "a standby is missing");
        assert!(!flushed(8, &[9]).reached(9, 1), "not on the primary");
    }
}
