//! The verbs `audit …` of the command line, run as processes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use control_plane::{
    audit::retention,
    clock::{Ambient, ManualClock},
};
use serde_json::{Value, json};

use super::{
    act,
    verdict::{Given, verdict},
};
use crate::operator::{Operator, Told};

/// A control plane with a log of so many acts and what comes before them.
pub(super) async fn with_acts(count: i64) -> Operator {
    let operator = Operator::start().await;
    operator.rig.signed().await;
    for part in (0..count).step_by(5000) {
        let end = (part + 5000).min(count);
        operator.rig.append((part..end).map(act)).await;
    }
    operator.rig.signed().await;
    operator
}

impl Operator {
    /// A call that has to succeed.
    pub(super) async fn done(&self, args: &[&str]) -> Told {
        let told = self.run(args).await;
        assert_eq!(told.code, 0, "{args:?}: {}{}", told.stdout, told.stderr);
        told
    }

    /// What such a call writes to stdout, as a file.
    pub(super) async fn kept(&self, name: &str, args: &[&str]) -> PathBuf {
        let told = self.done(args).await;
        let path = self.path(name);
        fs::write(&path, told.stdout).unwrap();
        path
    }

    /// The export as it is now.
    pub(super) async fn export(&self) -> PathBuf {
        self.kept("export.jsonl", &["audit", "export"]).await
    }

    pub(super) async fn key(&self) -> String {
        let keys = self.done(&["audit", "log", "--keys"]).await.stdout;
        keys.trim_end().to_owned()
    }

    pub(super) async fn checkpoint(&self, name: &str) -> PathBuf {
        self.kept(name, &["audit", "log", "--checkpoint"]).await
    }

