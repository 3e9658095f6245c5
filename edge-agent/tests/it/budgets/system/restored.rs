//! A database that is put back to a backup: what was settled since is spent once.

use std::cell::RefCell;

use authguardian_proto::reason::Reason;
use control_plane::{
    audit::Context,
    backup,
    budgets::{AsOf, View},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::site::{Site, comes_to, create, open, view};
use crate::{rig::ControlPlane, wait::until_async};

const LEASE_SECONDS: u32 = 2;
const TOTAL: u64 = 12_000;

/// All that there is of budgets, and how old the database says that it is.
const TABLES: [&str; 8] = [
    "installation",
    "budget",
    "budget_account",
    "budget_slice",
    "budget_movement",
    "budget_exchange",
    "budget_recall",
    "budget_hold_word",
];

async fn run(url: &str, statements: Vec<String>) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    for statement in statements {
        let query = sqlx::query(AssertSqlSafe(statement));
        query.execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Three edges that have been heard, and a budget of which the first has spent 3,000; the
/// database is backed up then.
async fn backed_up() -> (ControlPlane, [Site; 3]) {
    let (control_plane, api_key) = open(LEASE_SECONDS).await;
    create(&control_plane, "q4", TOTAL).await;
    let mut sites = Vec::new();
    for (at, machine) in ["a", "b", "c"].into_iter().enumerate() {
        sites.push(Site::start(&control_plane, machine, &api_key).await);
        until_async("it is heard", async || {
            let mut connection = control_plane.app.db.read().await.unwrap();
            let heard: i64 = sqlx::query_scalar("SELECT count(*) FROM budget_exchange")
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            heard > i64::try_from(at).unwrap()
        })
        .await;
    }
    let Ok(sites) = <[Site; 3]>::try_from(sites) else {
        unreachable!("there are three")
    };
    sites[0].spend("q4", 3000).await;
    let told = |view: &View| view.account.reported == 3000;
    comes_to(&control_plane, "q4", "it is told", told).await;
    let mut statements = vec!["CREATE SCHEMA backup".to_owned()];
    statements.extend(TABLES.map(|table| format!("CREATE TABLE backup.{table} AS TABLE {table}")));
    let mut tx = control_plane.app.db.begin().await.unwrap();
    for statement in statements {
        let query = sqlx::query(AssertSqlSafe(statement));
        query.execute(&mut *tx).await.unwrap();
    }
    control_plane.app.db.commit(tx).await.unwrap();
    (control_plane, sites)
}

/// The control plane stops, and starts with the database as it was backed up.
async fn restored(control_plane: ControlPlane) -> ControlPlane {
    let ambient = control_plane.app.ambient.clone();
    let stopped = control_plane.stop().await;
    let url = stopped.config().database.url.expose().to_owned();
    let mut statements = Vec::new();
    for table in TABLES {
        statements.push(format!("ALTER TABLE {table} DISABLE TRIGGER USER"));
        statements.push(format!("DELETE FROM {table}"));
        statements.push(format!("INSERT INTO {table} SELECT * FROM backup.{table}"));
        statements.push(format!("ALTER TABLE {table} ENABLE TRIGGER USER"));
    }
    run(&url, statements).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let newest = sqlx::query_scalar("SELECT max(occurred_at) FROM backup.budget_movement");
    let as_of = AsOf::At(newest.fetch_one(&mut connection).await.unwrap());
    let fenced = backup::fence::in_place(&url, &ambient, as_of)
        .await
        .unwrap();
    assert_eq!(fenced.budgets_held, 1);
    stopped.start().await
}

/// Spends 3,000 at the first and 4,000 at the second, and all of it is told.
async fn spend_since(control_plane: &ControlPlane, [a, b, _]: &[Site; 3]) {
    for (site, tokens) in [(a, 3000), (b, 4000)] {
        let reserved = RefCell::new(None);
        until_async("so much is there", async || {
            let reservation = site.try_reserve("q4", tokens).await.ok();
            let is_there = reservation.is_some();
            *reserved.borrow_mut() = reservation;
            is_there
        })
        .await;
        let reservation = reserved.into_inner().unwrap();
        site.settle("q4", &reservation, tokens).await;
    }
    let told = |view: &View| view.account.reported == 10_000;
    comes_to(control_plane, "q4", "all is told", told).await;
}

#[tokio::test]
async fn what_was_settled_since_the_backup_cannot_be_spent_again() {
    let (control_plane, mut sites) = backed_up().await;
    spend_since(&control_plane, &sites).await;
    // what it had is over, and only remembered
    let [a, b, c] = sites;
    let Site { edge, way, client } = b;
    let edge = edge.stop().await.run_again().await;
    sites = [a, Site { edge, way, client }, c];
    let closed = |view: &View| view.slices.iter().any(|held| held.slice.is_closed);
    comes_to(&control_plane, "q4", "it has given back", closed).await;

    let control_plane = restored(control_plane).await;
    let held = view(&control_plane, "q4").await;
    assert!(held.account.reported < 10_000, "it was put back: {held:?}");
    until_async("all have told", async || {
        for site in &sites {
            let refusal = site
                .try_reserve("q4", TOTAL - 10_000 + 1)
                .await
                .unwrap_err();
            let reason = refusal["reason"].as_str().unwrap();
            assert_ne!(reason, "INVALID_ARGUMENT", "{refusal}");
        }
        !view(&control_plane, "q4").await.budget.is_held()
    })
    .await;
    let account = view(&control_plane, "q4").await.account;
    assert_eq!((account.reported, account.overdraft), (10_000, 0));
    assert_eq!(account.total - account.reported, 2000);
    // what is left can be spent, once
    until_async("the rest is there", async || {
        sites[2].try_reserve("q4", 2000).await.is_ok()
    })
    .await;
    for site in &sites {
        site.lacks("q4", 1).await;
    }
}

#[tokio::test]
async fn a_hold_waits_for_an_edge_that_has_lost_its_disk_until_an_operator_settles() {
    let (control_plane, sites) = backed_up().await;
    spend_since(&control_plane, &sites).await;
    let [a, b, c] = sites;
    let Site { edge, way, client } = b;
    let journal = edge.dir.path().join("slices.journal");
    let killed = edge.kill().await;
    std::fs::remove_file(journal).unwrap();
    let edge = killed.run_again().await;
    let sites = [a, Site { edge, way, client }, c];

    let control_plane = restored(control_plane).await;
    let only_one =
        |view: &View| view.awaited.len() == 1 && view.awaited[0].remembers_since.is_some();
    let held = comes_to(&control_plane, "q4", "it alone is awaited", only_one).await;
    assert!(held.budget.is_held());
    assert_eq!(held.account.reported, 6000);
    until_async("it is said why", async || {
        let refusal = sites[0].try_reserve("q4", 1).await.unwrap_err();
        refusal["reason"] == "BUDGET_FROZEN"
            && refusal["detail"].as_str().unwrap().contains("restored")
    })
    .await;
    let lost = held.awaited[0].machine;
    let budgets = &control_plane.app.budgets;
    until_async("its leases have ended", async || {
        let settling = budgets.settle(Context::system(), "q4".parse().unwrap(), lost, Some(4000));
        match settling.await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.reason(), Reason::RevisionConflict);
                false
            }
        }
    })
    .await;
    let released = |view: &View| !view.budget.is_held();
    let after = comes_to(&control_plane, "q4", "the hold ends", released).await;
    assert_eq!(
        (after.account.reported, after.account.overdraft),
        (10_000, 0)
    );
    until_async("the rest is there", async || {
        sites[1].try_reserve("q4", 2000).await.is_ok()
    })
    .await;
    for site in &sites {
        site.lacks("q4", 1).await;
    }
}
