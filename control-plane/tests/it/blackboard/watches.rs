//! Watching boards.

use std::time::Duration;

use authguardian_proto::{board::Level, reason::Reason};
use control_plane::{
    backup::fence,
    blackboard::{BoardUpdate, Change, ChangeKind, Filter, Watch},
    budgets::AsOf,
    events::Position,
};

use super::{board, delete, key, who, write, write_for};
use crate::{rig::Rig, wait::DEADLINE};

async fn watch(rig: &Rig, after: Option<Position>) -> Watch {
    let session = rig.agent(&format!("watcher-{}", rand(rig)), 800).await;
    let all = Filter::Prefix(String::new());
    rig.app
        .blackboard
        .watch(who(&session), board("strong"), all, after)
        .await
        .unwrap()
}

fn rand(rig: &Rig) -> String {
    rig.app.ambient.uuid().simple().to_string()
}

/// The next `count` changes, each with the position of its message.
async fn next(watch: &mut Watch, count: usize) -> Vec<(Position, Change)> {
    let mut all = Vec::new();
    while all.len() < count {
        let message = tokio::time::timeout(DEADLINE, watch.next())
            .await
            .unwrap()
            .unwrap();
        let position = message.position;
        all.extend(message.changes.into_iter().map(|change| (position, change)));
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

fn told(changes: &[(Position, Change)]) -> Vec<(i64, ChangeKind, &str)> {
    changes
        .iter()
        .map(|(at, change)| (at.revision, change.kind, change.entry.key.as_str()))
        .collect()
}

#[tokio::test]
async fn changes_come_in_order_from_any_position_with_what_was_before() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let mut live = watch(&rig, None).await;
    rig.write(&session, "strong", write("a", "1"))
        .await
        .unwrap();
    rig.write(&session, "strong", write("a", "2"))
        .await
        .unwrap();
    rig.write(&session, "strong", delete("a")).await.unwrap();
    rig.write(&session, "strong", write_for("b", "1", 1))
        .await
        .unwrap();
    let expected = [
        (1, ChangeKind::Put, "a"),
        (2, ChangeKind::Put, "a"),
        (3, ChangeKind::Delete, "a"),
        (4, ChangeKind::Put, "b"),
        (5, ChangeKind::Expire, "b"),
    ];
    let heard = next(&mut live, 5).await;
    assert_eq!(told(&heard), expected);
    let before: Vec<_> = heard
        .iter()
        .map(|(_, change)| {
            let value = change
                .previous
                .as_ref()
                .and_then(|entry| entry.value.as_ref());
            (
                change.previous_revision,
                value.map(|value| value.as_str().to_owned()),
            )
        })
        .collect();
    let was = |value: &str| Some(value.to_owned());
    assert_eq!(
        before,
        [
            (0, None),
            (1, was("1")),
            (2, was("2")),
            (0, None),
            (4, was("1"))
        ]
    );
    for after in 0..5_i64 {
        let position = Position {
            epoch: 1,
            revision: after,
        };
        let mut again = watch(&rig, Some(position)).await;
        let rest = usize::try_from(5 - after).unwrap();
        assert_eq!(
            told(&next(&mut again, rest).await),
            expected[expected.len() - rest..]
        );
    }
}

#[tokio::test]
async fn one_key_is_watched_across_control_planes_and_others_are_not_told() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let session = rig.analyst().await;
    let filter = Filter::Key(key("mine"));
    let blackboard = &rig.app.blackboard;
    let mut watch = blackboard
        .watch(who(&session), board("strong"), filter, None)
        .await
        .unwrap();
    for (at, rig) in [
        ("other", &rig),
        ("mine", &other),
        ("mine2", &rig),
        ("mine", &rig),
    ] {
        rig.write(&session, "strong", write(at, "1")).await.unwrap();
    }
    let heard = next(&mut watch, 2).await;
    assert_eq!(
        told(&heard),
        [(2, ChangeKind::Put, "mine"), (4, ChangeKind::Put, "mine")]
    );
}

