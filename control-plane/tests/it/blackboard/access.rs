//! Who may read and write.

use authguardian_proto::{
    board::Level,
    ids::{BoardName, ResourceTypeName},
    reason::Reason,
    zone::Zone,
};
use control_plane::{
    blackboard::{BoardUpdate, ReadFrom, Who},
    events::SuspensionTarget,
    grants::Ask,
    identity::Terms,
};
use std::sync::Arc;

use super::{board, key, who, write};
use crate::rig::{Rig, admin, ask};

fn only(agents: &[&str]) -> Vec<String> {
    agents.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_board_that_is_not_for_an_agent_is_not_there_for_it() {
    let rig = Rig::open().await;
    let (reader, writer) = (rig.analyst().await, rig.agent("scout", 800).await);
    let other = rig.agent("stranger", 800).await;
    let terms = BoardUpdate {
        readers: Some(only(&["data_analyst"])),
        writers: Some(only(&["scout"])),
        ..BoardUpdate::default()
    };
    rig.new_board("plans", Level::Strong, terms).await;
    rig.write(&writer, "plans", write("a", "1")).await.unwrap();
    rig.read(&reader, "plans", "a").await.unwrap();
    rig.read(&writer, "plans", "a").await.unwrap();
    let refused = rig.write(&reader, "plans", write("a", "2")).await;
    assert_eq!(refused.unwrap_err().reason(), Reason::PermissionDenied);
    for name in ["plans", "none"] {
        let read = rig.read(&other, name, "a").await.unwrap_err();
        let written = rig.write(&other, name, write("a", "2")).await.unwrap_err();
        assert_eq!(read.reason(), Reason::BoardNotFound);
        assert_eq!(written.reason(), Reason::BoardNotFound);
    }
    let seen = async |session| {
        let who = who(session);
        let boards = rig.app.blackboard.readable(&who, None, 10).await.unwrap();
        boards.len()
    };
    assert_eq!((seen(&reader).await, seen(&other).await), (4, 3));
}

#[tokio::test]
async fn the_first_agent_that_the_board_lets_acts_where_none_is_named() {
    let rig = Rig::open().await;
    let machine = rig.machine("host").await;
    let key_of_two = rig.api_key(&["alpha", "beta"], false).await;
    let session = rig.session(machine, &key_of_two).await;
    let terms = BoardUpdate {
        writers: Some(only(&["beta"])),
        readers: Some(only(&["beta"])),
        ..BoardUpdate::default()
    };
    rig.new_board("plans", Level::Strong, terms).await;
    rig.write(&session, "plans", write("a", "1")).await.unwrap();
    let entry = rig.read(&session, "plans", "a").await.unwrap().entry;
    assert_eq!(entry.writer, "agent:beta");
    rig.write(&session, "strong", write("a", "1"))
        .await
        .unwrap();
    let entry = rig.read(&session, "strong", "a").await.unwrap().entry;
    assert_eq!(entry.writer, "agent:alpha");
    let alpha = Who::agent(Arc::clone(&session), Some("alpha".parse().unwrap())).unwrap();
    let refused = rig
        .app
        .blackboard
        .get(alpha, board("plans"), key("a"), ReadFrom::default())
        .await;
    assert_eq!(refused.unwrap_err().reason(), Reason::BoardNotFound);
    let foreign = Who::agent(session, Some("gamma".parse().unwrap()));
    assert_eq!(foreign.unwrap_err().reason(), Reason::AgentMismatch);
}

#[tokio::test]
async fn a_board_that_requires_a_grant_lets_in_for_as_long_as_it_lives() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let terms = BoardUpdate {
        requires_grant: Some(true),
        ..BoardUpdate::default()
    };
    rig.new_board("plans", Level::Strong, terms).await;
    let name: BoardName = board("plans");
    let asked = |scope: &str| Ask {
        resource_type: ResourceTypeName::of_board(&name),
        scope: Some(scope.to_owned()),
        ..ask(&session)
    };
    let without = rig
        .write(&session, "plans", write("a", "1"))
        .await
        .unwrap_err();
    assert_eq!(without.reason(), Reason::PermissionDenied);
    assert!(
        without.problem().detail.contains("board:plans"),
        "{without}"
    );

    let to_read = rig.request(&session, asked("read")).await.unwrap();
    assert!(to_read.record.granted, "{to_read:?}");
    let only_read = rig.write(&session, "plans", write("a", "1")).await;
    assert_eq!(only_read.unwrap_err().reason(), Reason::PermissionDenied);
    let missing = rig.read(&session, "plans", "a").await.unwrap_err();
    assert_eq!(missing.reason(), Reason::KeyNotFound);

    let to_write = rig.request(&session, asked("write")).await.unwrap();
    assert!(to_write.record.granted, "{to_write:?}");
    rig.write(&session, "plans", write("a", "1")).await.unwrap();
    let entry = rig.read(&session, "plans", "a").await.unwrap().entry;
    assert_eq!(entry.grant_id, Some(to_write.record.id));

    for grant in [to_write.record.id, to_read.record.id] {
        rig.app
            .grants
            .revoke_one(admin(), grant, "done")
            .await
            .unwrap();
    }
    let ended = rig.read(&session, "plans", "a").await.unwrap_err();
    assert_eq!(ended.reason(), Reason::PermissionDenied);
}

#[tokio::test]
async fn trust_suspensions_zones_and_keys_count_at_each_call() {
    let rig = Rig::open().await;
    let (analyst, weak) = (rig.analyst().await, rig.agent("weak", 400).await);
    let terms = BoardUpdate {
        min_trust: Some(500),
        ..BoardUpdate::default()
    };
    rig.new_board("plans", Level::Strong, terms).await;
    rig.write(&analyst, "plans", write("a", "1")).await.unwrap();
    let refused = rig.read(&weak, "plans", "a").await.unwrap_err();
    assert_eq!(refused.reason(), Reason::TrustTooLow);

    let agent = SuspensionTarget::Agent("data_analyst".parse().unwrap());
    rig.app
        .grants
        .suspend(admin(), agent, "drill")
        .await
        .unwrap();
    let suspended = rig.write(&analyst, "strong", write("a", "1")).await;
    assert_eq!(suspended.unwrap_err().reason(), Reason::Suspended);
    let suspended = rig.read(&analyst, "strong", "a").await.unwrap_err();
    assert_eq!(suspended.reason(), Reason::Suspended);

    let outside = Terms {
        max_zone: Zone::External,
        ..Terms::default()
    };
    let machine = rig.machine_for("outside", outside).await;
    let far_key = rig.api_key(&["far"], false).await;
    let far = rig.session(machine, &far_key).await;
    let refused = rig
        .write(&far, "strong", write("a", "1"))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::ZoneForbids);
    let missing = rig.read(&far, "strong", "a").await.unwrap_err();
    assert_eq!(missing.reason(), Reason::KeyNotFound);

    rig.app
        .identity
        .revoke_api_key(admin(), far_key.id())
        .await
        .unwrap();
    let revoked = rig.read(&far, "strong", "a").await.unwrap_err();
    assert_eq!(revoked.reason(), Reason::ApiKeyRevoked);
}
