//! The suite as a process.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use crate::clients::{tool, tool_path};

/// The suite bounds each scenario itself; this bounds all of them.
const PATIENCE: Duration = Duration::from_mins(4);

/// Runs what a revision requires of a server. Fails the test when a scored
/// check fails or warns that is not in this list, or passes although it is.
pub(super) async fn run(url: &str, revision: &str, expected_failures: &Path) {
    let program = "conformance/node_modules/@modelcontextprotocol/conformance/dist/index.js";
    let results = tempfile::tempdir().unwrap();
    let mut node = tool("bin/node");
    node.arg(tool_path(program))
        .args(["server", "--url", &format!("{url}/mcp")])
        .args(["--requirements", revision, "--expected-failures"])
        .arg(expected_failures)
        .arg("--output-dir")
        .arg(results.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, node.output()).await;
    let output = output.unwrap().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(
        output.status.success(),
        "{told}\n{}",
        not_passed(results.path())
    );
}

/// Each check that has not passed, expected or not, and what it says.
fn not_passed(results: &Path) -> String {
    let mut told = String::new();
    for scenario in sorted(results) {
        let name = scenario.file_name().unwrap().to_string_lossy().into_owned();
        let checks = std::fs::read(scenario.join("checks.json")).unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&checks).unwrap();
        for check in checks {
            if matches!(check["status"].as_str(), Some("FAILURE" | "WARNING")) {
                let (id, why) = (&check["id"], &check["errorMessage"]);
                writeln!(told, "{name}: {id}: {why}\n    {}", check["details"]).unwrap();
            }
        }
    }
    told
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