#[tokio::test]
async fn a_position_that_is_gone_is_refused() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let terms = BoardUpdate {
        retention_seconds: Some(60),
        ..BoardUpdate::default()
    };
    rig.new_board("short", Level::Strong, terms).await;
    for value in ["1", "2", "3"] {
        rig.write(&session, "short", write("a", value))
            .await
            .unwrap();
    }
    sqlx::query(
        "UPDATE board_change SET occurred_at = now() - interval '2 minutes' WHERE revision <= 2",
    )
    .execute(rig.database.pool())
    .await
    .unwrap();
    assert_eq!(rig.app.blackboard.compact().await.unwrap(), 2);
    for (epoch, revision, good) in [
        (1, 1, false),
        (1, 2, true),
        (1, 3, true),
        (1, 4, false),
        (2, 3, false),
    ] {
        let at = Position { epoch, revision };
        let all = Filter::Prefix(String::new());
        let blackboard = &rig.app.blackboard;
        let began = blackboard.watch(who(&session), board("short"), all, Some(at));
        let began = began.await;
        match began {
            Ok(_) => assert!(good, "{at:?}"),
            Err(error) => assert_eq!((error.reason(), good), (Reason::Compacted, false), "{at:?}"),
        }
    }
    let read = rig.read(&session, "short", "a").await.unwrap();
    assert_eq!(read.entry.revision, 3, "what is in the key stays");
}

#[tokio::test]
async fn a_watch_goes_on_over_a_promotion_and_not_over_what_a_restore_has_undone() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let mut live = watch(&rig, None).await;
    for value in ["1", "2", "3"] {
        rig.write(&session, "strong", write("a", value))
            .await
            .unwrap();
    }
    next(&mut live, 3).await;
    // what a promotion looks like from inside: the timeline is not the one on record
    sqlx::query("UPDATE installation SET timeline = 0")
        .execute(rig.database.pool())
        .await
        .unwrap();
    let mut promoted = false;
    while !promoted {
        let message = tokio::time::timeout(DEADLINE, live.next()).await.unwrap();
        promoted = message.unwrap().position.epoch == 2;
    }
    rig.write(&session, "strong", write("a", "4"))
        .await
        .unwrap();
    assert_eq!(told(&next(&mut live, 1).await), [(4, ChangeKind::Put, "a")]);
    let old = Position {
        epoch: 1,
        revision: 2,
    };
    let mut again = watch(&rig, Some(old)).await;
    assert_eq!(next(&mut again, 2).await.len(), 2);

    // a restore: what it has kept cannot be told from what it has undone
    let url = rig.config.database.url.expose();
    let fenced = fence::in_place(url, &rig.app.ambient, AsOf::Unknown)
        .await
        .unwrap();
    let ended = async {
        loop {
            if let Err(error) = live.next().await {
                break error;
            }
        }
    };
    let ended = tokio::time::timeout(DEADLINE, ended).await.unwrap();
    assert_eq!(ended.reason(), Reason::Compacted);
    let session = rig.agent("after", 800).await;
    let blackboard = &rig.app.blackboard;
    for (epoch, revision) in [(1, 3), (2, 4), (2, 1)] {
        let undone = Position { epoch, revision };
        let all = Filter::Prefix(String::new());
        let refused = blackboard.watch(who(&session), board("strong"), all, Some(undone));
        let refused = refused.await.unwrap_err().reason();
        assert_eq!(refused, Reason::Compacted, "{undone:?}");
    }
    let mut anew = watch(&rig, None).await;
    rig.write(&session, "strong", write("a", "5"))
        .await
        .unwrap();
    let (position, _) = next(&mut anew, 1).await.remove(0);
    assert_eq!((position.epoch, position.revision), (fenced.epoch, 5));
}

#[tokio::test]
async fn a_watch_ends_with_the_right_to_it() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let all = Filter::Prefix(String::new());
    let blackboard = &rig.app.blackboard;
    let mut watch = blackboard
        .watch(who(&session), board("strong"), all, None)
        .await
        .unwrap();
    let update = BoardUpdate {
        readers: Some(vec!["scout".to_owned()]),
        writers: Some(vec!["scout".to_owned()]),
        ..BoardUpdate::default()
    };
    blackboard
        .update(crate::rig::admin(), board("strong"), update)
        .await
        .unwrap();
    let ended = async {
        loop {
            if let Err(error) = watch.next().await {
                break error;
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_mins(1), ended).await;
    assert_eq!(ended.unwrap().reason(), Reason::BoardNotFound);
}
