//! Eventual boards while the control plane is away, and when it is back.

use authguardian_proto::{board::Level, ids::BoardName};
use control_plane::{
    audit::Context,
    blackboard::{BoardUpdate, NewBoard},
    events::SuspensionTarget,
};
use serde_json::json;

use super::{Site, open, values};
use crate::wait::until_async;

#[tokio::test]
async fn a_board_is_used_while_cut_off_and_comes_together_afterwards() {
    let (control_plane, api_key) = open().await;
    let a = Site::start(&control_plane, "a", &api_key).await;
    let b = Site::start(&control_plane, "b", &api_key).await;
    a.write("shared", json!("before")).await;
    b.comes_to("shared", Some(json!("before"))).await;
    a.cut();
    b.cut();
    let first = a.write("of a", json!(1)).await;
    assert_eq!(first["copies"], 0);
    a.delete("shared").await;
    assert_eq!(a.value("shared").await, None);
    b.write("shared", json!("b")).await;
    b.write("of b", json!(2)).await;
    let list = a
        .client
        .call("blackboard_list", json!({"prefix": "of "}))
        .await;
    assert_eq!(list["entries"].as_array().unwrap().len(), 1);
    assert_eq!(list["entries"][0]["value"], 1);
    a.mend();
    b.mend();
    a.comes_to("of b", Some(json!(2))).await;
    b.comes_to("of a", Some(json!(1))).await;
    // the deletion has not seen what b wrote
    a.comes_to("shared", Some(json!("b"))).await;
    b.comes_to("shared", Some(json!("b"))).await;
    a.delete("shared").await;
    b.comes_to("shared", None).await;
}

#[tokio::test]
async fn conflicts_are_the_same_everywhere_and_the_next_write_resolves_them() {
    let (control_plane, api_key) = open().await;
    let a = Site::start(&control_plane, "a", &api_key).await;
    let b = Site::start(&control_plane, "b", &api_key).await;
    a.cut();
    b.cut();
    let of_a = a.write("k", json!("a")).await;
    b.write("k", json!("b")).await;
    a.mend();
    b.mend();
    for site in [&a, &b] {
        let has_both = async || {
            site.read("k")
                .await
                .is_some_and(|read| read["siblings"] == 2)
        };
        until_async("both are there", has_both).await;
        let read = site.read("k").await.unwrap();
        assert_eq!(values(&read), ["\"a\"", "\"b\""]);
        assert_eq!(read["value"], "b", "the later one");
        assert_eq!(read["vector_clock"].as_object().unwrap().len(), 2);
    }
    // all clocks are told alike
    let seen = of_a["vector_clock"].as_object().unwrap();
    let clock = b.read("k").await.unwrap()["vector_clock"].clone();
    assert!(seen.iter().all(|(actor, counter)| clock[actor] == *counter));
    a.write("k", json!("both")).await;
    b.comes_to("k", Some(json!("both"))).await;
    let read = b.read("k").await.unwrap();
    assert_eq!((&read["siblings"], values(&read).len()), (&json!(1), 1));
    // as the control plane sees it
    let strong = json!({"key": "k", "consistency": "strong"});
    let strong = a.client.call("blackboard_read", strong).await;
    assert_eq!(
        (&strong["value"], &strong["copies"]),
        (&json!("both"), &json!(1))
    );
}

#[tokio::test]
async fn what_the_board_was_not_for_is_undone_and_reaches_nobody() {
    let (control_plane, api_key) = open().await;
    let a = Site::start(&control_plane, "a", &api_key).await;
    let b = Site::start(&control_plane, "b", &api_key).await;
    a.write("k", json!("before")).await;
    b.comes_to("k", Some(json!("before"))).await;
    a.cut();
    let target = SuspensionTarget::Agent("data_analyst".parse().unwrap());
    let grants = &control_plane.app.grants;
    grants
        .suspend(Context::system(), target.clone(), "drill")
        .await
        .unwrap();
    a.write("k", json!("after")).await;
    a.mend();
    // soon a knows
    until_async("a has heard of the suspension", async || {
        let read = json!({"key": "k"});
        let (_, body) = a.client.try_call("blackboard_read", read).await;
        body["reason"] == "SUSPENDED"
    })
    .await;
    let write = json!({"key": "k", "value": 1});
    assert_eq!(
        a.client.refusal("blackboard_write", write).await,
        "SUSPENDED"
    );
    // before it is over, or the write would be taken
    until_async("a has handed its write over", async || {
        let received = sqlx::query_scalar::<_, i64>(
            "SELECT coalesce(sum(received), 0)::bigint FROM board_actor WHERE board = 'eventual'",
        );
        let mut connection = control_plane.app.db.read().await.unwrap();
        received.fetch_one(&mut *connection).await.unwrap() == 2
    })
    .await;
    let identity = &control_plane.app.identity;
    identity
        .resume(Context::system(), target, "")
        .await
        .unwrap();
    until_async("a has heard that it is over", async || {
        let read = json!({"key": "k"});
        let (_, body) = a.client.try_call("blackboard_read", read).await;
        body["value"] == "before"
    })
    .await;
    b.write("other", json!(1)).await;
    a.comes_to("other", Some(json!(1))).await;
    assert_eq!(b.value("k").await, Some(json!("before")));
    assert_eq!(a.value("k").await, Some(json!("before")));
}

