//! Appending, and looking how sealing follows.

use std::time::Duration;

use anyhow::Result;
use authguardian_proto::{
    ids::{AgentId, ApiKeyId, MachineId},
    zone::Zone,
};
use control_plane::audit::{self, Actor, Context, Entry};
use sqlx::Connection as _;
use tokio::time::Instant;
use uuid::Uuid;

use super::site::Site;

/// Entries of one transaction, as batches of grants have them.
const BATCH: u32 = 100;
/// How often the newest checkpoint is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// One round.
pub(super) struct Sealed {
    /// Per second, appended.
    pub(super) appended: f64,
    /// Per second, from the first append to the last checkpoint less its lag.
    pub(super) rate: f64,
    pub(super) lag_p50_ms: f64,
    pub(super) lag_p99_ms: f64,
    /// Of the database for an entry, indexes and tree with it.
    pub(super) bytes: f64,
}

/// Appends at a rate, and notes when each batch came to be under a checkpoint.
pub(super) async fn paced(site: &Site, rate: u32, duration: Duration) -> Result<Sealed> {
    let pause = Duration::from_secs(1) * BATCH / rate;
    let begun = Instant::now();
    let before = site.size().await?;
    let first = site.covered().await?;
    let mut connection = site.postgres.connect().await?;
    // (entries in all once it was committed, when)
    let mut batches: Vec<(i64, Instant)> = Vec::new();
    let mut lags = Vec::new();
    let mut done = 0;
    let mut total = first;
    let mut next = begun;
    let mut last_look = begun;
    while begun.elapsed() < duration {
        append(site, BATCH).await?;
        total += i64::from(BATCH);
        batches.push((total, Instant::now()));
        next += pause;
        while Instant::now() < next || last_look.elapsed() > LOOK {
            let covered = covered(&mut connection).await?;
            last_look = Instant::now();
            done += note(&batches[done..], covered, &mut lags);
            if Instant::now() + LOOK < next {
                tokio::time::sleep(LOOK).await;
            } else {
                break;
            }
        }
        tokio::time::sleep_until(next).await;
    }
    let appended = f64::from(BATCH) * counted(batches.len()) / begun.elapsed().as_secs_f64();
    while done < batches.len() {
        let covered = covered(&mut connection).await?;
        done += note(&batches[done..], covered, &mut lags);
        tokio::time::sleep(LOOK).await;
    }
    let ended = begun.elapsed();
    connection.close().await?;
    let last = lags.last().copied().unwrap_or_default();
    lags.sort_unstable();
    let at = |share: usize| {
        let lag: Duration = lags[(lags.len() * share / 100).min(lags.len() - 1)];
        lag.as_secs_f64() * 1e3
    };
    let entries = f64::from(BATCH) * counted(batches.len());
    Ok(Sealed {
        appended,
        rate: entries / ended.saturating_sub(last).as_secs_f64().max(f64::EPSILON),
        lag_p50_ms: at(50),
        lag_p99_ms: at(99),
        bytes: (site.size().await? - before) / entries,
    })
}

/// Entries per second from a queue that was filled before.
pub(super) async fn waiting(site: &Site, duration: Duration) -> Result<f64> {
    let seconds = u32::try_from(duration.as_secs())?.max(1);
    let entries = 20_000 * seconds;
    // the sealer waits while its lock is held
    let mut holder = site.postgres.connect().await?;
    let mut tx = holder.begin().await?;
    sqlx::query("LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *tx)
        .await?;
    for _ in 0..entries / 1000 {
        append(site, 1000).await?;
    }
    tx.rollback().await?;
    holder.close().await?;
    let first = site.covered().await?;
    let begun = Instant::now();
    let all = first + i64::from(entries);
    while site.covered().await? < all {
        tokio::time::sleep(LOOK).await;
    }
    Ok(f64::from(entries) / begun.elapsed().as_secs_f64())
}

/// Takes the batches that are covered; returns how many.
fn note(batches: &[(i64, Instant)], covered: i64, lags: &mut Vec<Duration>) -> usize {
    let now = Instant::now();
    let taken = batches.iter().take_while(|(total, _)| *total <= covered);
    let before = lags.len();
    lags.extend(taken.map(|(_, committed)| now - *committed));
    lags.len() - before
}

/// Entries like those of grants.
async fn append(site: &Site, count: u32) -> Result<()> {
    let now = site.app.ambient.clock.now();
    let agent: AgentId = "data_analyst".parse()?;
    let entries: Vec<Entry> = (0..count)
        .map(|_| {
            let context = Context {
                actor: Actor::Agent(Some(agent.clone()), ApiKeyId::from_uuid(Uuid::nil())),
                machine_id: Some(MachineId::from_uuid(Uuid::nil())),
                zone: Some(Zone::LocalMachine),
                request_id: site.app.ambient.uuid().to_string().parse().ok(),
                ..Context::system()
            };
            let subject = format!("grt_{}", site.app.ambient.uuid().simple());
            Entry::ok(context, "grant.request", subject).about(agent.clone())
        })
        .collect();
    let mut tx = site.app.db.begin().await?;
    audit::append(&mut tx, now, &entries).await?;
    site.app.db.commit(tx).await?;
    Ok(())
}

async fn covered(connection: &mut sqlx::PgConnection) -> Result<i64> {
    Ok(
        sqlx::query_scalar("SELECT coalesce(max(size), 0) FROM audit_checkpoint")
            .fetch_one(connection)
            .await?,
    )
}

impl Site {
    /// Size of the newest checkpoint.
    async fn covered(&self) -> Result<i64> {
        let mut connection = self.app.db.read().await?;
        covered(&mut connection).await
    }

    /// Bytes of what the log lies in.
    async fn size(&self) -> Result<f64> {
        let size: i64 = sqlx::query_scalar(
            "SELECT (pg_total_relation_size('sealed_audit_entry') + pg_total_relation_size('audit_tile')
                     + pg_total_relation_size('audit_checkpoint'))::bigint",
        )
        .fetch_one(&mut *self.app.db.read().await?)
        .await?;
        Ok(counted(usize::try_from(size)?))
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn counted(count: usize) -> f64 {
    count as f64
}
