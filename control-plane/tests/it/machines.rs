//! What operators do to machines, by the command line.

use std::time::Duration;

use authguardian_proto::zone::Zone;
use control_plane::identity::{Serves, machine::MachineState};
use serde_json::{Value, json};

use crate::{
    operator::{Operator, told},
    rig::{anonymous, requested_key},
};

#[tokio::test]
async fn a_machine_is_banned_unbanned_and_evicted_and_its_grants_end() {
    let operator = Operator::start().await;
    let session = operator.rig.analyst().await;
    let grant = operator.rig.granted(&session).await.record.id;
    let name = "host-of-data-analyst";

    let banned = operator
        .json(&["machine", "ban", name, "--comment", "its key was copied"])
        .await;
    assert_eq!(banned["state"], "banned");
    assert_eq!(banned["id"], session.machine.to_string());
    assert_eq!(banned["grants_ended"], 1);
    let record = operator.rig.app.grants.get(grant).await.unwrap();
    assert!(record.revoked_at.is_some());
    let again = operator.json(&["machine", "ban", name]).await;
    assert_eq!(again["grants_ended"], 0, "twice succeeds");
    assert_eq!(
        operator.json(&["machine", "show", name]).await["state"],
        "banned"
    );

    let unbanned = operator.json(&["machine", "unban", name]).await;
    assert_eq!(unbanned["state"], "active");
    let record = operator.rig.app.grants.get(grant).await.unwrap();
    assert!(record.revoked_at.is_some(), "grants do not come back");

    let evicted = operator.json(&["machine", "evict", name]).await;
    assert_eq!(evicted["state"], "evicted");
    operator.json(&["machine", "evict", name]).await;
    for verb in [
        &["ban", name][..],
        &["unban", name],
        &["set", name, "--any-agent"],
    ] {
        let refused = operator.refused(&[&["machine"], verb].concat()).await;
        assert_eq!(refused, (4, "MACHINE_EVICTED".to_owned()), "{verb:?}");
    }
    let acts: Vec<String> = sqlx::query_scalar(
        "SELECT action FROM audit_trail WHERE subject = $1 AND action LIKE 'machine.%' ORDER BY sequence",
    )
    .bind(session.machine.to_string())
    .fetch_all(operator.rig.database.pool())
    .await
    .unwrap();
    assert_eq!(
        acts,
        [
            "machine.join",
            "machine.ban",
            "machine.ban",
            "machine.unban",
            "machine.evict",
            "machine.evict"
        ]
    );
}

#[tokio::test]
async fn evicted_machines_are_listed_when_asked_for_and_leave_their_name() {
    let operator = Operator::start().await;
    let names = async |args: &[&str]| -> Vec<(String, String)> {
        let listed = operator.json(&[&["machine", "list"], args].concat()).await;
        let items = listed["items"].as_array().unwrap().iter();
        let text = |machine: &Value, field: &str| machine[field].as_str().unwrap().to_owned();
        items
            .map(|machine| (text(machine, "name"), text(machine, "state")))
            .collect()
    };
    let of = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, state)| ((*name).to_owned(), (*state).to_owned()))
            .collect()
    };
    let first = operator.rig.machine("build-7").await;
    let taken = ["join-token", "create", "--machine", "build-7"];
    assert_eq!(
        operator.refused(&taken).await,
        (2, "INVALID_ARGUMENT".to_owned())
    );
    operator.json(&["machine", "evict", "build-7"]).await;
    assert_eq!(names(&[]).await, []);
    // ids are ordered by time
    operator.rig.clock.advance(Duration::from_secs(1));
    let second = operator.rig.machine("build-7").await;
    operator.rig.machine("build-8").await;
    assert_eq!(
        names(&[]).await,
        of(&[("build-7", "active"), ("build-8", "active")])
    );
    let all = of(&[
        ("build-7", "evicted"),
        ("build-7", "active"),
        ("build-8", "active"),
    ]);
    assert_eq!(names(&["--evicted"]).await, all);
    // page by page, over equal names
    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let page = [
            "machine",
            "list",
            "--evicted",
            "--limit",
            "1",
            "--page-token",
        ];
        let listed = operator.json(&[&page[..], &[&after]].concat()).await;
        let ids = listed["items"].as_array().unwrap().iter();
        pages.extend(ids.map(|machine| machine["id"].as_str().unwrap().to_owned()));
        match listed["next_page_token"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(pages.len(), 3, "{pages:?}");
    assert_eq!(pages[..2], [first.to_string(), second.to_string()]);
    // the name is the living one's
    let shown = operator.json(&["machine", "show", "build-7"]).await;
    assert_eq!(shown["id"], second.to_string());
    let shown = operator
        .json(&["machine", "show", &first.to_string()])
        .await;
    assert_eq!(shown["state"], "evicted");
    let garbled = ["machine", "list", "--page-token", "build-7"];
    assert_eq!(
        operator.refused(&garbled).await,
        (2, "INVALID_ARGUMENT".to_owned())
    );
}

