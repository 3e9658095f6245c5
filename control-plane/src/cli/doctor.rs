//! `doctor`: looks at what the control plane needs on this machine.

use std::{net::SocketAddr, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use clap::Args;
use serde::Serialize;
use sqlx::ConnectOptions;

use super::{
    ConfigArgs,
    failure::Failure,
    output::{Format, Page, Row},
};
use crate::{
    clock::SystemClock,
    config::{Config, Database, DatabaseUrl},
    db::{self, Db},
    error::Error,
    identity::seal::MasterKeys,
};

const EXAMPLES: &str = "\
Examples:
  control-plane doctor --config /etc/authguardian/control-plane.toml
  control-plane doctor -o json

Exits with 1 when a check fails; a warning is no failure.";

/// How long a server may take to let us in.
const CONNECT: Duration = Duration::from_secs(3);

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
    let mut findings = servers(&config.url).await;
    if !findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Ok)
    {
        return findings;
    }
    if findings.len() == 1 {
        findings.clear(); // its version says the same
    }
    let db = match db::open(config, Arc::new(SystemClock::default())).await {
        Ok(db) => db,
        Err(error) => {
            let detail = format!("`{}`: {}", config.url, with_cause(&error));
            findings.push(failed("database", detail));
            return findings;
        }
    };
    findings.push(version(&db, config).await);
    findings.push(schema(&db).await);
    if config.write_quorum > 1 {
        findings.push(quorum(&db).await);
    }
    if let Some(lease) = db.quorum.lease() {
        findings.push(match lease.remaining() {
            Ok(remaining) => ok(
                "leader lease",
                format!("lasts {} s more at least", remaining.as_secs()),
            ),
            Err(why) => failed("leader lease", why),
        });
    }
    db.pools.close().await;
    findings
}

/// Each server of the URL; one that is away is no failure as long as another can
/// be written to.
async fn servers(url: &DatabaseUrl) -> Vec<Finding> {
    let servers = match url.servers() {
        Ok(servers) => servers,
        Err(problem) => return vec![failed("database", problem)],
    };
    let asked = servers.iter().map(async |server| {
        let asked = async { db::is_standby(&mut server.connect().await?).await };
        let place = format!("`{}:{}`", server.get_host(), server.get_port());
        match tokio::time::timeout(CONNECT, asked).await {
            Ok(Ok(false)) => ok("database", format!("{place} can be written to")),
            Ok(Ok(true)) => warning("database", format!("{place} is a standby")),
            Ok(Err(error)) => warning("database", format!("{place}: {error}")),
            Err(_) => warning("database", format!("{place} does not answer")),
        }
    });
    let mut findings = futures::future::join_all(asked).await;
    if findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Ok)
    {
        for finding in &mut findings {
            finding.verdict = Verdict::Failed;
        }
    }
    findings
}

async fn quorum(db: &Db) -> Finding {
    let observed = async { db.quorum.observe(&mut *db.read().await?).await };
    let wanted = db.quorum.write_quorum();
    match observed.await {
        Ok(copies) if copies >= wanted => ok(
            "write quorum",
            format!("{copies} nodes confirm writes, {wanted} are needed"),
        ),
        Ok(copies) => failed(
            "write quorum",
            format!(
                "{copies} of {wanted} nodes confirm writes: `synchronous_standby_names` has to be `ANY {} (…)` \
                 with so many streaming, and the role needs `pg_monitor` to see them",
                wanted - 1
            ),
        ),
        Err(error) => failed("write quorum", with_cause(&error)),
    }
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
    let newest = db::newest_schema();
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
