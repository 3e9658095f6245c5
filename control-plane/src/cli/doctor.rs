//! `doctor`: looks at what the control plane needs on this machine.

use std::{net::SocketAddr, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use clap::Args;
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use super::{
    ConfigArgs,
    failure::Failure,
    output::{Format, Page, Row},
};
use crate::{
    config::{Config, Database},
    db::{self, Db, MIGRATOR, Pools, Quorum},
    error::Error,
    identity::seal::MasterKeys,
};

const EXAMPLES: &str = "\
Examples:
  control-plane doctor --config /etc/authguardian/control-plane.toml
  control-plane doctor -o json

Exits with 1 when a check fails; a warning is no failure.";

/// The oldest PostgreSQL that we are tested with.
const OLDEST_POSTGRES: u32 = 15;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// How results are written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    detail: String,
}

impl DoctorArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let mut findings = database(&config.database).await;
        findings.push(master_key(&config.identity.master_key_file));
        findings.extend(listeners(&config));
        let failed = findings
            .iter()
            .any(|finding| finding.verdict == Verdict::Failed);
        self.output.page(&Page {
            items: findings,
            next_page_token: None,
        })?;
        if failed {
            Err(Failure::Told(1))
        } else {
            Ok(())
        }
    }
}

async fn database(config: &Database) -> Vec<Finding> {
    // a pool would go on trying, and then tell of a timeout only
    match PgConnection::connect(config.url.expose()).await {
        Ok(connection) => drop(connection),
        Err(error) => return vec![failed("database", format!("`{}`: {error}", config.url))],
    }
    let pools = match Pools::connect(config.url.expose(), 1).await {
        Ok(pools) => pools,
        Err(error) => {
            return vec![failed(
                "database",
                format!("`{}`: {}", config.url, with_cause(&error)),
            )];
        }
    };
    let db = Db::new(pools, Arc::new(Quorum::new(config.write_quorum)));
    let findings = vec![version(&db, config).await, schema(&db).await];
    db.pools.close().await;
    findings
}

async fn version(db: &Db, config: &Database) -> Finding {
    match db.server_version().await {
        Ok(version) if major(&version) >= OLDEST_POSTGRES => ok(
            "database",
            format!("PostgreSQL {version} at `{}`", config.url),
        ),
        Ok(version) => failed(
            "database",
            format!("PostgreSQL {version} is older than {OLDEST_POSTGRES}: upgrade it"),
        ),
        Err(error) => failed("database", with_cause(&error)),
    }
}

async fn schema(db: &Db) -> Finding {
    let newest = MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default();
    let applied = async { db::schema_version(&mut *db.read().await?).await };
    match applied.await {
        Ok(0) => failed("schema", "there is none: run `control-plane migrate`"),
        Ok(version) if version < newest => {
            failed("schema", "it is old: run `control-plane migrate`")
        }
        Ok(version) if version > newest => warning(
            "schema",
            format!("version {version} is newer than this program knows"),
        ),
        Ok(version) => ok("schema", format!("version {version}")),
        Err(error) => failed("schema", with_cause(&error)),
    }
}

fn master_key(path: &Path) -> Finding {
    let ids = match MasterKeys::from_file(path) {
        Ok(keys) => keys.ids().map(ToString::to_string).collect::<Vec<_>>(),
        Err(error) => return failed("master key", with_cause(&error)),
    };
    match std::fs::metadata(path) {
        Ok(meta) if meta.mode() & 0o077 != 0 => failed(
            "master key",
            format!(
                "others may read `{0}` (mode {1:o}): `chmod 600 {0}`",
                path.display(),
                meta.mode() & 0o777
            ),
        ),
        Ok(_) => ok(
            "master key",
            format!(
                "`{}` has {}; the first seals",
                path.display(),
                ids.join(", ")
            ),
        ),
        Err(error) => failed("master key", error.to_string()),
    }
}

fn listeners(config: &Config) -> Vec<Finding> {
    let listen = &config.listen;
    [
        ("listen.http", listen.http),
        ("listen.admin_grpc", listen.admin_grpc),
        ("listen.edge_grpc", listen.edge_grpc),
    ]
    .into_iter()
    .map(|(check, address)| listener(check, address))
    .collect()
}

fn listener(check: &'static str, address: SocketAddr) -> Finding {
    match std::net::TcpListener::bind(address) {
        Ok(_) => ok(check, format!("`{address}` is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => warning(
            check,
            format!("`{address}` is taken: fine if this control plane is running"),
        ),
        Err(error) => failed(check, format!("cannot listen on `{address}`: {error}")),
    }
}

fn major(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

fn with_cause(error: &Error) -> String {
    match error.cause() {
        Some(cause) => format!("{}: {cause}", error.problem().detail),
        None => error.problem().detail.clone(),
    }
}

fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding {
        check,
        verdict: Verdict::Ok,
        detail: detail.into(),
    }
}

fn warning(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding {
        check,
        verdict: Verdict::Warning,
        detail: detail.into(),
    }
}

fn failed(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding {
        check,
        verdict: Verdict::Failed,
        detail: detail.into(),
    }
}

impl Row for Finding {
    const PLURAL: &'static str = "checks";
    const COLUMNS: &'static [&'static str] = &["CHECK", "VERDICT", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        };
        vec![
            self.check.to_owned(),
            verdict.to_owned(),
            self.detail.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_master_key_that_others_may_read_fails() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "ab".repeat(32)).unwrap();
        assert_eq!(master_key(file.path()).verdict, Verdict::Ok);
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let finding = master_key(file.path());
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.detail.contains("mode 640"), "{}", finding.detail);
        assert_eq!(
            master_key(Path::new("/nonexistent")).verdict,
            Verdict::Failed
        );
    }

    #[test]
    fn a_taken_address_is_a_warning_only() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let finding = listener("listen.http", taken.local_addr().unwrap());
        assert_eq!(finding.verdict, Verdict::Warning);
    }

    #[tokio::test]
    async fn a_database_that_is_not_there_fails_without_its_password() {
        let config = Database {
            url: "postgres://ag:secret@127.0.0.1:1/ag".to_owned().into(),
            ..Database::default()
        };
        let findings = database(&config).await;
        assert_eq!(findings[0].verdict, Verdict::Failed);
        assert!(
            !findings[0].detail.contains("secret"),
            "{}",
            findings[0].detail
        );
    }

    #[test]
    fn the_major_version_is_the_first_number() {
        assert_eq!((major("15.18"), major("17beta1"), major("")), (15, 17, 0));
    }
}
