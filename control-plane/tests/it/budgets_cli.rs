//! The verbs `budget …` of the command line, run as processes.

use authguardian_proto::ids::{MachineId, TaskId};
use control_plane::budgets::{Answer, Ask, Exchange, Memory, Report};
use serde_json::{Value, json};

use crate::{operator::Operator, rig::Rig};

const CREATE: [&str; 8] = [
    "budget", "create", "--task", "q4", "--total", "10000", "--unit", "tokens",
];

/// A machine that spends from the budget `q4`.
struct Spender<'a> {
    rig: &'a Rig,
    machine: MachineId,
    sequence: i64,
}

impl<'a> Spender<'a> {
    async fn new(rig: &'a Rig, name: &str) -> Self {
        Self {
            machine: rig.machine(name).await,
            rig,
            sequence: 0,
        }
    }

    fn id(&self) -> String {
        self.machine.to_string()
    }

    /// Tells, and is given.
    async fn tell(&mut self, report: Report) -> Answer {
        self.sequence += 1;
        let task: TaskId = "q4".parse().unwrap();
        let exchange = Exchange {
            machine: self.machine,
            incarnation: 1,
            sequence: self.sequence,
            journal: 7,
            reports: vec![(task, report)],
            complete: false,
            memory: Memory::default(),
        };
        let mut told = self
            .rig
            .app
            .budgets
            .exchange(exchange)
            .await
            .unwrap()
            .slices;
        told.remove(0).slice.unwrap().1
    }

    /// Is given so much.
    async fn take(&mut self, needed: u64) {
        let answer = self
            .tell(Report {
                ask: Ask { wanted: 0, needed },
                ..Report::default()
            })
            .await;
        assert_eq!(answer.granted, needed);
    }

    /// Has spent so much of what it was given, in all.
    async fn spend(&mut self, granted: u64, spent: u64) {
        self.tell(Report {
            epoch: 1,
            granted,
            spent,
            ..Report::default()
        })
        .await;
    }

    /// Nothing was heard of it for so long that its lease has ended.
    async fn fall_silent(&self) {
        sqlx::query(
            "UPDATE budget_slice SET heard_at = heard_at - interval '1 day', leased_until = leased_until - interval '1 day'
             WHERE machine_id = $1",
        )
        .bind(self.machine.as_uuid())
        .execute(self.rig.database.pool())
        .await
        .unwrap();
        self.rig.app.budgets.fence_silent().await.unwrap();
    }
}

