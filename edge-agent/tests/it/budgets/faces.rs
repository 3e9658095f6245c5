//! Budgets as agents see them: on every face the same, with what is refused and why.

use control_plane::{
    audit::Context,
    budgets::{NewBudget, Terms, Window},
};
use serde_json::{Value, json};

use super::system::answered;
use crate::{
    audit::entries,
    boards::{
        Way,
        subscriptions::{UPDATED, subscribe},
    },
    edge::RestClient,
    faces::{
        events::Events,
        speaker::{Face, Speaker},
    },
    rig::{ControlPlane, Rig},
    wait::until_async,
};

const ANALYST: &str = "data_analyst";

/// A budget of 1,000 tokens for these agents.
pub(crate) async fn create(control_plane: &ControlPlane, task: &str, spenders: &[&str]) {
    let new = NewBudget {
        task: task.parse().unwrap(),
        terms: Terms {
            unit: "tokens".to_owned(),
            total: 1000,
            parent: None,
            window: Window::None,
            carries_over: false,
            thresholds: Vec::new(),
            owner: String::new(),
            spenders: spenders.iter().map(|agent| (*agent).to_owned()).collect(),
        },
    };
    let budgets = &control_plane.app.budgets;
    budgets.create(Context::system(), new).await.unwrap();
}

async fn freeze(control_plane: &ControlPlane, task: &str, frozen: bool) {
    let budgets = &control_plane.app.budgets;
    let task = task.parse().unwrap();
    let freezing = budgets.freeze(Context::system(), task, frozen);
    freezing.await.unwrap();
}

async fn close(control_plane: &ControlPlane, task: &str) {
    let budgets = &control_plane.app.budgets;
    let closing = budgets.close(Context::system(), task.parse().unwrap());
    closing.await.unwrap();
}

/// What comes of an allocation by REST.
async fn allocate(client: &RestClient, arguments: Value) -> Result<Value, Value> {
    answered(async || {
        let arguments = arguments.clone();
        let (status, body) = client.try_call("request_allocation", arguments).await;
        if status.is_success() {
            Ok(body)
        } else {
            Err(body)
        }
    })
    .await
}

async fn reserve(client: &RestClient, task: &str, tokens: u64) -> Value {
    let arguments = json!({"agent_id": ANALYST, "task_id": task, "tokens": tokens});
    allocate(client, arguments).await.unwrap()
}

async fn settle(client: &RestClient, task: &str, reservation: &Value, tokens: u64) -> Value {
    let arguments = json!({
        "agent_id": ANALYST,
        "task_id": task,
        "tokens": tokens,
        "reservation_id": reservation["reservation_id"],
    });
    client.call("report_spending", arguments).await
}

async fn status(client: &RestClient, task: &str) -> Value {
    let asked = json!({ "task_id": task });
    client.call("budget_status", asked).await
}

/// Waits until the control plane has heard that so much was spent and is set aside.
async fn heard(client: &RestClient, task: &str, reported: u64, reserved: u64) {
    until_async("the control plane was told", async || {
        let status = status(client, task).await;
        let machines = status["machines"].as_array().unwrap();
        let aside: u64 = machines
            .iter()
            .map(|machine| machine["reserved"].as_u64().unwrap())
            .sum();
        status["reported"] == reported && aside == reserved
    })
    .await;
}

/// What a call has to be refused with, and the argument at fault.
type Refusal = (&'static str, Option<&'static str>);

