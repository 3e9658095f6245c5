//! The command line as a client: stdout is data, the exit code tells.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    edge::{command, output},
    rig::Rig,
    wait::DEADLINE,
};

async fn run(rig: &Rig, arguments: &[&str]) -> Output {
    let mut command = command();
    command
        .args(arguments)
        .env("AUTHGUARDIAN_EDGE_URL", &rig.edge.url)
        .env("AUTHGUARDIAN_API_KEY", &rig.api_key);
    output(command).await
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn the_roadmaps_example_as_a_command() {
    let rig = Rig::start().await;
    let request = [
        "request-permission",
        "--agent",
        "data_analyst",
        "--resource",
        "SAP_API",
        "--justification",
        "Q4 analysis task",
    ];
    let granted = run(&rig, &request).await;
    assert_eq!(granted.status.code(), Some(0));
    let table = stdout(&granted);
    assert!(
        table.contains("granted") && table.contains("570"),
        "{table}"
    );

    let granted = run(&rig, &[&request[..], &["-o", "json"]].concat()).await;
    let granted: Value = serde_json::from_slice(&granted.stdout).unwrap();
    let token = granted["token"].as_str().unwrap();
    let validate = [
        "validate-token",
        "--agent",
        "data_analyst",
        "--resource",
        "SAP_API",
        token,
        "-o",
        "yaml",
    ];
    let valid = run(&rig, &validate).await;
    assert_eq!(
        (valid.status.code(), stdout(&valid).contains("valid: true")),
        (Some(0), true)
    );

    let revoked = run(&rig, &["revoke-token", token]).await;
    assert_eq!(revoked.status.code(), Some(0));
    let invalid = run(&rig, &validate).await;
    assert_eq!(
        (
            invalid.status.code(),
            stdout(&invalid).contains("GRANT_REVOKED")
        ),
        (Some(4), true)
    );
}

#[tokio::test]
async fn refusals_have_their_exit_codes_and_say_why_on_stderr() {
    let rig = Rig::start().await;
    let ask = |agent: &'static str, resource: &'static str, why: &'static str| {
        [
            "request-permission",
            "--agent",
            agent,
            "--resource",
            resource,
            "--justification",
            why,
        ]
    };
    for (arguments, code, told) in [
        (ask("data_analyst", "SAP_API", "hi"), 4, ""),
        (
            ask("orchestrator", "SAP_API", "Q4 analysis task"),
            4,
            "AGENT_MISMATCH",
        ),
        (
            ask("data_analyst", "NO_SUCH_API", "Q4 analysis task"),
            3,
            "UNKNOWN_RESOURCE_TYPE",
        ),
        (ask("data_analyst", "SAP_API", ""), 2, "INVALID_ARGUMENT"),
    ] {
        let refused = run(&rig, &arguments).await;
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
    }
    let mut nobody = command();
    nobody.args(["status", "--server", "http://127.0.0.1:1"]);
    assert_eq!(output(nobody).await.status.code(), Some(6));
    let mut no_key = command();
    no_key.args(["revoke-token", "x", "--server", &rig.edge.url]);
    assert_eq!(output(no_key).await.status.code(), Some(2));
    let status = run(&rig, &["status", "-o", "json"]).await;
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["ready"], true);
}

#[tokio::test]
async fn a_watched_status_tells_when_the_control_plane_goes_away() {
    let rig = Rig::start().await;
    let mut watch = command();
    watch
        .args(["status", "--watch=1", "-o", "json"])
        .args(["--server", &rig.edge.url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = watch.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await;
        let line = line.unwrap().unwrap().unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    assert_eq!(next().await["ready"], true);
    rig.control_plane.stop().await;
    assert_eq!(next().await["ready"], false, "staleness alone is no news");

    drop(rig.edge);
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = tokio::time::timeout(DEADLINE, errors.next_line()).await;
    let told = told.unwrap().unwrap().unwrap();
    assert!(told.contains("cannot be reached"), "{told}");
    drop(lines);
    let status = tokio::time::timeout(DEADLINE, child.wait()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_reader_that_leaves_changes_no_exit_code() {
    let rig = Rig::start().await;
    let (agent, resource) = ("data_analyst", "SAP_API");
    let invalid = [
        "validate-token",
        "--agent",
        agent,
        "--resource",
        resource,
        "x",
    ];
    for (arguments, code) in [(&["status"][..], 0), (&invalid[..], 4)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command();
        command
            .args(arguments)
            .env("AUTHGUARDIAN_EDGE_URL", &rig.edge.url)
            .env("AUTHGUARDIAN_API_KEY", &rig.api_key)
            .stdout(writer)
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
        let output = output.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[tokio::test]
async fn completions_know_the_verbs_of_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let mut completions = command();
        completions.args(["completions", shell]);
        let script = output(completions).await;
        assert_eq!(script.status.code(), Some(0));
        for verb in ["request-permission", "validate-token", "stdio", "watch"] {
            assert!(stdout(&script).contains(verb), "{shell} lacks `{verb}`");
        }
    }
    let mut unknown = command();
    unknown.args(["completions", "cmd"]);
    assert_eq!(output(unknown).await.status.code(), Some(2));
}
