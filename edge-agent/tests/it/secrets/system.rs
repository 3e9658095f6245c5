//! Both programs as they are deployed, on a PostgreSQL of their own, their logs
//! as loud as they get.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use control_plane::{
    app,
    clock::Entropy,
    db::private_postgres::{Options, PrivatePostgres},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::search::hex;
use crate::{
    edge::{BINARY, output},
    wait::until,
};

/// The system, and an admin's token for it.
pub(super) struct System {
    pub(super) postgres: PrivatePostgres,
    pub(super) control_plane: Daemon,
    pub(super) edge: Option<Daemon>,
    pub(super) admin_token: String,
    pub(super) master_key: String,
    addresses: Value,
    /// What verbs have said beside their data.
    pub(super) said: String,
    pub(super) files: TempDir,
}

/// A daemon and where its log goes.
pub(super) struct Daemon {
    child: Child,
    pub(super) log: PathBuf,
}

impl Daemon {
    fn spawn(mut command: Command, log: PathBuf) -> Self {
        command
            .env("AUTHGUARDIAN_LOG__LEVEL", "trace")
            .env("AUTHGUARDIAN_LOG__FORMAT", "json")
            // so that a test that is not root's can look into its memory
            .env("AUTHGUARDIAN_CORE_DUMPS", "1")
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        Self {
            child: command.spawn().unwrap(),
            log,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The line of the log with this message.
    fn logged(&self, message: &str) -> Option<Value> {
        let log = fs::read_to_string(&self.log).unwrap();
        let mut lines = log
            .lines()
            .filter(|line| line.contains(message))
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["message"] == message)
    }
}

impl System {
    /// Starts all but the edge.
    pub(super) async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        // the server runs as another user when this one is root
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(files.path(), open).unwrap();
        let postgres = PrivatePostgres::start(Options::new(files.path().join("postgres")));
        let postgres = postgres.await.unwrap();
        let entropy = Entropy::from_system().unwrap();
        let master_key = hex(&entropy.bytes::<32>());
        let key_file = files.path().join("master.key");
        fs::write(&key_file, &master_key).unwrap();
        app::migrate(&postgres.url()).await.unwrap();

        let mut command = program("control-plane");
        command.arg("serve");
        for setting in [
            format!("database.url={}", postgres.url()),
            format!("identity.master_key_file={}", key_file.display()),
            format!(
                "listen.admin_socket={}",
                files.path().join("admin.sock").display()
            ),
            "identity.key_publication_seconds=1".to_owned(),
            "listen.http=127.0.0.1:0".to_owned(),
            "listen.admin_grpc=127.0.0.1:0".to_owned(),
            "listen.edge_grpc=127.0.0.1:0".to_owned(),
        ] {
            command.args(["--set", &setting]);
        }
        let mut control_plane = Daemon::spawn(command, files.path().join("control-plane.log"));
        let mut addresses = Value::Null;
        until("the control plane is ready", || {
            let ended = control_plane.child.try_wait().unwrap();
            assert!(ended.is_none(), "the control plane has ended");
            control_plane.logged("ready").is_some_and(|line| {
                addresses = line;
                true
            })
        })
        .await;
        let mut bootstrap = program("control-plane");
        bootstrap.args(["bootstrap", "-o", "json", "--socket"]);
        bootstrap.arg(files.path().join("admin.sock"));
        bootstrap
            .arg("--ca-file-out")
            .arg(files.path().join("ca.pem"));
        let made = output(bootstrap).await;
        let said = String::from_utf8(made.stderr).unwrap();
        assert!(made.status.success(), "{said}");
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        let admin_token = made["admin_token"].as_str().unwrap().to_owned();
        Self {
            postgres,
            control_plane,
            edge: None,
            admin_token,
            master_key,
            addresses,
            said,
            files,
        }
    }

    /// Joins and runs an edge; returns its URL.
    pub(super) async fn run_edge(&mut self, join_token: &str) -> String {
        let dir = self.edge_dir();
        let ready = dir.join("ready.json");
        fs::create_dir_all(&dir).unwrap();
        let server = format!("https://{}", self.address("edge_grpc"));
        // a process of its own: what is in an environment stays in memory
        let mut join = program("edge-agent");
        join.args(["join", "--server", &server])
            .arg("--data-dir")
            .arg(&dir);
        join.env("AUTHGUARDIAN_JOIN_TOKEN", join_token);
        let joined = output(join).await;
        let said = String::from_utf8(joined.stderr).unwrap();
        assert!(joined.status.success(), "{said}");
        self.said.push_str(&said);
        let mut command = program("edge-agent");
        command.arg("run").arg("--data-dir").arg(&dir);
        command.arg("--ready-file").arg(&ready);
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--listen-websocket",
            "",
            "--exit-with-parent",
        ]);
        command.args(["--server", &server]);
        command.stdin(Stdio::piped());
        let mut edge = Daemon::spawn(command, self.files.path().join("edge.log"));
        until("the edge is ready", || {
            assert!(
                edge.child.try_wait().unwrap().is_none(),
                "the edge has ended"
            );
            ready.exists()
        })
        .await;
        self.edge = Some(edge);
        let told: Value = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
        told["edge_http"].as_str().unwrap().to_owned()
    }

    pub(super) fn edge_dir(&self) -> PathBuf {
        self.files.path().join("edge")
    }

    /// A listener's address.
    pub(super) fn address(&self, listener: &str) -> &str {
        self.addresses[listener].as_str().unwrap()
    }

    /// A verb of `control-plane` with an admin's token, and its data.
    pub(super) async fn operate_as(&mut self, token: &str, arguments: &[&str]) -> Value {
        let mut command = program("control-plane");
        command
            .args(arguments)
            .args(["-o", "json"])
            .env(
                "AUTHGUARDIAN_SERVER",
                format!("https://{}", self.address("admin_grpc")),
            )
            .env("AUTHGUARDIAN_CA_FILE", self.files.path().join("ca.pem"))
            .env("AUTHGUARDIAN_ADMIN_TOKEN", token);
        let output = output(command).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        self.said.push_str(&said);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// As [`System::operate_as`] the first admin.
    pub(super) async fn operate(&mut self, arguments: &[&str]) -> Value {
        let token = self.admin_token.clone();
        self.operate_as(&token, arguments).await
    }
}

/// One of the two, without anything of the surrounding environment; it ends
/// with this thread.
fn program(name: &str) -> Command {
    let binary = Path::new(BINARY).with_file_name(name);
    assert!(
        binary.is_file(),
        "`{}` has to be built first",
        binary.display()
    );
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(binary);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUTHGUARDIAN_")) {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    command
}