#[tokio::test]
async fn what_a_machine_is_for_is_set_and_only_what_is_named_changes() {
    let operator = Operator::start().await;
    operator.rig.machine("build-7").await;
    let set = async |args: &[&str]| {
        operator
            .json(&[&["machine", "set", "build-7"], args].concat())
            .await
    };
    let terms =
        |shown: &Value| json!([shown["max_zone"], shown["agent_ids"], shown["server_names"]]);
    let shown = operator.json(&["machine", "show", "build-7"]).await;
    assert_eq!(terms(&shown), json!(["local_machine", null, []]));
    let shown = set(&[
        "--max-zone",
        "trusted_network",
        "--agent",
        "b",
        "--agent",
        "a",
    ])
    .await;
    assert_eq!(terms(&shown), json!(["trusted_network", ["a", "b"], []]));
    let names = [
        "--server-name",
        "Build-7.example.org",
        "--server-name",
        "10.0.0.7",
    ];
    let shown = set(&names).await;
    let both = json!(["10.0.0.7", "build-7.example.org"]);
    assert_eq!(terms(&shown), json!(["trusted_network", ["a", "b"], both]));
    let shown = set(&["--any-agent", "--no-server-names"]).await;
    assert_eq!(terms(&shown), json!(["trusted_network", null, []]));

    for bad in [
        &[][..],
        &["--agent", "a", "--any-agent"],
        &["--server-name", "a.example", "--no-server-names"],
        &["--max-zone", "moon"],
        &["--server-name", "a b"],
        // the control plane's own
        &["--server-name", "LocalHost"],
        &["--server-name", "127.0.0.1"],
    ] {
        let args = [&["machine", "set", "build-7"], bad].concat();
        let told = told(operator.command(&args)).await;
        assert_eq!(told.code, 2, "{bad:?}: {}", told.stderr);
    }
    let shown = operator.json(&["machine", "show", "build-7"]).await;
    assert_eq!(terms(&shown), json!(["trusted_network", null, []]));
}

#[tokio::test]
async fn nobody_is_not_a_machine() {
    let operator = Operator::start().await;
    let unknown = "mch_0000000000000000000007";
    for name in ["nobody", unknown] {
        for verb in [
            &["show", name][..],
            &["ban", name],
            &["unban", name],
            &["evict", name],
            &["set", name, "--any-agent"],
        ] {
            let refused = operator.refused(&[&["machine"], verb].concat()).await;
            assert_eq!(refused, (3, "INVALID_ARGUMENT".to_owned()), "{verb:?}");
        }
    }
    let malformed = operator.refused(&["machine", "ban", "no body"]).await;
    assert_eq!(malformed, (2, "INVALID_ARGUMENT".to_owned()));
}

#[tokio::test]
async fn a_repeated_request_gets_its_first_outcome_though_the_name_is_anothers_now() {
    let operator = Operator::start().await;
    let first = operator.rig.machine("build-7").await;
    let evict = ["machine", "evict", "build-7", "--request-id", "r-1"];
    let evicted = operator.json(&evict).await;
    assert_eq!(evicted["id"], first.to_string());
    let second = operator.rig.machine("build-7").await;
    assert_eq!(operator.json(&evict).await, evicted);
    let shown = operator.json(&["machine", "show", "build-7"]).await;
    assert_eq!(
        (&shown["id"], &shown["state"]),
        (&json!(second.to_string()), &json!("active"))
    );
    let other = ["machine", "evict", "build-8", "--request-id", "r-1"];
    assert_eq!(
        operator.refused(&other).await,
        (5, "REQUEST_ID_REUSED".to_owned())
    );
}

#[tokio::test]
async fn a_machine_is_from_the_first_what_its_token_was_made_for() {
    let operator = Operator::start().await;
    let made = operator
        .json(&[
            "join-token",
            "create",
            "--machine",
            "build-7",
            "--max-zone",
            "external",
            "--agent",
            "ci",
            "--server-name",
            "build-7.example.org",
        ])
        .await;
    let info = &made["info"];
    assert_eq!(
        json!([info["max_zone"], info["agent_ids"], info["server_names"]]),
        json!(["external", ["ci"], ["build-7.example.org"]])
    );
    let listed = operator.json(&["join-token", "list"]).await;
    assert_eq!(listed["items"][0], *info);
    let token = made["join_token"].as_str().unwrap().parse().unwrap();
    let identity = &operator.rig.app.identity;
    let (_, key) = requested_key();
    let joined = identity.join(anonymous(), &token, &key).await.unwrap();
    let machine = identity.find_machine("build-7").await.unwrap();
    assert_eq!(machine.id, joined.machine_id);
    assert_eq!(machine.state, MachineState::Active);
    assert_eq!(machine.terms.max_zone, Zone::External);
    assert_eq!(
        machine.terms.agents,
        Serves::only(vec!["ci".parse().unwrap()]).unwrap()
    );
    let leaf = joined.certificate.chain[0].clone().into();
    let leaf = rustls::server::ParsedCertificate::try_from(&leaf).unwrap();
    let name = "build-7.example.org".try_into().unwrap();
    rustls::client::verify_server_name(&leaf, &name).unwrap();

    let own = [
        "join-token",
        "create",
        "--machine",
        "b",
        "--server-name",
        "::1",
    ];
    assert_eq!(
        operator.refused(&own).await,
        (2, "INVALID_ARGUMENT".to_owned())
    );
}
