//! What both verifiers say of a file: the command line's own, and one in
//! Python that shares no code with it.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

use crate::operator::{Told, told};

/// What is given besides the file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given<'a> {
    pub(super) checkpoint: Option<&'a Path>,
    pub(super) key: Option<&'a str>,
}

/// Whether a file (`export` or `proof`) fits. Both have to say the same; what
/// the command line said comes with it.
pub(super) async fn verdict(what: &str, file: &Path, given: Given<'_>) -> (bool, Told) {
    let file = file.to_str().unwrap();
    let (ours, theirs) = tokio::join!(ours(what, file, given), theirs(what, file, given));
    assert!(matches!(ours.code, 0 | 1), "{}", ours.stderr);
    assert!(matches!(theirs.code, 0 | 1), "{}", theirs.stderr);
    assert_eq!(theirs.stderr, "", "it broke down");
    assert_eq!(
        ours.code, theirs.code,
        "one of them is wrong on {file}\nours: {}{}\nPython: {}",
        ours.stdout, ours.stderr, theirs.stdout
    );
    (ours.code == 0, ours)
}

async fn ours(what: &str, file: &str, given: Given<'_>) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    let option = format!("--{what}");
    command.args(["audit", "verify", &option, file]);
    // no server, no token: nobody is asked
    command.env_remove("AUTHGUARDIAN_ADMIN_TOKEN");
    run(command, given).await
}

async fn theirs(what: &str, file: &str, given: Given<'_>) -> Told {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/audit/verify_export.py"
    );
    let mut command = Command::new("python3");
    command.args([script, what, file]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    run(command, given).await
}

async fn run(mut command: Command, given: Given<'_>) -> Told {
    if let Some(path) = given.checkpoint {
        command.arg("--checkpoint").arg(path);
    }
    if let Some(key) = given.key {
        command.args(["--key", key]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    told(command).await
}
