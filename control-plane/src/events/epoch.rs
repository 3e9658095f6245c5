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

/// Opens the installation: makes it at the first start, begins a new epoch
/// where the server is not the one that the database remembers, and raises the
/// clock to the persisted floor.
///
/// # Errors
/// `INVALID_ARGUMENT` when the installation has another trust domain.
pub async fn open(db: &Db, ambient: &Ambient, trust_domain: &str) -> Result<Installation> {
    let mut tx = db.begin().await?;
    store::install(&mut tx, ambient.uuid(), trust_domain, ambient.clock.now()).await?;
    refresh(&mut tx).await?;
    let installation = store::installation(&mut tx).await?;
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

/// Begins a new epoch where the server was promoted or restored since the
/// database last looked; harmless to call at any time. Returns whether it did.
///
/// # Errors
/// When the database refuses.
pub async fn refresh(connection: &mut PgConnection) -> Result<bool> {
    let server = store::server(&mut *connection).await?;
    if server.identifier == server.known_identifier && server.timeline == server.known_timeline {
        return Ok(false);
    }
    store::begin_epoch(connection, &server).await
}

/// As [`refresh`], on the first connection to a server that has become the
/// primary, before anything else is written there. It waits for no standby:
/// whatever is written after it cannot reach one without it.
///
/// # Errors
/// When the database refuses.
pub async fn arrive(connection: &mut PgConnection) -> Result<()> {
    let mut tx = connection.begin().await?;
    store::commit_locally(&mut tx).await?;
    if refresh(&mut tx).await? {
        tracing::info!("began a new epoch: the database was promoted or restored");
    }
    tx.commit().await?;
    Ok(())
}

/// Persists that time has come this far.
///
/// # Errors
/// When the database refuses.
pub async fn raise_time_floor(connection: &mut PgConnection, floor: OffsetDateTime) -> Result<()> {
    store::raise_time_floor(connection, floor).await
}
