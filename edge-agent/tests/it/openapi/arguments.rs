//! What a tool's published schema refuses its form refuses, and the reverse.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{document, validator::errors};
use crate::rig::Rig;

/// What each argument is tried with, as JSON arrays.
const VALUES: &[(&str, &str)] = &[
    (
        "agent_id",
        r#"[null, 7, true, [], {}, "", " ", "data_analyst", "A:b/c.d-e_f", "-a", "a b", "ä", "a\n", "\na", "a\u0000"]"#,
    ),
    (
        "resource_type",
        r#"[null, 1, [], "", " ", "SAP_API", "no such type", "\n\t", "ä"]"#,
    ),
    (
        "justification",
        r#"[null, 1, [], "", " ", "\n\t", "\u00a0", "\u3000", "\u2028", "\ufeff", "\u0085", " x ", "äöüßé", "\n\nx", "😀", "a\u0000b", "\u0000"]"#,
    ),
    (
        "scope",
        r#"[null, 1, "", " ", "read:invoices", "*", "a\u0000"]"#,
    ),
    (
        "ttl_seconds",
        r#"[null, 0, 1, 60, -1, 1.5, 60.0, 1e300, "5", true, [], 4294967295, 4294967296, 18446744073709551615]"#,
    ),
    ("wait_seconds", r#"[null, 0, 0.0, -1, 61, 0.5, "0", false]"#),
    (
        "request_id",
        r#"[null, "r-1", "~!", "a b", "é", "", "a\n", 1]"#,
    ),
    ("token", r#"[null, "e.y.J", "", " ", 5, "ä", {}]"#),
    (
        "grant_id",
        r#"[null, "grt_0000000000000000000007", "grt_000000000000000000007", "grt_00000000000000000000007",
            "apk_0000000000000000000007", "grt_zzzzzzzzzzzzzzzzzzzzzz", "grt_000000000000000000000-", "",
            "grt_7N42DGM5Tflk9n8mt7Fhc7", "grt_0000000000000000000007\n", 7]"#,
    ),
    (
        "consistency",
        r#"[null, "bounded", "strong", "Bounded", "", 1, ["strong"]]"#,
    ),
    (
        "capabilities",
        r#"[null, [], 7, "a", {}, [null], [1], [""], ["a b"], ["a", "b.c@1"], ["a", "a"], ["a@"], [".a"], ["a*"], [{}],
            ["a.b.c.d.e.f.g.h"], ["a.b.c.d.e.f.g.h.i"], [{"name": "a"}], [{"name": "a", "version": "1"}],
            [{"name": "a", "version": "1 2"}], [{"name": 7}], [{"version": "1"}], [{"name": "a", "colour": "red"}],
            [{"name": "a", "attributes": {"k": "v"}}], [{"name": "a", "attributes": {"k": 1}}],
            [{"name": "a", "attributes": {"a b": ""}}], [{"name": "a", "attributes": ["k"]}]]"#,
    ),
    (
        "endpoint",
        r#"[null, 7, "", "mcp", "ftp://a/", "http://127.0.0.1:8000/mcp", "https://agents.example/mcp",
            "https://user@agents.example/", "https://agents.example/?a=b", "https://agents.example/#a", "https://a b/"]"#,
    ),
    (
        "labels",
        r#"[null, 7, [], {}, {"region": "eu"}, {"a/b.c_d-e": ""}, {"": "x"}, {"a b": "c"}, {"a": 1}, {"a": null},
            {"a": "ä 🚀"}, {"a": "x\u0000"}, {"a": "x\ny"}]"#,
    ),
    ("trust_level", r#"[null, 0, 800, 1001, -1, 1.5, "5"]"#),
    ("min_trust", r#"[null, 0, 1000, 1001, -1, 0.5, "5", []]"#),
    ("live_only", r#"[null, true, false, 0, "yes", []]"#),
    (
        "zone",
        r#"[null, "external", "local_machine", "moon", "", 1]"#,
    ),
    (
        "machine_id",
        r#"[null, "mch_0000000000000000000007", "grt_0000000000000000000007", "", 7]"#,
    ),
    ("limit", r#"[null, 1, 1000, 0, 1001, 1.5, "5"]"#),
    ("cursor", r#"[null, 7, "", " ", []]"#),
    (
        "capability",
        r#"[null, 7, "", " ", "*", "**", "a", "a.b@1.2", "a.*", "a@1.*", "a*", "a.**", ".*", "@*", "a@*", "*.a", "a b", []]"#,
    ),
    (
        "board",
        r#"[null, "strong", "eventual", "Strong", "", "a b", "7a", "no-such_1", 7]"#,
    ),
    (
        "key",
        r#"[null, "a", " ", "", "a/b c\"é🚀", "a\u0000", "\n", 7, ["a"]]"#,
    ),
    ("prefix", r#"[null, "", "a", " ", "a\u0000", 7]"#),
    (
        "value",
        r#"[null, 0, -1.50, "", "x", [], {}, {"a": [null]}, false]"#,
    ),
    ("keys_only", r#"[null, true, false, 0, "yes"]"#),
    ("siblings", r#"[null, true, false, 0, "yes"]"#),
    (
        "if_revision",
        r#"[null, 0, 1, 7.0, -1, 0.5, "0", 9223372036854775807, 9223372036854775808, []]"#,
    ),
    ("fencing_revision", r#"[null, 0, 1, 7.0, -1, 0.5, "0", []]"#),
    (
        "after_revision",
        r#"[null, 0, 0.0, "0.0", "1.0", "1", "1.", ".1", "1.2.3", "+1.2", "", -1, 0.5, []]"#,
    ),
    (
        "if_lock",
        r#"[null, {}, 7, {"key": "a"}, {"fencing_revision": 1}, {"key": "a", "fencing_revision": 1}, {"key": "", "fencing_revision": 1},
            {"key": "a", "fencing_revision": -1}, {"key": "a", "fencing_revision": 1, "ttl": 1}]"#,
    ),
    (
        "compare",
        r#"[null, [], {}, 7, [null], [{}], [{"key": "a"}], [{"key": "a", "revision": 0}], [{"key": "a", "revision": -1}],
            [{"key": "a", "exists": true}], [{"key": "a", "exists": 1}], [{"key": "a", "value": null}], [{"key": "", "value": 1}],
            [{"key": "a", "fencing_revision": 1}], [{"key": "a", "exists": true, "revision": 0}], [{"value": 1}]]"#,
    ),
    ("then", OPERATIONS),
    ("else", OPERATIONS),
    (
        "task_id",
        r#"[null, 7, [], "", " ", "q4-report", "A:b/c.d-e_f", "-a", "a b", "ä", "a\n", "a\u0000"]"#,
    ),
    (
        "tokens",
        r#"[null, 0, 1, 10.0, 1e3, -1, 1.5, "5", true, [], 9007199254740991, 9007199254740992, 1e300, 18446744073709551616]"#,
    ),
    (
        "reservation_id",
        r#"[null, "rsv_0000000000000000000007", "grt_0000000000000000000007", "rsv_000000000000000000007", "", 7]"#,
    ),
    ("no_such_argument", r#"[null, 1, "x"]"#),
];

const OPERATIONS: &str = r#"[null, [], {}, 7, [null], [{}], [{"op": "get", "key": "a"}], [{"op": "delete", "key": "a"}],
    [{"op": "put", "key": "a", "value": null}], [{"op": "put", "key": "a"}], [{"op": "delete", "key": ""}], [{"op": "cas", "key": "a"}],
    [{"op": "get", "key": "a", "value": 1}], [{"op": "put", "key": "a", "value": 1, "ttl_seconds": 0}], [{"op": "get", "key": 7}],
    [{"op": "put", "key": "a", "value": 1, "ttl_seconds": 5}], [{"op": "get", "key": "a", "x": 1}], [{"key": "a"}]]"#;

/// The bounds of texts, in characters.
const LONGEST: &[(&str, usize)] = &[
    ("agent_id", 128),
    ("resource_type", 64),
    ("justification", 2000),
    ("scope", 500),
    ("request_id", 128),
    ("token", 8192),
    ("task_id", 128),
];

#[tokio::test]
async fn the_form_takes_what_the_published_schema_takes_and_nothing_else() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    let document = document(&rig).await;
    let (mut taken, mut refused) = (0, 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let Some(tool) = path.strip_prefix("/mcp/tools/") else {
            continue;
        };
        let body = &operations["post"]["requestBody"]["content"]["application/json"]["schema"];
        let pointer = body["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
        let schema = document.pointer(pointer).unwrap();
        let cases = cases(schema);
        let found = errors(schema, &cases).await;
        for (case, errors) in cases.into_iter().zip(found) {
            if errors.is_empty() && is_beyond_schemas(tool, &case) {
                let reason = client.refusal(tool, case).await;
                assert_eq!(reason, "INVALID_ARGUMENT");
                continue;
            }
            let (status, answer) = client.try_call(tool, case.clone()).await;
            let is_refused = is_of_form(status, &answer);
            assert_eq!(
                is_refused,
                !errors.is_empty(),
                "{tool} {case}: {answer}; {errors:?}"
            );
            *(if is_refused { &mut refused } else { &mut taken }) += 1;
        }
    }
    assert!(
        taken > 70 && refused > 150,
        "{taken} taken, {refused} refused"
    );
}

/// Every value in the place of a good one, and none of them.
fn cases(schema: &Value) -> Vec<Value> {
    let properties = schema["properties"].as_object().unwrap();
    let required = schema["required"].as_array().unwrap();
    let mut good: Value = required
        .iter()
        .map(|name| {
            (
                name.as_str().unwrap().to_owned(),
                good(name.as_str().unwrap()),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    if properties.contains_key("reservation_id") {
        good["request_id"] = json!("r-1");
    }
    let mut cases = vec![json!({}), good.clone()];
    let mut add = |name: &str, value: Value| {
        let mut case = good.clone();
        if name == "reservation_id" {
            case["request_id"] = Value::Null;
        }
        case[name] = value;
        cases.push(case);
    };
    let is_known = |name: &str| properties.contains_key(name) || name == "no_such_argument";
    for (name, values) in VALUES.iter().filter(|(name, _)| is_known(name)) {
        let values: Vec<Value> = serde_json::from_str(values).unwrap();
        for value in values {
            add(name, value);
        }
    }
    for (name, longest) in LONGEST.iter().filter(|(name, _)| is_known(name)) {
        for letter in ["x", "ä"] {
            add(name, json!(letter.repeat(*longest)));
            add(name, json!(letter.repeat(longest + 1)));
        }
    }
    for name in properties.keys() {
        assert!(
            VALUES.iter().any(|(known, _)| known == name),
            "`{name}` is not tried"
        );
    }
    for name in required {
        let mut case = good.clone();
        case.as_object_mut().unwrap().remove(name.as_str().unwrap());
        cases.push(case);
    }
    cases
}

fn good(name: &str) -> Value {
    match name {
        "agent_id" => json!("data_analyst"),
        "resource_type" => json!("SAP_API"),
        "justification" => json!("Q4 analysis task"),
        "token" => json!("e.y.J"),
        "grant_id" => json!("grt_0000000000000000000007"),
        "board" => json!("strong"),
        "key" => json!("a"),
        "value" | "tokens" => json!(1),
        "task_id" => json!("no-such"),
        _ => panic!("no good `{name}` is known"),
    }
}

/// Whether a call breaks what no schema of arguments says: that spending is told by one of two
/// ids, and that there is some where nothing was set aside.
fn is_beyond_schemas(tool: &str, case: &Value) -> bool {
    let by_request = case["request_id"].is_string();
    let is_nothing = by_request && case["tokens"].as_f64() == Some(0.0);
    let is_by_one = case["reservation_id"].is_string() != by_request;
    tool == "report_spending" && (is_nothing || !is_by_one)
}

/// Whether a call was refused for its form, rather than for what it asked.
fn is_of_form(status: StatusCode, answer: &Value) -> bool {
    !status.is_success()
        && ["INVALID_ARGUMENT", "TOO_LARGE"].contains(&answer["reason"].as_str().unwrap())
}
