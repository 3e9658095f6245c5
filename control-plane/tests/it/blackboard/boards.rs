//! Making boards.

use authguardian_proto::{board::Level, reason::Reason};
use control_plane::blackboard::{BoardUpdate, NewBoard};

use super::{board, write};
use crate::rig::{Rig, admin};

#[tokio::test]
async fn three_are_built_in_and_operators_add_more() {
    let rig = Rig::open().await;
    rig.new_board("plans", Level::Strong, BoardUpdate::default())
        .await;
    let all = rig.app.blackboard.boards(None, 10).await.unwrap();
    let all: Vec<_> = all
        .iter()
        .map(|board| (board.name.as_str(), board.level))
        .collect();
    assert_eq!(
        all,
        [
            ("eventual", Level::Eventual),
            ("plans", Level::Strong),
            ("session", Level::Session),
            ("strong", Level::Strong)
        ]
    );
    let new = NewBoard {
        name: board("plans"),
        level: Level::Session,
        terms: BoardUpdate::default(),
    };
    let twice = rig.app.blackboard.create(admin(), new).await.unwrap_err();
    assert_eq!(twice.reason(), Reason::RevisionConflict);
    assert_eq!(twice.problem().field.as_deref(), Some("board.name"));
}

#[tokio::test]
async fn what_is_said_of_a_board_counts_from_then_on() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    rig.write(&session, "strong", write("a", "1"))
        .await
        .unwrap();
    let update = BoardUpdate {
        writers: Some(vec!["scout".to_owned()]),
        default_ttl_seconds: Some(600),
        ..BoardUpdate::default()
    };
    let updated = rig
        .app
        .blackboard
        .update(admin(), board("strong"), update)
        .await;
    let updated = updated.unwrap();
    assert_eq!((updated.keys, updated.terms.default_ttl_seconds), (1, 600));
    let refused = rig.write(&session, "strong", write("a", "2")).await;
    assert_eq!(refused.unwrap_err().reason(), Reason::PermissionDenied);
    let scout = rig.agent("scout", 300).await;
    rig.write(&scout, "strong", write("b", "1")).await.unwrap();
    let entry = rig.read(&session, "strong", "b").await.unwrap().entry;
    assert!(entry.expires_at.is_some());
    let unknown = rig
        .app
        .blackboard
        .update(admin(), board("none"), BoardUpdate::default())
        .await;
    assert_eq!(unknown.unwrap_err().reason(), Reason::BoardNotFound);
}
