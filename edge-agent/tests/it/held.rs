//! Keeps the control plane from answering, for as long as a test wants.

use control_plane::db::Db;
use sqlx::{Postgres, Transaction};

use crate::{rig::Rig, wait::until_async};

/// A lock in the database that every request for `SAP_API` has to wait for.
pub(crate) struct Held<'a> {
    db: &'a Db,
    lock: Transaction<'static, Postgres>,
    holder: i32,
}

impl<'a> Held<'a> {
    pub(crate) async fn begin(rig: &'a Rig) -> Self {
        let db = &rig.control_plane.app.db;
        let mut lock = begin(db).await;
        let holder = sqlx::query_scalar(
            "SELECT pg_backend_pid() FROM resource_type WHERE name = 'SAP_API' FOR UPDATE",
        )
        .fetch_one(&mut *lock)
        .await
        .unwrap();
        Self { db, lock, holder }
    }

    /// A lock that every renewal and login of a machine has to wait for.
    pub(crate) async fn machine(db: &'a Db, name: &str) -> Self {
        let mut lock = begin(db).await;
        let holder =
            sqlx::query_scalar("SELECT pg_backend_pid() FROM machine WHERE name = $1 FOR UPDATE")
                .bind(name)
                .fetch_one(&mut *lock)
                .await
                .unwrap();
        Self { db, lock, holder }
    }

    /// Waits until somebody waits for it.
    pub(crate) async fn is_waited_for(&self) {
        until_async("a request is held", async || self.has_waiters().await).await;
    }

    /// Whether somebody waits for it.
    pub(crate) async fn has_waiters(&self) -> bool {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))",
        )
        .bind(self.holder)
        .fetch_one(&mut *self.db.read().await.unwrap())
        .await
        .unwrap()
    }

    pub(crate) async fn end(self) {
        self.lock.rollback().await.unwrap();
    }
}

/// A transaction that may stand still for as long as the test wants.
async fn begin(db: &Db) -> Transaction<'static, Postgres> {
    let mut lock = db.begin().await.unwrap();
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
        .execute(&mut *lock)
        .await
        .unwrap();
    lock
}
