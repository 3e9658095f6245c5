//! Restoring a backup into an empty database.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use sqlx::PgConnection;
use time::format_description::well_known::Rfc3339;

use super::{
    Tell,
    fence::{Fenced, fence_now},
    files,
    libpq::Environment,
    manifest::{DUMP, Manifest},
    store,
    tool::{Tool, failed},
};
use crate::{
    budgets::AsOf,
    clock::Ambient,
    config::Config,
    db::{self, MIGRATOR, Pools},
    error::{Error, Result},
};

/// What a restore has come to.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The backup.
    pub manifest: Manifest,
    /// Migrations that were applied after it.
    pub migrations: usize,
    /// What its fence has done.
    pub fenced: Fenced,
}

/// Restores a backup into the configured database, which has to be empty, and
/// fences it.
///
/// # Errors
/// `INVALID_ARGUMENT` when the backup is not whole, is of a newer schema or of
/// another trust domain (`input`), or the database is not empty (`database.url`);
/// when `pg_restore` is missing, too old or fails. The database is as empty as
/// before then, unless the sentence says what to do.
pub async fn restore(
    config: &Config,
    ambient: &Ambient,
    input: &Path,
    tell: Tell<'_>,
) -> Result<Restored> {
    let manifest = Manifest::read(input)?;
    check_kind(&manifest, config)?;
    tell("compares the dump with its digest");
    let dump = check_dump(&manifest, input).await?;

    let url = &config.database.url;
    let pools = Pools::connect(url.expose(), 1).await?;
    let primary = pools.primary().await?;
    let mut connection = primary.connect().await?;
    let tool = Tool::find("pg_restore", Environment::of(primary.options(), url)).await?;
    tool.reads("the backup", manifest.postgres_version)?;
    check_server(&mut connection, &manifest).await?;
    check_empty(&mut connection, &tool).await?;
    let list: [OsString; 2] = ["--list".into(), dump.clone().into_os_string()];
    tool.run(list).await?;

    tell(&format!("restores into the database `{}`", tool.database()));
    // whoever serves it from here on fences it: as it arrives there, or within a second
    store::mark_unfenced(&mut connection).await?;
    if let Err(error) = tool.run(arguments(tool.database(), &dump)).await {
        store::unmark(&mut connection).await?;
        let detail = format!(
            "nothing was restored, the database is as empty as before: {}",
            error.problem().detail
        );
        return Err(failed(detail));
    }
    compare(&mut connection, &manifest).await?;
    let migrations = migrate(&mut connection, &manifest).await?;
    tell("fences what was restored");
    let fenced = fence_now(&mut connection, ambient, AsOf::Itself).await.map_err(|error| {
        failed(format!(
            "the backup is restored and not fenced; run `{}` before anything is served: {error}",
            in_place(&manifest)
        ))
    })?;
    pools.close().await;
    Ok(Restored {
        manifest,
        migrations,
        fenced,
    })
}

/// Whether this program, as it is configured, is one for the backup.
fn check_kind(manifest: &Manifest, config: &Config) -> Result<()> {
    let (is, known) = (manifest.facts.schema_version, db::newest_schema());
    if is > known {
        return Err(Error::invalid(
            "input",
            format!(
                "the backup's schema `{is}` is newer than this program's, `{known}`: restore it with version {} or later",
                manifest.program_version
            ),
        ));
    }
    let (of, own) = (&manifest.facts.trust_domain, &config.identity.trust_domain);
    if of == own {
        return Ok(());
    }
    Err(Error::invalid(
        "identity.trust_domain",
        format!("the backup is of `{of}`, and this is `{own}`; set it to that"),
    ))
}

/// The path of the dump, once it was found to be the one that was made.
async fn check_dump(manifest: &Manifest, input: &Path) -> Result<PathBuf> {
    let path = input.join(DUMP);
    let (sha256, bytes) = files::digest(path.clone()).await?;
    if (&sha256, bytes) == (&manifest.dump.sha256, manifest.dump.bytes) {
        return Ok(path);
    }
    Err(Error::invalid(
        "input",
        format!(
            "`{}` is not what was backed up: {bytes} bytes with SHA-256 `{sha256}`, and {} with `{}` in the manifest",
            path.display(),
            manifest.dump.bytes,
            manifest.dump.sha256
        ),
    ))
}

async fn check_server(connection: &mut PgConnection, manifest: &Manifest) -> Result<()> {
    let (is, was) = (
        store::server_version(connection).await? / 10_000,
        manifest.postgres_version,
    );
    if is >= was {
        return Ok(());
    }
    Err(Error::invalid(
        "database.url",
        format!(
            "the server is PostgreSQL {is}, and the backup of {was}: restore it to that or a later one"
        ),
    ))
}

async fn check_empty(connection: &mut PgConnection, tool: &Tool) -> Result<()> {
    let Some(found) = store::something_in(connection).await? else {
        return Ok(());
    };
    Err(Error::invalid(
        "database.url",
        format!(
            "the database `{}` is not empty: it has `{found}`; restore into a new one",
            tool.database()
        ),
    ))
}

fn arguments(database: &str, dump: &Path) -> Vec<OsString> {
    // as a setting, so that no name is read as anything else
    let name = database.replace('\\', "\\\\").replace('\'', "\\'");
    vec![
        "--single-transaction".into(),
        "--exit-on-error".into(),
        "--no-owner".into(),
        "--no-privileges".into(),
        "--no-password".into(),
        format!("--dbname=dbname='{name}'").into(),
        dump.into(),
    ]
}

/// Whether the database holds what the manifest says.
async fn compare(connection: &mut PgConnection, manifest: &Manifest) -> Result<()> {
    let facts = store::facts(connection).await?;
    let difference = match &facts {
        Some(facts) => facts.difference(&manifest.facts),
        None => Some("it holds no installation".to_owned()),
    };
    match difference {
        None => Ok(()),
        Some(difference) => Err(failed(format!(
            "what was restored is not what the manifest says ({difference}): drop this database, make it anew and \
             restore another backup"
        ))),
    }
}

/// What fences it, where it was not.
fn in_place(manifest: &Manifest) -> String {
    let of = manifest.created_at.format(&Rfc3339).unwrap_or_default();
    format!("control-plane restore --in-place --as-of {of}")
}

/// Brings an older schema up to date; returns how many migrations that took.
async fn migrate(connection: &mut PgConnection, manifest: &Manifest) -> Result<usize> {
    let before = manifest.facts.schema_version;
    MIGRATOR.run(&mut *connection).await.map_err(|error| {
        failed(format!(
            "the backup is restored and its schema not up to date; run `control-plane migrate`, then `{}`, before \
             anything is served: {error}",
            in_place(manifest)
        ))
    })?;
    let now = db::schema_version(connection).await?;
    let applied = MIGRATOR
        .iter()
        .filter(|migration| (before + 1..=now).contains(&migration.version));
    Ok(applied.count())
}
