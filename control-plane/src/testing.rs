//! A database of its own for each test, cloned from a migrated template: about
//! as fast as an empty one, and as the real one is.
//!
//! The server is the one that `AUTHGUARDIAN_TEST_POSTGRES_URL` names (the
//! runner `with-postgres` sets it for all test processes together), else a
//! private one of this process.
#![expect(clippy::expect_used, reason = "a test without its database has failed")]

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::db::{
    MIGRATOR,
    private_postgres::{Options, PrivatePostgres},
};

/// Names the server to use: a superuser's URL, with any database.
pub const SERVER_VARIABLE: &str = "AUTHGUARDIAN_TEST_POSTGRES_URL";

/// Whoever makes the template holds this advisory lock of the database
/// `postgres`; it stands for nothing but itself.
const TEMPLATE_LOCK: i64 = 0x6167_7465_6d70;
/// SQLSTATE `invalid_catalog_name`: the template is not there yet.
const NO_SUCH_DATABASE: &str = "3D000";

/// A migrated database that nobody else uses. Dropping this drops it.
#[derive(Debug)]
pub struct TestDatabase {
    pool: PgPool,
    name: String,
    server: Arc<TestServer>,
}

impl TestDatabase {
    /// Makes one.
    ///
    /// # Panics
    /// When there is no PostgreSQL to be had.
    pub async fn new() -> Self {
        let server = TestServer::shared().await;
        let name = unique_name();
        let mut maintenance = server.connect("postgres").await;
        server.clone_template(&mut maintenance, &name).await;
        maintenance.close().await.expect("the test server answers");
        // no minimum: a test that opens a second pool shall find connections left
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .acquire_timeout(Duration::from_secs(30))
            .connect_lazy_with(server.options(&name));
        Self { pool, name, server }
    }

    /// A pool of connections to it.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Its URL, for processes and pools of the test's own.
    pub fn url(&self) -> String {
        self.server.options(&self.name).to_url_lossy().into()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (Arc::clone(&self.server), self.name.clone());
        // a thread, since the test's own runtime cannot be waited for here
        let dropped = on_thread(async move {
            let mut maintenance = server.options("postgres").connect().await?;
            let drop = format!(r#"DROP DATABASE IF EXISTS "{name}" WITH (FORCE)"#);
            sqlx::query(AssertSqlSafe(drop))
                .execute(&mut maintenance)
                .await?;
            maintenance.close().await
        });
        if let Some(Err(error)) = dropped {
            // in its own words: the server may be what the test has killed
            tracing::debug!(%error, name = self.name, "test database was left behind");
        }
    }
}

/// The server that this process's test databases are on.
#[derive(Debug)]
struct TestServer {
    options: PgConnectOptions,
    private: Option<(PrivatePostgres, TempDir)>,
}

impl TestServer {
    /// The server in use, or a new one when nobody uses one (any more).
    async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<TestServer>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&server);
        server
    }

    async fn start() -> Self {
        if let Ok(url) = std::env::var(SERVER_VARIABLE) {
            let options = url
                .parse()
                .expect("AUTHGUARDIAN_TEST_POSTGRES_URL is a URL");
            return Self {
                options,
                private: None,
            };
        }
        let dir = tempfile::tempdir().expect("the temporary directory is writable");
        let server = PrivatePostgres::start(Options::new(dir.path())).await;
        let server = server.unwrap_or_else(|error| panic!("{error}"));
        let options = server.url().parse().expect("a private server's URL is one");
        Self {
            options,
            private: Some((server, dir)),
        }
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        self.options.clone().database(database)
    }

    async fn connect(&self, database: &str) -> PgConnection {
        self.options(database)
            .connect()
            .await
            .expect("the test server takes connections")
    }

    async fn clone_template(&self, maintenance: &mut PgConnection, name: &str) {
        let template = template_name();
        let clone = format!(r#"CREATE DATABASE "{name}" TEMPLATE "{template}""#);
        let cloned = sqlx::query(AssertSqlSafe(clone.clone()))
            .execute(&mut *maintenance)
            .await;
        match cloned {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(NO_SUCH_DATABASE) =>
            {
                self.make_template(maintenance, &template).await;
                execute(maintenance, clone).await;
            }
            cloned => {
                cloned.expect("the template can be cloned");
            }
        }
    }

    /// Migrated under another name and then renamed, so that a template is
    /// never seen unfinished.
    async fn make_template(&self, maintenance: &mut PgConnection, template: &str) {
        let lock = |function| format!("SELECT {function}({TEMPLATE_LOCK})");
        execute(maintenance, lock("pg_advisory_lock")).await;
        let exists = sqlx::query("SELECT FROM pg_database WHERE datname = $1")
            .bind(template)
            .fetch_optional(&mut *maintenance)
            .await
            .expect("the test server answers");
        if exists.is_none() {
            let making = format!("{template}_making");
            execute(
                maintenance,
                format!(r#"DROP DATABASE IF EXISTS "{making}" WITH (FORCE)"#),
            )
            .await;
            execute(maintenance, format!(r#"CREATE DATABASE "{making}""#)).await;
            let mut connection = self.connect(&making).await;
            MIGRATOR
                .run(&mut connection)
                .await
                .expect("the migrations apply to an empty database");
            connection.close().await.expect("the test server answers");
            // ends what is left of that session, which would be in the way of all that follows
            execute(
                maintenance,
                format!(r#"ALTER DATABASE "{making}" ALLOW_CONNECTIONS false"#),
            )
            .await;
            let sessions = format!(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{making}'"
            );
            execute(maintenance, sessions).await;
            execute(
                maintenance,
                format!(r#"ALTER DATABASE "{making}" RENAME TO "{template}""#),
            )
            .await;
        }
        execute(maintenance, lock("pg_advisory_unlock")).await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some((server, dir)) = self.private.take() {
            on_thread(async move {
                server.stop().await;
                drop(dir);
            });
        }
    }
}

async fn execute(connection: &mut PgConnection, statement: String) {
    sqlx::query(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .expect("the statement is right");
}

/// One template per set of migrations: a server may outlive a change to them.
fn template_name() -> String {
    let mut digest = Context::new(&SHA256);
    for migration in MIGRATOR.iter() {
        digest.update(&migration.version.to_be_bytes());
        digest.update(&migration.checksum);
    }
    let digest = digest.finish();
    let prefix = digest.as_ref().first_chunk().copied().unwrap_or_default();
    format!("template_{:016x}", u64::from_be_bytes(prefix))
}

/// Unique among all processes of this boot.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    format!(
        "test_{}_{}_{}_{count}",
        std::process::id(),
        now.tv_sec,
        now.tv_nsec
    )
}

/// Runs a future to its end on a thread with a runtime of its own; `None` when
/// that panicked.
fn on_thread<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime can be built").block_on(future)
    };
    thread::spawn(run).join().ok()
}