/// Arguments of `request_allocation`, as text, with these instead.
fn allocation(task: &str, tokens: &str) -> String {
    format!(r#"{{"agent_id": "data_analyst", "task_id": "{task}", "tokens": {tokens}}}"#)
}

fn spending(task: &str, tokens: &str, by: &str) -> String {
    format!(r#"{{"agent_id": "data_analyst", "task_id": "{task}", "tokens": {tokens}, {by}}}"#)
}

/// Calls that are refused wherever they come from.
fn refused(task: &str, foreign: &str) -> Vec<(&'static str, String, Refusal)> {
    const NOBODYS: &str = r#""reservation_id": "rsv_0000000000000000000007""#;
    const ONCE: &str = r#""request_id": "r1""#;
    let invalid = |field| ("INVALID_ARGUMENT", Some(field));
    let mut calls = Vec::new();
    for tokens in [
        "-1",
        "-0.5",
        "1.5",
        "9007199254740992",
        "18446744073709551616",
        "1e300",
        "1e400",
        "\"10\"",
        "true",
        "[1]",
        "null",
    ] {
        let allocation = allocation(task, tokens);
        calls.push(("request_allocation", allocation, invalid("tokens")));
        for by in [NOBODYS, ONCE] {
            let spending = spending(task, tokens, by);
            calls.push(("report_spending", spending, invalid("tokens")));
        }
    }
    let foreign = format!(r#""reservation_id": "{foreign}""#);
    let both = format!("{NOBODYS}, {ONCE}");
    for (arguments, refusal) in [
        (spending(task, "0", ONCE), invalid("tokens")),
        (
            spending(task, "1", r#""request_id": null"#),
            invalid("reservation_id"),
        ),
        (
            spending(task, "1", r#""reservation_id": "7""#),
            invalid("reservation_id"),
        ),
        (spending(task, "1", &both), invalid("request_id")),
        (
            spending(task, "1", NOBODYS),
            ("RESERVATION_NOT_FOUND", None),
        ),
        (
            spending(task, "1", &foreign),
            ("RESERVATION_NOT_FOUND", None),
        ),
        (
            spending("no-such", "1", NOBODYS),
            ("RESERVATION_NOT_FOUND", None),
        ),
        (spending("no-such", "1", ONCE), ("BUDGET_NOT_FOUND", None)),
        (spending("others", "1", ONCE), ("PERMISSION_DENIED", None)),
    ] {
        calls.push(("report_spending", arguments, refusal));
    }
    let with = |members: &str| {
        let arguments = allocation(task, "1");
        arguments.replace('}', &format!(", {members}}}"))
    };
    for (arguments, refusal) in [
        (allocation(task, "0"), invalid("tokens")),
        (allocation(task, "1001"), ("BUDGET_EXHAUSTED", None)),
        (allocation("no-such", "1"), ("BUDGET_NOT_FOUND", None)),
        (allocation("a b", "1"), invalid("task_id")),
        (allocation("others", "1"), ("PERMISSION_DENIED", None)),
        (allocation("frozen", "1"), ("BUDGET_FROZEN", None)),
        (allocation("closed", "1"), ("BUDGET_FROZEN", None)),
        (with(r#""ttl_seconds": 0"#), invalid("ttl_seconds")),
        (with(r#""ttl_seconds": 86401"#), invalid("ttl_seconds")),
        (with(r#""reservation_id": "x""#), invalid("reservation_id")),
        (
            allocation(task, "1").replace(ANALYST, "orchestrator"),
            ("AGENT_MISMATCH", Some("agent_id")),
        ),
    ] {
        calls.push(("request_allocation", arguments, refusal));
    }
    for (arguments, refusal) in [
        ("{}", invalid("task_id")),
        (
            r#"{"task_id": "no-such"}"#,
            ("BUDGET_NOT_FOUND", Some("task_id")),
        ),
        (r#"{"task_id": "others"}"#, ("PERMISSION_DENIED", None)),
        (
            r#"{"task_id": "q4", "agent_id": "orchestrator"}"#,
            ("AGENT_MISMATCH", Some("agent_id")),
        ),
    ] {
        calls.push(("budget_status", arguments.to_owned(), refusal));
    }
    calls
}

#[tokio::test]
async fn what_cannot_be_is_refused_on_every_face_and_nothing_is_moved() {
    let rig = Rig::start().await;
    let (control_plane, client) = (&rig.control_plane, rig.edge.client(&rig.api_key));
    let both = [ANALYST, "orchestrator"];
    for (task, spenders) in [
        ("q4", &both[..]),
        ("others", &both[1..]),
        ("frozen", &both[..]),
        ("closed", &both[..]),
    ] {
        create(control_plane, task, spenders).await;
    }
    freeze(control_plane, "frozen", true).await;
    close(control_plane, "closed").await;
    let other = control_plane.api_key(&["orchestrator"], false).await;
    let theirs = json!({"agent_id": "orchestrator", "task_id": "q4", "tokens": 7});
    let foreign = rig.edge.client(&other);
    let foreign = allocate(&foreign, theirs).await.unwrap();
    let foreign = foreign["reservation_id"].as_str().unwrap();
    let mut first: Vec<Value> = Vec::new();
    for mut way in Way::all(&rig).await {
        let name = way.name();
        let mut told = Vec::new();
        for (tool, arguments, (reason, field)) in refused("q4", foreign) {
            let refusal = answered(async || way.call(tool, &arguments).await).await;
            let mut refusal = refusal.expect_err(&arguments);
            assert_eq!(
                (refusal["reason"].as_str(), refusal["field"].as_str()),
                (Some(reason), field),
                "{tool} {arguments} by {name}: {refusal}"
            );
            // the problem's own members have no place in MCP
            for member in ["type", "title", "status"] {
                refusal.as_object_mut().unwrap().shift_remove(member);
            }
            told.push(refusal);
        }
        if first.is_empty() {
            first = told;
        } else {
            assert_eq!(told, first, "{name}");
        }
    }
    heard(&client, "q4", 0, 7).await;
    let left = reserve(&client, "q4", 993).await;
    assert_eq!(
        (&left["granted"], &left["remaining"]),
        (&json!(993), &json!(0))
    );
}

#[tokio::test]
async fn every_face_reserves_and_settles_with_the_same_results() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    for mut way in Way::all(&rig).await {
        let task = format!("of/{}", way.name());
        create(&rig.control_plane, &task, &["*"]).await;
        let mut call = async |tool: &str, arguments: String| {
            let outcome = answered(async || way.call(tool, &arguments).await).await;
            outcome.unwrap_or_else(|refusal| panic!("{tool} {arguments} for {task}: {refusal}"))
        };
        let first = call("request_allocation", allocation(&task, "10.0")).await;
        assert_eq!(
            (&first["granted"], &first["remaining"], &first["unit"]),
            (&json!(10), &json!(990), &json!("tokens"))
        );
        assert!(first["expires_at"].is_string(), "{first}");
        let by =
            |reservation: &Value| format!(r#""reservation_id": {}"#, reservation["reservation_id"]);
        let settled = call("report_spending", spending(&task, "4", &by(&first))).await;
        assert_eq!(
            settled,
            json!({"recorded": 4, "overdraft": 0, "remaining": 996, "unit": "tokens"})
        );
        let second = call("request_allocation", allocation(&task, "1e2")).await;
        assert_eq!(second["remaining"], 896);
        // more than was set aside is taken from what is free, here or elsewhere
        let settled = call("report_spending", spending(&task, "150", &by(&second))).await;
        assert_eq!(settled["recorded"], 150);
        heard(&client, &task, 154, 0).await;
        let once = || spending(&task, "6", r#""request_id": "once""#);
        for _ in 0..2 {
            assert_eq!(call("report_spending", once()).await["recorded"], 6);
        }
        heard(&client, &task, 160, 0).await;
        let third = call("request_allocation", allocation(&task, "1")).await;
        assert_eq!(third["remaining"], 839, "{task}");
        let settled = call("report_spending", spending(&task, "0", &by(&third))).await;
        assert_eq!(
            settled,
            json!({"recorded": 0, "overdraft": 0, "remaining": 840, "unit": "tokens"})
        );
        let twice = spending(&task, "4", &by(&first));
        let refusal = way.call("report_spending", &twice).await.unwrap_err();
        assert_eq!(refusal["reason"], "ALREADY_SETTLED", "{refusal}");
        heard(&client, &task, 160, 0).await;
        let asked = json!({"task_id": task, "agent_id": ANALYST}).to_string();
        let status = way.call("budget_status", &asked).await.unwrap();
        for (member, value) in [
            ("task_id", json!(task)),
            ("unit", json!("tokens")),
            ("state", json!("active")),
            ("total", json!(1000)),
            ("reported", json!(160)),
            ("overdraft", json!(0)),
            ("suspense", json!(0)),
            ("window", json!("none")),
            ("source", json!("control_plane")),
        ] {
            assert_eq!(status[member], value, "{member} for {task}: {status}");
        }
        let (held, left) = (&status["outstanding"], &status["remaining"]);
        assert_eq!(
            held.as_u64().unwrap() + left.as_u64().unwrap(),
            840,
            "{status}"
        );
        assert_eq!(status["machines"].as_array().unwrap().len(), 1, "{status}");
        assert_eq!(status["machines"][0]["reported"], 160, "{status}");
    }
}

#[tokio::test]
async fn what_is_settled_after_its_time_is_free_again_and_reported_otherwise() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    create(&rig.control_plane, "q4", &[ANALYST]).await;
    let brief = json!({"agent_id": ANALYST, "task_id": "q4", "tokens": 1000, "ttl_seconds": 5});
    let brief = allocate(&client, brief).await.unwrap();
    assert_eq!(brief["remaining"], 0);
    heard(&client, "q4", 0, 1000).await;
    heard(&client, "q4", 0, 0).await;
    let late = json!({
        "agent_id": ANALYST,
        "task_id": "q4",
        "tokens": 1000,
        "reservation_id": brief["reservation_id"],
    });
    assert_eq!(
        client.refusal("report_spending", late).await,
        "LEASE_EXPIRED"
    );
    let again = reserve(&client, "q4", 900).await;
    assert_eq!(again["remaining"], 100);
    assert_eq!(settle(&client, "q4", &again, 900).await["remaining"], 100);
    let spent = json!({"agent_id": ANALYST, "task_id": "q4", "tokens": 300, "request_id": "late"});
    let spent = client.call("report_spending", spent).await;
    assert_eq!(
        (&spent["recorded"], &spent["overdraft"], &spent["remaining"]),
        (&json!(300), &json!(200), &json!(0))
    );
    let more = json!({"agent_id": ANALYST, "task_id": "q4", "tokens": 1});
    let refusal = allocate(&client, more).await.unwrap_err();
    assert_eq!(refusal["reason"], "BUDGET_EXHAUSTED");
}

#[tokio::test]
async fn a_budget_is_read_as_a_resource_and_its_task_is_completed() {
    const URI: &str = "budget://team%2Fq4";
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    create(&rig.control_plane, "team/q4", &[ANALYST]).await;
    create(&rig.control_plane, "team/others", &["orchestrator"]).await;
    let reserved = reserve(&client, "team/q4", 10).await;
    settle(&client, "team/q4", &reserved, 3).await;
    heard(&client, "team/q4", 3, 0).await;
    for face in Face::ALL {
        let mut speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
        let read = speaker
            .request("resources/read", json!({ "uri": URI }))
            .await;
        let contents = &read["result"]["contents"][0];
        assert_eq!(contents["uri"], URI, "{face:?}: {read}");
        let text = contents["text"].as_str().unwrap();
        let read: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            (&read["task_id"], &read["reported"], &read["source"]),
            (&json!("team/q4"), &json!(3), &json!("control_plane")),
            "{face:?}"
        );
        for (uri, reason) in [
            ("budget://no-such", "BUDGET_NOT_FOUND"),
            ("budget://team/others", "PERMISSION_DENIED"),
        ] {
            let refused = speaker
                .request("resources/read", json!({ "uri": uri }))
                .await;
            assert_eq!(
                refused["error"]["data"]["reason"], reason,
                "{face:?}: {refused}"
            );
            let refused = subscribe(&mut speaker, face, &[uri]).await.unwrap_err();
            assert_eq!(refused["data"]["reason"], reason, "{face:?}: {refused}");
        }
        let reference = json!({
            "ref": {"type": "ref/resource", "uri": "budget://{task_id}"},
            "argument": {"name": "task_id", "value": "team"},
        });
        let completed = speaker.request("completion/complete", reference).await;
        let values = &completed["result"]["completion"]["values"];
        assert_eq!(*values, json!(["team/q4"]), "{face:?}: {completed}");
    }
    let by_rest = client.resource("budget%3A%2F%2Fteam%252Fq4").await;
    assert_eq!(
        (&by_rest["task_id"], &by_rest["total"]),
        (&json!("team/q4"), &json!(1000))
    );
}

#[tokio::test]
async fn every_face_hears_of_the_budgets_that_it_subscribed_to_and_of_no_others() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    for task in ["q4", "other", "elsewhere"] {
        create(&rig.control_plane, task, &[ANALYST]).await;
    }
    for face in Face::ALL {
        let mut speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
        let uris = ["budget://q4", "budget://elsewhere"];
        subscribe(&mut speaker, face, &uris).await.unwrap();
        let reserved = reserve(&client, "other", 1).await;
        settle(&client, "other", &reserved, 1).await;
        // what is spent here
        let reserved = reserve(&client, "q4", 1).await;
        settle(&client, "q4", &reserved, 1).await;
        let told = speaker.notified(UPDATED).await;
        assert_eq!(told["params"]["uri"], "budget://q4", "{face:?}");
        // what operators do, to a budget that nobody has spent from here
        freeze(&rig.control_plane, "elsewhere", true).await;
        let is_elsewhere = |message: &Value| {
            message["method"] == UPDATED && message["params"]["uri"] == "budget://elsewhere"
        };
        speaker.next(is_elsewhere).await;
        let read = json!({"uri": "budget://elsewhere"});
        let read = speaker.request("resources/read", read).await;
        let text = read["result"]["contents"][0]["text"].as_str().unwrap();
        assert!(text.contains(r#""state":"frozen""#), "{face:?}: {text}");
        let is_other = |message: &Value| message["params"]["uri"] == "budget://other";
        assert!(!speaker.has_received(is_other), "{face:?}");
        freeze(&rig.control_plane, "elsewhere", false).await;
        // before the next face subscribes
        speaker.next(is_elsewhere).await;
    }
}

#[tokio::test]
async fn thresholds_and_what_operators_do_are_told_to_those_that_may_spend() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    create(&rig.control_plane, "q4", &[ANALYST]).await;
    let other = rig.control_plane.api_key(&["orchestrator"], false).await;
    let query = "?events=budget.*,grant.granted";
    let mut mine = Events::open_at(&rig.edge, &rig.api_key, query).await;
    let mut theirs = Events::open_at(&rig.edge, &other, query).await;
    mine.position().await;
    theirs.position().await;
    for (spent, percent) in [(500, 50), (300, 80), (200, 100)] {
        let reserved = reserve(&client, "q4", spent).await;
        settle(&client, "q4", &reserved, spent).await;
        let told = mine.event().await;
        assert_eq!(told.name, "budget.threshold", "{told:?}");
        assert_eq!(
            (&told.data["task_id"], &told.data["percent"]),
            (&json!("q4"), &json!(percent))
        );
        assert!(told.data["occurred_at"].is_string(), "{told:?}");
    }
    freeze(&rig.control_plane, "q4", true).await;
    assert_eq!(mine.event().await.name, "budget.frozen");
    freeze(&rig.control_plane, "q4", false).await;
    assert_eq!(mine.event().await.name, "budget.thawed");
    close(&rig.control_plane, "q4").await;
    assert_eq!(mine.event().await.name, "budget.closed");
    // the first that they hear is what comes later
    let asking = json!({"agent_id": "orchestrator", "resource_type": "SAP_API",
        "justification": crate::rig::JUSTIFICATION});
    let granted = rig.edge.client(&other);
    granted.call("request_permission", asking).await;
    assert_eq!(theirs.event().await.name, "grant.granted");
}

#[tokio::test]
async fn a_frozen_budget_is_not_spent_from_and_goes_on_when_it_is_thawed() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    create(&rig.control_plane, "q4", &[ANALYST]).await;
    let reserved = reserve(&client, "q4", 10).await;
    freeze(&rig.control_plane, "q4", true).await;
    let one = || json!({"agent_id": ANALYST, "task_id": "q4", "tokens": 1});
    let is_refused = async |reason: &str| {
        let (status, told) = client.try_call("request_allocation", one()).await;
        !status.is_success() && told["reason"] == reason
    };
    until_async("the edge knows that it is frozen", async || {
        is_refused("BUDGET_FROZEN").await
    })
    .await;
    // what was set aside before is settled all the same
    assert_eq!(settle(&client, "q4", &reserved, 10).await["recorded"], 10);
    assert_eq!(status(&client, "q4").await["state"], "frozen");
    freeze(&rig.control_plane, "q4", false).await;
    until_async("the edge knows that it is thawed", async || {
        let (status, _) = client.try_call("request_allocation", one()).await;
        status.is_success()
    })
    .await;
}

#[tokio::test]
async fn refusals_at_the_edge_stand_in_the_audit_log() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    create(&rig.control_plane, "others", &["orchestrator"]).await;
    let one = |agent: &str| json!({"agent_id": agent, "task_id": "others", "tokens": 1});
    let denied = allocate(&client, one(ANALYST)).await.unwrap_err();
    assert_eq!(denied["reason"], "PERMISSION_DENIED");
    let mismatch = client
        .refusal("request_allocation", one("orchestrator"))
        .await;
    assert_eq!(mismatch, "AGENT_MISMATCH");
    let mut spending = one(ANALYST);
    spending["request_id"] = json!("r1");
    let denied = client.refusal("report_spending", spending).await;
    assert_eq!(denied, "PERMISSION_DENIED");
    for (action, reason) in [
        ("tool.request_allocation", "PERMISSION_DENIED"),
        ("tool.request_allocation", "AGENT_MISMATCH"),
        ("tool.report_spending", "PERMISSION_DENIED"),
    ] {
        let told = entries(&rig.control_plane, (action, reason), 1).await;
        assert_eq!(told.len(), 1, "{action} {reason}: {told:?}");
    }
}

#[tokio::test]
async fn with_the_control_plane_away_it_is_told_what_is_known_here() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    create(&rig.control_plane, "q4", &[ANALYST]).await;
    create(&rig.control_plane, "unseen", &[ANALYST]).await;
    let reserved = reserve(&client, "q4", 10).await;
    settle(&client, "q4", &reserved, 10).await;
    heard(&client, "q4", 10, 0).await;
    let stopped = rig.control_plane.stop().await;
    let here = status(&client, "q4").await;
    assert_eq!(
        (&here["source"], &here["task_id"], &here["total"]),
        (&json!("edge"), &json!("q4"), &json!(1000))
    );
    assert_eq!(here["machines"][0]["reported"], 10, "{here}");
    assert!(here["age_ms"].as_u64().is_some(), "{here}");
    let unseen = json!({"task_id": "unseen"});
    assert_eq!(client.refusal("budget_status", unseen).await, "UNAVAILABLE");
    let there = stopped.start().await;
    until_async("it is back", async || {
        let status = client
            .try_call("budget_status", json!({"task_id": "q4"}))
            .await;
        status.1["source"] == "control_plane"
    })
    .await;
    drop(there);
}

#[tokio::test]
async fn a_suspended_agent_sets_nothing_aside_and_still_tells_what_it_spent() {
    use control_plane::events::SuspensionTarget;
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    create(&rig.control_plane, "q4", &[ANALYST]).await;
    let reserved = reserve(&client, "q4", 10).await;
    let grants = &rig.control_plane.app.grants;
    let target = SuspensionTarget::Agent(ANALYST.parse().unwrap());
    let suspending = grants.suspend(Context::system(), target, "");
    suspending.await.unwrap();
    until_async("the edge knows of it", async || {
        let one = json!({"agent_id": ANALYST, "task_id": "q4", "tokens": 1});
        let (_, told) = client.try_call("request_allocation", one).await;
        told["reason"] == "SUSPENDED"
    })
    .await;
    assert_eq!(settle(&client, "q4", &reserved, 10).await["recorded"], 10);
}