fn kinds(history: &Value) -> Vec<&str> {
    let movements = history["items"].as_array().unwrap();
    let kinds = movements.iter().map(|movement| &movement["kind"]);
    kinds.map(|kind| kind.as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_budget_is_made_shown_raised_frozen_thawed_and_closed() {
    let operator = Operator::start().await;
    let made = operator.json(&CREATE).await;
    assert_eq!(
        (&made["task_id"], &made["total"]),
        (&json!("q4"), &json!(10_000))
    );
    assert_eq!(made["thresholds"], json!([50, 80, 100]));
    assert_eq!(made["spenders"], json!(["*"]));
    assert_eq!(
        (&made["window"], &made["parent"]),
        (&json!("none"), &Value::Null)
    );
    assert!(made["created_at"].is_string());

    let shown = operator.json(&["budget", "show", "q4"]).await;
    assert_eq!(
        (&shown["total"], &shown["remaining"]),
        (&json!(10_000), &json!(10_000))
    );
    assert_eq!(
        (&shown["reported"], &shown["outstanding"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        (&shown["state"], &shown["slices"]),
        (&json!("active"), &json!([]))
    );

    let raised = operator
        .json(&["budget", "top-up", "q4", "--amount", "500"])
        .await;
    assert_eq!(
        (&raised["total"], &raised["remaining"]),
        (&json!(10_500), &json!(10_500))
    );
    for (verb, state) in [
        ("freeze", "frozen"),
        ("thaw", "active"),
        ("close", "closed"),
    ] {
        let changed = operator.json(&["budget", verb, "q4"]).await;
        assert_eq!(changed["state"], state, "{verb}");
        let shown = operator.json(&["budget", "show", "q4"]).await;
        assert_eq!(shown["state"], state, "{verb}");
    }
    for verb in [
        &["freeze", "q4"][..],
        &["thaw", "q4"],
        &["top-up", "q4", "--amount", "1"],
    ] {
        let refused = operator.refused(&[&["budget"], verb].concat()).await;
        assert_eq!(refused, (5, "BUDGET_FROZEN".to_owned()), "{verb:?}");
    }
    let history = operator.json(&["budget", "history", "q4"]).await;
    assert_eq!(kinds(&history), ["closed", "topped_up", "created"]);
}

#[tokio::test]
async fn all_that_is_said_of_a_budget_is_kept() {
    let operator = Operator::start().await;
    let more = [
        "--window=day",
        "--carry-over",
        "--threshold=90",
        "--threshold=25",
        "--owner=sales",
        "--spender=scout",
        "--spender=critic",
    ];
    let made = operator.json(&[&CREATE[..], &more].concat()).await;
    assert_eq!(
        (&made["window"], &made["carries_over"]),
        (&json!("day"), &json!(true))
    );
    assert_eq!(made["thresholds"], json!([25, 90]));
    assert_eq!(made["owner"], "sales");
    assert_eq!(made["spenders"], json!(["scout", "critic"]));
    let shown = operator.json(&["budget", "show", "q4"]).await;
    assert_eq!(shown["total_per_window"], 10_000);
    assert!(shown["window_begins"].is_string() && shown["window_ends"].is_string());
}

#[tokio::test]
async fn budgets_are_listed_by_task_page_by_page() {
    let operator = Operator::start().await;
    for task in ["b", "a", "c"] {
        let create = [
            "budget", "create", "--task", task, "--total", "10", "--unit", "calls",
        ];
        operator.json(&create).await;
    }
    let table = operator.run(&["budget", "list"]).await.stdout;
    assert!(table.starts_with("TASK  UNIT   TOTAL  REPORTED"), "{table}");
    let first = operator.json(&["budget", "list", "--limit", "2"]).await;
    let tasks = |page: &Value| -> Vec<Value> {
        let items = page["items"].as_array().unwrap();
        items
            .iter()
            .map(|budget| budget["task_id"].clone())
            .collect()
    };
    assert_eq!(tasks(&first), ["a", "b"]);
    assert_eq!(first["items"][0]["remaining"], 10);
    let token = first["next_page_token"].as_str().unwrap();
    let second = operator
        .json(&["budget", "list", "--limit", "2", "--page-token", token])
        .await;
    assert_eq!(tasks(&second), ["c"]);
}

#[tokio::test]
async fn what_a_machine_has_and_tells_is_seen_and_comes_in_order() {
    let operator = Operator::start().await;
    operator.json(&CREATE).await;
    let mut spender = Spender::new(&operator.rig, "build-7").await;
    spender.take(400).await;
    spender.spend(400, 150).await;

    let shown = operator.json(&["budget", "show", "q4"]).await;
    assert_eq!(
        (&shown["reported"], &shown["outstanding"]),
        (&json!(150), &json!(250))
    );
    assert_eq!(
        (&shown["remaining"], &shown["suspense"]),
        (&json!(9_600), &json!(0))
    );
    let slice = &shown["slices"][0];
    assert_eq!(slice["machine_id"], spender.id());
    assert_eq!(
        (&slice["epoch"], &slice["is_silent"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(
        (&slice["granted"], &slice["reported"]),
        (&json!(400), &json!(150))
    );
    let asked = operator.json(&["budget", "rebalance", "q4"]).await;
    assert_eq!(asked, json!({"task_id": "q4", "asked": 250}));

    let history = ["budget", "history", "q4"];
    let newest = operator
        .json(&[&history[..], &["--limit", "1"]].concat())
        .await;
    assert_eq!(kinds(&newest), ["reported"]);
    let movement = &newest["items"][0];
    assert_eq!(
        (&movement["amount"], &movement["reported"]),
        (&json!(150), &json!(150))
    );
    assert_eq!(movement["machine_id"], spender.id());
    let token = newest["next_page_token"].as_str().unwrap();
    let older = [&history[..], &["--page-token", token]].concat();
    assert_eq!(kinds(&operator.json(&older).await), ["granted", "created"]);
}

#[tokio::test]
async fn a_silent_machine_is_seen_and_settled() {
    let operator = Operator::start().await;
    operator.json(&CREATE).await;
    let mut spender = Spender::new(&operator.rig, "build-7").await;
    spender.take(400).await;
    spender.spend(400, 150).await;
    let settle = ["budget", "settle", "q4", "--machine", "build-7"];
    let refused = operator.refused(&settle).await;
    assert_eq!(
        refused,
        (5, "REVISION_CONFLICT".to_owned()),
        "its lease has not ended"
    );

    spender.fall_silent().await;
    let shown = operator.json(&["budget", "show", "q4"]).await;
    assert_eq!(
        (&shown["suspense"], &shown["outstanding"]),
        (&json!(250), &json!(250))
    );
    assert_eq!(shown["slices"][0]["is_silent"], true);
    let told = operator.run(&["budget", "show", "q4"]).await;
    assert!(told.stdout.contains("silent\n"), "{}", told.stdout);
    let call = format!("control-plane budget settle q4 --machine {}", spender.id());
    assert!(told.stderr.contains(&call), "{}", told.stderr);

    for spent in ["149", "401"] {
        let refused = operator
            .refused(&[&settle[..], &["--spent", spent]].concat())
            .await;
        assert_eq!(refused, (2, "INVALID_ARGUMENT".to_owned()), "{spent}");
    }
    let by_id = [
        "budget",
        "settle",
        "q4",
        "--machine",
        &spender.id(),
        "--spent",
        "170",
    ];
    let by_id = [&by_id[..], &["--request-id", "r-1"]].concat();
    let settled = operator.json(&by_id).await;
    assert_eq!(
        (&settled["released"], &settled["reported"]),
        (&json!(230), &json!(170))
    );
    assert_eq!(settled["is_closed"], true);
    assert_eq!(
        operator.json(&by_id).await,
        settled,
        "a repeat gets the first answer"
    );
    let again = operator.refused(&settle).await;
    assert_eq!(again, (3, "RESERVATION_NOT_FOUND".to_owned()));

    let shown = operator.json(&["budget", "show", "q4"]).await;
    assert_eq!(
        (&shown["suspense"], &shown["outstanding"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        (&shown["reported"], &shown["remaining"]),
        (&json!(170), &json!(9_830))
    );
    let told = operator.run(&["budget", "show", "q4"]).await;
    assert!(!told.stderr.contains("settle"), "{}", told.stderr);
}

#[tokio::test]
async fn without_an_amount_a_machine_is_settled_at_what_it_has_told() {
    let operator = Operator::start().await;
    operator.json(&CREATE).await;
    let mut spender = Spender::new(&operator.rig, "build-7").await;
    spender.take(400).await;
    spender.spend(400, 150).await;
    spender.fall_silent().await;
    let settle = ["budget", "settle", "q4", "--machine", "build-7"];
    let settled = operator.json(&settle).await;
    assert_eq!(
        (&settled["released"], &settled["reported"]),
        (&json!(250), &json!(150))
    );
    // what it tells later nobody had
    spender.spend(400, 200).await;
    let shown = operator.json(&["budget", "show", "q4"]).await;
    assert_eq!(
        (&shown["reported"], &shown["overdraft"]),
        (&json!(200), &json!(50))
    );
    assert_eq!(shown["remaining"], 0);
    let raised = operator
        .json(&["budget", "top-up", "q4", "--amount", "50"])
        .await;
    assert_eq!(
        (&raised["overdraft"], &raised["remaining"]),
        (&json!(0), &json!(9_850))
    );
}

#[tokio::test]
async fn a_child_is_taken_from_its_parent_and_the_rest_goes_back() {
    let operator = Operator::start().await;
    operator.json(&CREATE).await;
    let child = |total: &'static str, parent: &'static str| {
        let child = ["budget", "create", "--task", "q4/figures", "--total", total];
        [&child[..], &["--unit", "tokens", "--parent", parent]].concat()
    };
    let refused = operator.refused(&child("2000", "q5")).await;
    assert_eq!(refused, (3, "BUDGET_NOT_FOUND".to_owned()));
    let refused = operator.refused(&child("10001", "q4")).await;
    assert_eq!(refused, (6, "BUDGET_EXHAUSTED".to_owned()));
    let outstanding = async || {
        let shown = operator.json(&["budget", "show", "q4"]).await;
        shown["outstanding"].as_u64().unwrap()
    };
    assert_eq!(outstanding().await, 0, "nothing was moved");

    let made = operator.json(&child("2000", "q4")).await;
    assert_eq!(made["parent"], "q4");
    assert_eq!(outstanding().await, 2_000);
    let history = operator
        .json(&["budget", "history", "q4", "--limit", "1"])
        .await;
    assert_eq!(history["items"][0]["child"], "q4/figures");
    let first = operator.refused(&["budget", "close", "q4"]).await;
    assert_eq!(
        first,
        (5, "REVISION_CONFLICT".to_owned()),
        "a child is open"
    );
    operator.json(&["budget", "close", "q4/figures"]).await;
    assert_eq!(outstanding().await, 0);
    operator.json(&["budget", "freeze", "q4"]).await;
    let other = ["budget", "create", "--task", "q4/text", "--total", "1"];
    let other = [&other[..], &["--unit", "tokens", "--parent", "q4"]].concat();
    assert_eq!(
        operator.refused(&other).await,
        (5, "BUDGET_FROZEN".to_owned())
    );
}

#[tokio::test]
async fn a_change_is_made_once_for_each_request_id() {
    let operator = Operator::start().await;
    let create = [&CREATE[..], &["--request-id", "r-1"]].concat();
    let made = operator.json(&create).await;
    assert_eq!(operator.json(&create).await, made);
    let second = operator.refused(&CREATE).await;
    assert_eq!(second, (5, "REVISION_CONFLICT".to_owned()));
    let top_up = [
        "budget",
        "top-up",
        "q4",
        "--amount",
        "5",
        "--request-id",
        "r-2",
    ];
    for _ in 0..2 {
        assert_eq!(operator.json(&top_up).await["total"], 10_005);
    }
    let other = [
        "budget",
        "top-up",
        "q4",
        "--amount",
        "6",
        "--request-id",
        "r-2",
    ];
    assert_eq!(
        operator.refused(&other).await,
        (5, "REQUEST_ID_REUSED".to_owned())
    );
}

#[tokio::test]
async fn amounts_that_cannot_be_are_refused_before_anybody_is_asked() {
    let operator = Operator::start().await;
    operator.json(&CREATE).await;
    let expected = "expected a whole number from";
    for amount in ["0", "-1", "1.5", "1e3", "9007199254740992", ""] {
        let create = [
            "budget", "create", "--task", "t", "--unit", "tokens", "--total", amount,
        ];
        let top_up = ["budget", "top-up", "q4", "--amount", amount];
        for call in [&create[..], &top_up] {
            let told = operator.run(call).await;
            assert_eq!(told.code, 2, "{call:?}");
            assert!(told.stderr.contains(expected), "{}", told.stderr);
        }
    }
    let settle = [
        "budget",
        "settle",
        "q4",
        "--machine",
        "build-7",
        "--spent",
        "-1",
    ];
    assert_eq!(operator.run(&settle).await.code, 2);
    let largest = ["budget", "top-up", "q4", "--amount", "9007199254740991"];
    let over = operator.refused(&largest).await;
    assert_eq!(
        over,
        (2, "INVALID_ARGUMENT".to_owned()),
        "together it is too much"
    );
    let shown = operator.json(&["budget", "show", "q4"]).await;
    assert_eq!(shown["total"], 10_000, "nothing was moved");
}

#[tokio::test]
async fn what_is_wrong_or_not_there_has_its_exit_code() {
    let operator = Operator::start().await;
    operator.json(&CREATE).await;
    operator.rig.machine("build-7").await;
    let least = ["budget", "create", "--task", "t", "--total", "5"];
    for more in [
        &["--unit", "Tokens"][..],
        &["--unit", ""],
        &["--unit", "tokens", "--threshold", "50", "--threshold", "50"],
        &["--unit", "tokens", "--spender", "no body"],
        &["--unit", "tokens", "--carry-over"],
        &["--unit", "tokens", "--parent", "q4", "--window", "day"],
    ] {
        let refused = operator.refused(&[&least[..], more].concat()).await;
        assert_eq!(refused, (2, "INVALID_ARGUMENT".to_owned()), "{more:?}");
    }
    for usage in [
        &["--unit", "tokens", "--threshold", "101"][..],
        &["--unit", "tokens", "--window", "week"],
        &["--unit", "tokens", "--parent", "no budget"],
        &[],
    ] {
        let told = operator.run(&[&least[..], usage].concat()).await;
        assert_eq!(told.code, 2, "{usage:?}: {}", told.stderr);
    }
    for verb in [
        &["show", "q5"][..],
        &["history", "q5"],
        &["top-up", "q5", "--amount", "1"],
        &["rebalance", "q5"],
        &["settle", "q5", "--machine", "build-7"],
        &["freeze", "q5"],
        &["thaw", "q5"],
        &["close", "q5"],
    ] {
        let refused = operator.refused(&[&["budget"], verb].concat()).await;
        assert_eq!(refused, (3, "BUDGET_NOT_FOUND".to_owned()), "{verb:?}");
    }
    let settle = ["budget", "settle", "q4", "--machine"];
    let no_slice = operator
        .refused(&[&settle[..], &["build-7"]].concat())
        .await;
    assert_eq!(no_slice, (3, "RESERVATION_NOT_FOUND".to_owned()));
    let nobody = operator.refused(&[&settle[..], &["nobody"]].concat()).await;
    assert_eq!(nobody, (3, "INVALID_ARGUMENT".to_owned()));
}
