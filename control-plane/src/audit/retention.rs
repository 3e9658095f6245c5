//! How long bodies of entries are kept. Their leaf hashes stay for ever, and
//! with them every proof.

use serde::{Deserialize, Serialize};

use super::{Context, Entry, append, store};
use crate::{
    clock::Ambient,
    db::{Db, request::Begun},
    error::{Error, Result},
};

/// Most bodies that one activation drops.
const LIMIT: i64 = 5000;
/// Until checkpoints are thinned to one an hour.
const ALL_CHECKPOINTS: time::Duration = time::Duration::days(1);
/// The most days.
pub const MAX_DAYS: u32 = 36_500;

#[derive(Serialize, Deserialize)]
struct Set {
    days: u32,
}

/// Days that bodies are kept; 0: for ever.
///
/// # Errors
/// When the database cannot be read.
pub async fn days(db: &Db) -> Result<u32> {
    let mut connection = db.read().await?;
    let days = store::retention::days(&mut connection).await?;
    db.barrier(&mut connection).await?;
    Ok(days.unsigned_abs())
}

/// Sets how long bodies are kept.
///
/// # Errors
/// `INVALID_ARGUMENT` when it is too long.
pub async fn set_days(db: &Db, ambient: &Ambient, context: Context, days: u32) -> Result<u32> {
    if days > MAX_DAYS {
        let expected = format!("expected 0 to {MAX_DAYS}; 0 keeps them for ever");
        return Err(Error::invalid("days", expected));
    }
    let now = ambient.clock.now();
    let key = context.request_key(ambient, "audit.set_retention", &Set { days })?;
    let mut request = match db.begin_request::<Set>(key, now).await? {
        Begun::Told(told) => return Ok(told.days),
        Begun::New(request) => request,
    };
    let connection = request.connection();
    store::retention::set(connection, i32::try_from(days).map_err(Error::internal)?).await?;
    let subject = match days {
        0 => "for ever".to_owned(),
        days => format!("{days} days"),
    };
    let entry = Entry::ok(context, "audit.set_retention", subject);
    append(connection, now, &[entry]).await?;
    request.finish(&Set { days }).await?;
    Ok(days)
}

/// Drops bodies that are older than that, from the oldest on, and says so in
/// the log; and keeps one checkpoint an hour of before yesterday. Returns how
/// many rows it touched.
///
/// # Errors
/// When the database refuses.
pub async fn sweep(db: &Db, ambient: &Ambient) -> Result<u64> {
    let now = ambient.clock.now();
    let mut tx = db.begin().await?;
    if !store::log::try_lock(&mut tx, store::log::Alone::Sweeps).await? {
        return Ok(0);
    }
    let days = store::retention::days(&mut tx).await?;
    let thinned = store::checkpoint::thin(&mut tx, now - ALL_CHECKPOINTS, LIMIT).await?;
    let mut dropped = 0;
    if days > 0 {
        let before = now - time::Duration::days(days.into());
        for log in store::log::all(&mut tx).await? {
            let range = (log.number, log.bodies_from, log.head.size);
            let (next, count) =
                store::retention::drop_bodies(&mut tx, range, before, LIMIT).await?;
            if count > 0 {
                let subject = format!("{} {} to {}", log.origin, log.bodies_from, next - 1);
                let mut entry = Entry::ok(Context::system(), "audit.drop_bodies", subject);
                entry.count = count;
                append(&mut tx, now, &[entry]).await?;
            }
            dropped += count.unsigned_abs();
        }
    }
    if dropped + thinned > 0 {
        db.commit(tx).await?;
    }
    Ok(dropped + thinned)
}
