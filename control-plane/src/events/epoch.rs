//! The installation's own row: its epoch, its name, its time floor.

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::store;
use crate::{
    clock::Ambient,
    db::Db,
    error::{Error, Result},
};

/// What the database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Made once, at the first start.
    pub id: Uuid,
    /// The name in certificates and tokens; fixed at the first start.
    pub trust_domain: String,
    /// Counts promotions and restores.
    pub epoch: i64,
    /// Server time never goes below it.
    pub time_floor: OffsetDateTime,
}

/// What the server is to the database that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The one that the database remembers.
    Known,
    /// One that was promoted: a new epoch has begun.
    Promoted,
    /// One that the database was restored or copied to, in which epoch: nothing
    /// was done, and nothing may be before a fence has begun a new one.
    Restored(i64),
}

/// Opens the installation: makes it at the first start, begins a new epoch
/// where the server was promoted, and raises the clock to the persisted floor.
///
/// # Errors
/// `INVALID_ARGUMENT` when the installation has another trust domain.
pub async fn open(db: &Db, ambient: &Ambient, trust_domain: &str) -> Result<Installation> {
    let mut tx = db.begin().await?;
    store::installation::install(&mut tx, ambient.uuid(), trust_domain, ambient.clock.now())
        .await?;
    refresh(&mut tx).await?;
    let installation = installation(&mut tx).await?;
    db.commit(tx).await?;
    if installation.trust_domain != trust_domain {
        return Err(Error::invalid(
            "identity.trust_domain",
            format!(
                "this installation was made for `{}`; set it to that",
                installation.trust_domain
            ),
        ));
    }
    ambient.clock.raise_floor(installation.time_floor);
    Ok(installation)
}

/// The installation as it is.
///
/// # Errors
/// When the database cannot be read, or holds none.
pub async fn installation(connection: &mut PgConnection) -> Result<Installation> {
    store::installation::installation(connection).await
}

/// Begins a new epoch where the server was promoted since the database last
/// looked; harmless to call at any time. A physical copy has the identifier of
/// its original, so another one means a restore.
///
/// # Errors
/// When the database refuses.
pub async fn refresh(connection: &mut PgConnection) -> Result<Seen> {
    let server = store::installation::server(&mut *connection).await?;
    if server.unfenced || server.identifier != server.known_identifier {
        return Ok(Seen::Restored(server.epoch));
    }
    if server.timeline == server.known_timeline {
        return Ok(Seen::Known);
    }
    Ok(
        if store::installation::begin_epoch(connection, &server).await? {
            Seen::Promoted
        } else {
            Seen::Known
        },
    )
}

/// As [`refresh`], on the first connection to a server that has become the
/// primary, before anything else is written there. It waits for no standby:
/// whatever is written after it cannot reach one without it.
///
/// # Errors
/// When the database refuses.
pub async fn arrive(connection: &mut PgConnection) -> Result<Seen> {
    let mut tx = connection.begin().await?;
    commit_locally(&mut tx).await?;
    let seen = refresh(&mut tx).await?;
    if seen == Seen::Promoted {
        tracing::info!("began a new epoch: the database was promoted");
    }
    tx.commit().await?;
    Ok(seen)
}

/// Has this transaction's commit wait for its own disk only.
///
/// # Errors
/// When the database refuses.
pub async fn commit_locally(connection: &mut PgConnection) -> Result<()> {
    Ok(store::commit_locally(connection).await?)
}

/// Begins the epoch of a restored database after this one, which none that the
/// lost one came to can be: not the next number, but that of the seconds since
/// 1970. Returns it; `None`: another control plane was first. It holds the
/// installation's row until the transaction ends.
///
/// # Errors
/// When the database refuses.
pub async fn begin_restored(
    connection: &mut PgConnection,
    before: i64,
    now: OffsetDateTime,
) -> Result<Option<i64>> {
    let server = store::installation::Server {
        epoch: before,
        ..store::installation::server(&mut *connection).await?
    };
    store::installation::begin_restored(connection, &server, now.unix_timestamp(), now).await
}

/// The epoch that the newest restore has begun: positions, sessions and grants
/// of lower ones have ended. 0: there was none.
///
/// # Errors
/// When the database cannot be read.
pub async fn restored_epoch(connection: &mut PgConnection) -> Result<i64> {
    store::installation::restored_epoch(connection).await
}

/// Persists that time has come this far.
///
/// # Errors
/// When the database refuses.
pub async fn raise_time_floor(connection: &mut PgConnection, floor: OffsetDateTime) -> Result<()> {
    store::installation::raise_time_floor(connection, floor).await
}

/// The database's epoch.
///
/// # Errors
/// When the database refuses.
pub async fn current(connection: &mut PgConnection) -> Result<i64> {
    store::installation::epoch(connection).await
}
