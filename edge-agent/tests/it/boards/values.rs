//! Values come back as they were written, whatever the face; what is none is
//! refused.

use edge_agent::core::exact;
use serde_json::{Value, json};

use super::{
    Way,
    texts::{INVALID, VALID},
    through_rest,
};
use crate::{faces::speaker::Face, rig::Rig};

const MAX: usize = 256 * 1024;

#[tokio::test]
async fn every_valid_text_comes_back_equal_from_every_face_to_every_other() {
    let rig = Rig::start().await;
    let mut ways = Way::all(&rig).await;
    assert!(VALID.len() >= 100, "{}", VALID.len());
    for (number, text) in VALID.iter().enumerate() {
        let equal = exact(text).unwrap().to_string();
        for writer in 0..ways.len() {
            let key = format!("valid/{number}/{writer}");
            let name = ways[writer].name();
            let written = ways[writer].write(&key, text).await;
            written.unwrap_or_else(|refused| panic!("{name}, {text}: {refused}"));
            // each reads what the one before has written
            let reader = (writer + 1) % ways.len();
            let read = ways[reader].read(&key).await.unwrap();
            assert_eq!(
                read["value"].to_string(),
                equal,
                "{name} to {}",
                ways[reader].name()
            );
        }
    }
    // in a list they are no other
    let listed = ways[0]
        .call("blackboard_list", r#"{"prefix": "valid/", "limit": 1000}"#)
        .await;
    for entry in listed.unwrap()["entries"].as_array().unwrap() {
        let number = entry["key"].as_str().unwrap().split('/').nth(1).unwrap();
        let text = VALID[number.parse::<usize>().unwrap()];
        assert_eq!(entry["value"].to_string(), exact(text).unwrap().to_string());
    }
}

#[tokio::test]
async fn every_invalid_text_is_refused_with_a_reason_by_every_face() {
    let rig = Rig::start().await;
    let rest = rig.edge.client(&rig.api_key);
    let deep = "[".repeat(500) + &"]".repeat(500);
    let deeper = "[".repeat(100_000);
    let all = INVALID.iter().copied().chain([deep.as_str(), &deeper]);
    for text in all.clone() {
        let shown: String = text.chars().take(40).collect();
        let arguments = format!(r#"{{"key": "no", "value": {text}}}"#);
        let (status, refused) = through_rest(&rest, "blackboard_write", &arguments).await;
        assert_eq!(status, 400, "{shown}: {refused}");
        assert_eq!(refused["reason"], "INVALID_ARGUMENT", "{shown}");
        assert!(
            refused["detail"]
                .as_str()
                .is_some_and(|detail| detail.len() > 10),
            "{shown}"
        );
    }
    for way in Way::all(&rig).await {
        // of SSE, whose refusals answer the post: it reads messages as WebSocket does
        let Way::Mcp(
            face @ (Face::WebSocket | Face::Stdio | Face::StreamableHttp | Face::Stateless),
            mut speaker,
        ) = way
        else {
            continue;
        };
        for text in all.clone().filter(|text| !text.contains(['\n', '\r'])) {
            let shown: String = text.chars().take(40).collect();
            let arguments = format!(r#"{{"key": "no", "value": {text}}}"#);
            speaker.ask_with("blackboard_write", &arguments).await;
            let told = speaker.next(|message| message.get("error").is_some()).await;
            assert_eq!(told["error"]["code"], -32700, "{face:?}, {shown}: {told}");
            assert!(
                told["error"]["message"]
                    .as_str()
                    .is_some_and(|detail| detail.len() > 10)
            );
        }
    }
    let (status, _) = through_rest(&rest, "blackboard_read", r#"{"key": "no"}"#).await;
    assert_eq!(status, 404, "nothing was written");
}

#[tokio::test]
async fn what_is_no_utf_8_is_refused() {
    let rig = Rig::start().await;
    let rest = rig.edge.client(&rig.api_key);
    for bytes in [
        &b"\xff"[..],
        b"\xe9",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\xbf\xbf\xbf",
        b"\x81",
        b"\xfc\x83\xbf\xbf\xbf\xbf",
        b"\xe6\x97\xa5\xd1\x88\xfa",
    ] {
        let mut body = br#"{"key": "no", "value": ""#.to_vec();
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\"}");
        let request = rest
            .post("blackboard_write")
            .header("content-type", "application/json");
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_value_of_256_kib_fits_however_it_is_written_and_a_byte_more_does_not() {
    let rig = Rig::start().await;
    let plain = format!("\"{}\"", "x".repeat(MAX - 2));
    let emoji = "🚀".repeat((MAX - 2) / 4);
    let escaped = format!("\"{}xx\"", r"\ud83d\ude80".repeat((MAX - 2) / 4));
    let numbers = format!("[{}1]", "1,".repeat((MAX - 3) / 2));
    for way in &mut Way::all(&rig).await {
        let name = way.name();
        for (number, text) in [&plain, &escaped, &numbers].into_iter().enumerate() {
            let key = format!("large/{number}");
            let written = way.write(&key, text).await;
            written.unwrap_or_else(|refused| panic!("{name}, {number}: {refused}"));
            let read = way.read(&key).await.unwrap()["value"].take();
            if number == 1 {
                let same = read
                    .as_str()
                    .is_some_and(|read| read.strip_suffix("xx") == Some(&emoji));
                assert!(same, "{name}");
            } else {
                let read = read.to_string();
                assert!(read == **text, "{name}, {number}");
            }
        }
        let more = format!("\"{}\"", "x".repeat(MAX - 1));
        let refused = way.write("large/more", &more).await.unwrap_err();
        assert_eq!(
            (&refused["reason"], &refused["field"]),
            (&json!("TOO_LARGE"), &json!("value")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_transaction_of_a_mebibyte_fits_and_a_byte_more_does_not() {
    const TOGETHER: usize = 1024 * 1024;
    let rig = Rig::start().await;
    // four keys of one byte
    let put = |key: &str, bytes: usize| {
        format!(
            r#"{{"op": "put", "key": "{key}", "value": "{}"}}"#,
            "x".repeat(bytes - 2)
        )
    };
    let transaction = |last: usize| {
        let puts = [put("a", MAX), put("b", MAX), put("c", MAX), put("d", last)];
        format!(r#"{{"board": "strong", "then": [{}]}}"#, puts.join(","))
    };
    let room = TOGETHER - 3 * MAX - 4;
    for way in &mut Way::all(&rig).await {
        let name = way.name();
        let done = way.call("blackboard_transaction", &transaction(room)).await;
        let done = done.unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(done["succeeded"], true, "{name}");
        let refused = way
            .call("blackboard_transaction", &transaction(room + 1))
            .await
            .unwrap_err();
        assert_eq!(
            (&refused["reason"], &refused["field"]),
            (&json!("TOO_LARGE"), &json!("then")),
            "{name}"
        );
        let get = r#"{"board": "strong", "then": [{"op": "get", "key": "a"}, {"op": "get", "key": "c"}]}"#;
        let read = way.call("blackboard_transaction", get).await.unwrap();
        for result in read["results"].as_array().unwrap() {
            assert_eq!(
                result["entry"]["value"].as_str().unwrap().len(),
                MAX - 2,
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn any_text_is_a_key_on_every_face_and_as_a_resource() {
    let rig = Rig::start().await;
    let long = "k".repeat(512);
    let keys = [
        "a b",
        "/",
        "a/b//c",
        "\"quoted\" 'key'",
        "🚀 売上",
        "100%",
        "%2F%00",
        "a?b=c#d",
        "..",
        "../../etc",
        "\\",
        "{key}",
        "\n\t",
        "+",
        "é",
        "e\u{301}",
        "[]",
        ":",
        long.as_str(),
    ];
    let mut ways = Way::all(&rig).await;
    for (number, key) in keys.iter().enumerate() {
        let turn = number % ways.len();
        let name = ways[turn].name();
        let written = ways[turn].write(key, &number.to_string()).await;
        written.unwrap_or_else(|refused| panic!("{name}, {key:?}: {refused}"));
        for way in &mut ways {
            let read = way.read(key).await.unwrap();
            assert_eq!(
                (&read["key"], &read["value"]),
                (&json!(key), &json!(number)),
                "{}",
                way.name()
            );
        }
        let encoded =
            percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let uri = format!("blackboard://eventual/{encoded}");
        for way in &mut ways {
            let name = way.name();
            let read = match way {
                // as it is, and encoded once more
                Way::Rest(client) => {
                    let again = percent_encoding::utf8_percent_encode(
                        &uri,
                        percent_encoding::NON_ALPHANUMERIC,
                    );
                    let read = client.resource(&again.to_string()).await;
                    // the client's own reading of URLs takes `..` for a directory, however it is written
                    if !key.contains("..") {
                        assert_eq!(client.resource(&uri).await, read, "{key:?}");
                    }
                    read
                }
                Way::Mcp(_, speaker) => {
                    let read = speaker
                        .request("resources/read", json!({ "uri": uri }))
                        .await;
                    let text = read["result"]["contents"][0]["text"].as_str();
                    exact(text.unwrap_or_else(|| panic!("{name}, {key:?}: {read}"))).unwrap()
                }
            };
            assert_eq!(
                (&read["key"], &read["value"]),
                (&json!(key), &json!(number)),
                "{name}, {key:?}"
            );
        }
    }
    let all = rig
        .edge
        .client(&rig.api_key)
        .resource("blackboard%3A%2F%2Feventual%2F")
        .await;
    let listed: Vec<&Value> = all["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["key"])
        .collect();
    assert_eq!(listed.len(), keys.len());
    assert!(all["entries"][0].get("value").is_none());
}
