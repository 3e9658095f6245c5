//! Making a backup.

use std::{ffi::OsString, path::Path};

use sqlx::Connection;
use time::OffsetDateTime;

use super::{
    Tell,
    facts::Facts,
    files::{self, Draft},
    libpq::Environment,
    manifest::{DUMP, Dump, Manifest},
    store,
    tool::{Tool, failed},
};
use crate::{
    config::DatabaseUrl,
    db::{self, Pools},
    error::Result,
};

/// Makes a backup in `output`, which gets its name when all of it is there and
/// was read again.
///
/// # Errors
/// `INVALID_ARGUMENT` (`output`) when something is there already; when the
/// database cannot be reached or holds no installation, or `pg_dump` is missing,
/// too old or fails: nothing is left then.
pub async fn take(
    url: &DatabaseUrl,
    now: OffsetDateTime,
    output: &Path,
    tell: Tell<'_>,
) -> Result<Manifest> {
    let draft = Draft::begin(output)?;
    let pools = Pools::connect(url.expose(), 1).await?;
    let primary = pools.primary().await?;
    let mut connection = primary.connect().await?;
    let environment = Environment::of(primary.options(), url);
    let dumping = Tool::find("pg_dump", environment.clone()).await?;
    let restoring = Tool::find("pg_restore", environment).await?;
    let server = store::server_version(&mut connection).await? / 10_000;
    dumping.reads("the server", server)?;
    restoring.reads("the dump", dumping.version)?;

    if db::schema_version(&mut connection).await? > 0 {
        db::refuse_old_schema(&mut connection).await?;
    }
    let mut tx = connection.begin().await?;
    let snapshot = store::export_snapshot(&mut tx).await?;
    let facts = store::facts(&mut tx).await?.ok_or_else(|| {
        failed("the database holds no installation yet: there is nothing to keep")
    })?;
    tell(&format!("dumps the database `{}`", dumping.database()));
    let path = draft.directory.join(DUMP);
    files::make_empty(&path)?;
    dumping.run(arguments(&snapshot, &path)).await?;
    // what reads the same snapshot has ended
    tx.rollback().await?;
    pools.close().await;

    let manifest = describe(now, server, facts, &path).await?;
    tell(&format!(
        "reads what was dumped: {} bytes",
        manifest.dump.bytes
    ));
    let list: [OsString; 2] = ["--list".into(), path.into_os_string()];
    restoring.run(list).await?;
    manifest.write(&draft.directory)?;
    draft.keep()?;
    Ok(manifest)
}

fn arguments(snapshot: &str, path: &Path) -> Vec<OsString> {
    let mut file = OsString::from("--file=");
    file.push(path);
    vec![
        "--format=custom".into(),
        "--no-owner".into(),
        "--no-privileges".into(),
        // nonces of logins, which live for a minute
        "--no-unlogged-table-data".into(),
        "--no-password".into(),
        format!("--snapshot={snapshot}").into(),
        file,
    ]
}

async fn describe(now: OffsetDateTime, server: u32, facts: Facts, path: &Path) -> Result<Manifest> {
    let (sha256, bytes) = files::digest(path.to_owned()).await?;
    let dump = Dump {
        file: DUMP.to_owned(),
        sha256,
        bytes,
    };
    Ok(Manifest::new(now, server, facts, dump))
}
