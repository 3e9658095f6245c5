//! The verbs `blackboard …` of the command line, run as processes.

use std::{fs::File, process::Stdio};

use authguardian_proto::board::Level;
use control_plane::blackboard::BoardUpdate;
use serde_json::{Value, json};

use super::replicas::Replica;
use crate::operator::{Operator, Told, told};

/// Runs a verb with this on stdin.
async fn with_input(operator: &Operator, args: &[&str], text: &str) -> Told {
    let path = operator.path("input");
    std::fs::write(&path, text).unwrap();
    let mut command = operator.command(args);
    command.stdin(Stdio::from(File::open(path).unwrap()));
    told(command).await
}

#[tokio::test]
async fn a_key_is_written_read_listed_and_deleted() {
    let operator = Operator::start().await;
    let on = ["--board", "strong"];
    let verb = |verb: &[&'static str]| [&["blackboard"], verb, &on].concat();
    let written = operator.json(&verb(&["put", "a b", "[1.10, -0]"])).await;
    assert_eq!(written["previous_revision"], 0);
    let told = operator.run(&verb(&["get", "a b", "--value-only"])).await;
    assert_eq!(told.stdout, "[1.10, -0]\n");
    let if_not_there = verb(&["put", "a b", "1", "--if-revision", "0"]);
    assert_eq!(operator.refused(&if_not_there).await.1, "REVISION_CONFLICT");
    assert_eq!(operator.refused(&verb(&["put", "a", "{a: 1}"])).await.0, 2);
    let listed = operator.json(&verb(&["list", "--prefix", "a"])).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        listed["items"][0]["writer"].as_str().unwrap()[..6],
        *"admin:"
    );
    assert_eq!(
        operator.json(&verb(&["delete", "a b"])).await["deleted"],
        true
    );
    assert_eq!(operator.refused(&verb(&["get", "a b"])).await.0, 3);
}

#[tokio::test]
async fn what_is_exported_is_imported_as_it_was() {
    let operator = Operator::start().await;
    let rig = &operator.rig;
    rig.new_board("copy", Level::Session, BoardUpdate::default())
        .await;
    let values = ["1e400", "\"🦀 \\u0000\"", "{\"b\":1,\"a\":[2.50]}", "null"];
    for (number, value) in values.iter().enumerate() {
        let key = format!("k {number}");
        operator
            .json(&["blackboard", "put", &key, value, "--board", "strong"])
            .await;
    }
    operator
        .json(&["blackboard", "put", "other", "1", "--board", "strong"])
        .await;
    let put = [
        "blackboard",
        "put",
        "k ends",
        "1",
        "--board",
        "strong",
        "--ttl-seconds",
        "1000",
    ];
    operator.json(&put).await;
    let export = [
        "blackboard",
        "export",
        "--board",
        "strong",
        "--prefix",
        "k ",
    ];
    let exported = operator.run(&export).await;
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert_eq!(exported.stdout.lines().count(), 5);
    let import = ["blackboard", "import", "--board", "copy", "-o", "json"];
    let imported = with_input(&operator, &import, &exported.stdout).await;
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    let view: Value = serde_json::from_str(&imported.stdout).unwrap();
    assert_eq!(
        (&view["written"], &view["left_out"]),
        (&json!(5), &json!(0))
    );
    for (number, value) in values.iter().enumerate() {
        let key = format!("k {number}");
        let get = ["blackboard", "get", &key, "--board", "copy", "--value-only"];
        assert_eq!(operator.run(&get).await.stdout, format!("{value}\n"));
    }
    let ends = operator
        .json(&["blackboard", "get", "k ends", "--board", "copy"])
        .await;
    assert!(ends["expires_at"].is_string());
    // again, and only what is not there
    let skip = [&import[..], &["--skip-existing"]].concat();
    let more = format!("{}{{\"key\": \"new\", \"value\": 1}}\n\n", exported.stdout);
    let imported = with_input(&operator, &skip, &more).await;
    let view: Value = serde_json::from_str(&imported.stdout).unwrap();
    assert_eq!(
        (&view["written"], &view["left_out"]),
        (&json!(1), &json!(5))
    );
}

#[tokio::test]
async fn a_line_that_cannot_be_imported_is_named() {
    let operator = Operator::start().await;
    let good = "{\"key\": \"a\", \"value\": 1}\n";
    for (bad, expected) in [
        ("{\"key\": \"b\"}\n", "missing field `value`"),
        ("rubbish\n", "expected {\"key\""),
        ("{\"key\": \"\", \"value\": 1}\n", "1 to 512 bytes"),
        (
            "{\"key\": \"b\", \"value\": 1, \"expires_at\": \"soon\"}\n",
            "expected a time",
        ),
    ] {
        let import = ["blackboard", "import", "--board", "strong"];
        let told = with_input(&operator, &import, &format!("{good}{bad}")).await;
        assert_eq!(told.code, 2, "{bad}");
        assert!(told.stderr.contains("line 2: "), "{}", told.stderr);
        assert!(told.stderr.contains(expected), "{}", told.stderr);
    }
    let over = "{\"key\": \"over\", \"value\": 1, \"expires_at\": \"2001-01-01T00:00:00Z\"}\n";
    let import = ["blackboard", "import", "--board", "strong", "-o", "json"];
    let told = with_input(&operator, &import, over).await;
    let view: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(
        (&view["written"], &view["left_out"]),
        (&json!(0), &json!(1))
    );
}

#[tokio::test]
async fn conflicts_are_listed_with_all_their_values() {
    let operator = Operator::start().await;
    let rig = &operator.rig;
    let (mut a, mut b) = (Replica::of(rig, "a").await, Replica::of(rig, "b").await);
    for (at, millis) in [("k/1", 1000), ("k/2", 2000), ("l", 3000)] {
        a.put(rig, at, Some("\"a\""), millis).await;
        b.put(rig, at, Some("\"b\""), millis + 1).await;
    }
    a.put(rig, "alone", Some("1"), 1).await;
    let list = ["blackboard", "conflicts", "--prefix", "k/"];
    let listed = operator.json(&list).await;
    let items = listed["items"].as_array().unwrap();
    let keys: Vec<_> = items.iter().map(|item| &item["key"]).collect();
    assert_eq!(keys, ["k/1", "k/2"]);
    let values = items[0]["values"].as_array().unwrap();
    let told: Vec<_> = values
        .iter()
        .map(|one| (&one["value"], &one["is_told"]))
        .collect();
    assert_eq!(
        told,
        [(&json!("b"), &json!(true)), (&json!("a"), &json!(false))]
    );
    let page = [&list[..], &["--limit", "1"]].concat();
    let first = operator.json(&page).await;
    assert_eq!(first["next_page_token"], "k/1");
    let table = operator.run(&["blackboard", "conflicts"]).await;
    assert!(
        table.stdout.contains("data_analyst at mch_"),
        "{}",
        table.stdout
    );
    let ordered = ["blackboard", "conflicts", "--board", "strong"];
    assert_eq!(operator.refused(&ordered).await.1, "UNSUPPORTED_FOR_LEVEL");
}