    async fn tamper(&self, statement: &'static str) {
        let done = sqlx::query(statement).execute(self.rig.database.pool());
        assert!(done.await.unwrap().rows_affected() > 0, "{statement}");
    }
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(super) fn size_in(checkpoint: &Path) -> u64 {
    let note = fs::read_to_string(checkpoint).unwrap();
    note.lines().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_log_tells_its_head_its_keys_and_how_long_bodies_are_kept() {
    let operator = with_acts(20).await;
    let log = operator.json(&["audit", "log"]).await;
    let size = log["logs"][0]["size"].as_u64().unwrap();
    assert!(size > 20);
    assert_eq!(
        (&log["checkpoint_size"], &log["pending"]),
        (&size.into(), &0.into())
    );
    assert_eq!(
        (&log["retention_days"], &log["witnesses"]),
        (&0.into(), &json!([]))
    );
    let kept = operator.checkpoint("kept").await;
    assert_eq!(
        fs::read_to_string(&kept).unwrap(),
        log["checkpoint"].as_str().unwrap()
    );
    let origin = log["logs"][0]["origin"].as_str().unwrap();
    assert!(origin.starts_with("example.org/audit/"));
    let key = operator.key().await;
    assert_eq!(log["logs"][0]["verifier_keys"], json!([key]));
    assert!(key.starts_with(&format!("{origin}+")));
    let told = operator.done(&["audit", "log"]).await;
    for part in [
        origin,
        &format!("of {size} entries, signed at "),
        "for ever",
    ] {
        assert!(told.stdout.contains(part), "{}", told.stdout);
    }
}

#[tokio::test]
async fn what_is_sealed_is_shown_with_its_place_and_found_again() {
    let operator = with_acts(250).await;
    let told = operator
        .done(&["audit", "tail", "-n", "1", "-o", "json"])
        .await;
    let last: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(last["subject"], "249");
    let place = last["index"].as_u64().unwrap();
    let told = operator.done(&["audit", "tail", "-n", "2"]).await;
    let line = told.stdout.lines().last().unwrap();
    assert!(
        line.trim_start().starts_with(&format!("{place}  ")),
        "{line}"
    );

    let search = async |args: &[&str]| -> Vec<String> {
        let found = operator.json(&[&["audit", "search"], args].concat()).await;
        let items = found["items"].as_array().unwrap();
        let subjects = items.iter().map(|entry| entry["subject"].as_str().unwrap());
        subjects.map(str::to_owned).collect()
    };
    assert_eq!(
        search(&["--action", "test.*"]).await.len(),
        100,
        "unless more are wanted"
    );
    let all = search(&["--action", "test.act", "--all"]).await;
    assert_eq!(all.len(), 250);
    assert_eq!((&*all[0], &*all[249]), ("249", "0"), "newest first");
    let denied = search(&[
        "--action",
        "test.act",
        "--outcome",
        "denied",
        "--limit",
        "3",
    ])
    .await;
    assert_eq!(denied, ["248", "241", "234"]);
    assert_eq!(search(&["--subject", "17", "--since", "2h"]).await, ["17"]);
    assert!(
        search(&["--subject", "17", "--until", "2h"])
            .await
            .is_empty()
    );
    assert!(search(&["--agent", "nobody"]).await.is_empty());
    let since = ["--subject", "17", "--since", "2020-01-01T00:00:00Z"];
    assert_eq!(search(&since).await, ["17"]);
    let refused = operator
        .run(&["audit", "search", "--since", "yesterday"])
        .await;
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("such as `2h`"),
        "{}",
        refused.stderr
    );
    let unknown = ["audit", "search", "--machine", "nobody"];
    assert_eq!(operator.run(&unknown).await.code, 3);
    let page = operator
        .done(&["audit", "search", "--action", "test.*", "--limit", "2"])
        .await;
    assert!(page.stdout.starts_with("INDEX"), "{}", page.stdout);
    assert!(page.stderr.contains("--page-token"), "{}", page.stderr);
}

#[tokio::test]
async fn the_database_is_verified_and_what_does_not_fit_is_named() {
    let operator = with_acts(600).await;
    let kept = operator.checkpoint("kept").await;
    let verify = ["audit", "verify"];
    let with_kept = ["audit", "verify", "--checkpoint", text(&kept)];
    let size = size_in(&kept);
    for call in [&verify[..], &with_kept] {
        let told = operator.done(call).await;
        let expected = format!("everything fits: {size} entries, ");
        assert!(told.stdout.starts_with(&expected), "{}", told.stdout);
        let checked = operator.json(call).await;
        assert_eq!(
            (&checked["fits"], &checked["findings"]),
            (&true.into(), &json!([]))
        );
    }
    let key = operator.key().await;
    let with_key = ["audit", "verify", "--key", &key];
    assert_eq!(
        operator.refused(&with_key).await,
        (2, "INVALID_ARGUMENT".to_owned())
    );

    operator
        .tamper("UPDATE sealed_audit_entry SET outcome = 'ok' WHERE action = 'test.act' AND subject = '10'")
        .await;
    operator
        .tamper("DELETE FROM sealed_audit_entry WHERE action = 'test.act' AND subject = '20'")
        .await;
    let told = operator.run(&verify).await;
    assert_eq!(told.code, 1, "{}", told.stderr);
    let lines: Vec<_> = told.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", told.stdout);
    assert!(lines[0].starts_with("changed ") && lines[1].starts_with("deleted "));
    assert!(lines[2].starts_with("2 findings: "), "{}", lines[2]);
    let told = operator.run(&["audit", "verify", "-o", "json"]).await;
    assert_eq!(told.code, 1);
    let checked: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(checked["findings"][0]["kind"], "changed");
    assert_eq!(checked["findings_in_all"], 2);
}

#[tokio::test]
async fn bodies_are_kept_as_long_as_is_said_and_proofs_outlive_them() {
    let operator = with_acts(30).await;
    let kept = operator.checkpoint("kept").await;
    assert_eq!(
        operator.json(&["audit", "retention"]).await,
        json!({"days": 0})
    );
    let told = operator.done(&["audit", "retention", "show"]).await;
    assert_eq!(told.stdout, "bodies are kept for ever\n");
    let set = [
        "audit",
        "retention",
        "set",
        "--days",
        "1",
        "--request-id",
        "r-1",
    ];
    for _ in 0..2 {
        assert_eq!(operator.json(&set).await, json!({"days": 1}));
    }
    let shown = operator.json(&["audit", "retention", "show"]).await;
    assert_eq!(shown, json!({"days": 1}));
    let too_long = ["audit", "retention", "set", "--days", "36501"];
    assert_eq!(operator.run(&too_long).await.code, 2);

    operator.rig.signed().await;
    let app = &operator.rig.app;
    let later = Ambient {
        clock: Arc::new(ManualClock::at(
            app.ambient.clock.now() + Duration::from_hours(72),
        )),
        entropy: Arc::clone(&app.ambient.entropy),
    };
    assert!(retention::sweep(&app.db, &later).await.unwrap() > 30);
    operator.rig.signed().await;
    let (file, key) = (operator.export().await, operator.key().await);
    let given = Given {
        checkpoint: Some(&*kept),
        key: Some(&*key),
    };
    let (fits, told) = verdict("export", &file, given).await;
    assert!(
        fits && told.stdout.contains("of them without a body"),
        "{}",
        told.stdout
    );
    let proof = operator
        .kept("proof", &["audit", "prove", "--index", "5"])
        .await;
    assert!(!fs::read_to_string(&proof).unwrap().contains("\"entry\""));
    let given = Given {
        checkpoint: None,
        key: Some(&*key),
    };
    assert!(verdict("proof", &proof, given).await.0);
    let told = operator.done(&["audit", "verify"]).await;
    assert!(
        told.stdout.contains("of them without a body"),
        "{}",
        told.stdout
    );
}