#[tokio::test]
async fn what_only_higher_levels_keep_and_boards_for_others_are_refused_here_too() {
    let (control_plane, api_key) = open().await;
    let site = Site::start(&control_plane, "host", &api_key).await;
    let readers = BoardUpdate {
        readers: Some(vec!["data_analyst".to_owned()]),
        writers: Some(vec!["orchestrator".to_owned()]),
        ..BoardUpdate::default()
    };
    let others = BoardUpdate {
        readers: Some(vec!["orchestrator".to_owned()]),
        writers: Some(Vec::new()),
        ..BoardUpdate::default()
    };
    let small = BoardUpdate {
        max_keys: Some(1),
        ..BoardUpdate::default()
    };
    let name = |text: &str| text.parse::<BoardName>().unwrap();
    for (board, terms) in [("read", readers), ("others", others), ("small", small)] {
        let new = NewBoard {
            name: name(board),
            level: Level::Eventual,
            terms,
        };
        let blackboard = &control_plane.app.blackboard;
        blackboard.create(Context::system(), new).await.unwrap();
    }
    let write = |board: &str, key: &str| json!({"board": board, "key": key, "value": 1});
    until_async("the boards are here", async || {
        let body = site
            .client
            .try_call("blackboard_write", write("small", "a"));
        body.await.1["copies"] == 0
    })
    .await;
    site.cut();
    let mut if_revision = write("eventual", "k");
    if_revision["if_revision"] = json!(0);
    let mut if_lock = write("eventual", "k");
    if_lock["if_lock"] = json!({"key": "l", "fencing_revision": 1});
    let ahead = json!({"key": "k", "after_revision": 1_u64 << 40});
    let foreign = json!({"key": "k", "after_revision": "1.1"});
    for (tool, arguments, reason) in [
        ("blackboard_write", if_revision, "UNSUPPORTED_FOR_LEVEL"),
        ("blackboard_write", if_lock, "UNSUPPORTED_FOR_LEVEL"),
        ("blackboard_write", write("read", "k"), "PERMISSION_DENIED"),
        ("blackboard_write", write("others", "k"), "BOARD_NOT_FOUND"),
        (
            "blackboard_write",
            write("small", "b"),
            "RESOURCE_EXHAUSTED",
        ),
        (
            "blackboard_read",
            json!({"board": "others", "key": "k"}),
            "BOARD_NOT_FOUND",
        ),
        (
            "blackboard_read",
            json!({"key": "nowhere"}),
            "KEY_NOT_FOUND",
        ),
        ("blackboard_read", ahead, "INVALID_ARGUMENT"),
        ("blackboard_read", foreign, "COMPACTED"),
    ] {
        let refused = site.client.refusal(tool, arguments.clone()).await;
        assert_eq!(refused, reason, "{tool} {arguments}");
    }
    // who was refused here is in the audit log as soon as that can be reached
    site.mend();
    until_async("the refusal is in the log", async || {
        let noted = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM audit_trail
             WHERE action = 'tool.blackboard_write' AND outcome = 'refused' AND reason = 'PERMISSION_DENIED'",
        );
        let mut connection = control_plane.app.db.read().await.unwrap();
        noted.fetch_one(&mut *connection).await.unwrap() == 1
    })
    .await;
}

#[tokio::test]
async fn a_repeat_of_a_request_changes_nothing() {
    let (control_plane, api_key) = open().await;
    let site = Site::start(&control_plane, "host", &api_key).await;
    let write = |value: u32| json!({"key": "k", "value": value, "request_id": "r-1"});
    let first = site.client.call("blackboard_write", write(1)).await;
    site.write("k", json!(2)).await;
    let again = site.client.call("blackboard_write", write(1)).await;
    assert_eq!(first, again);
    assert_eq!(site.value("k").await, Some(json!(2)));
    let refused = site.client.refusal("blackboard_write", write(3)).await;
    assert_eq!(refused, "REQUEST_ID_REUSED");
}
