//! What an edge has to know again after a restart, a break or a move to
//! another control plane.

use control_plane::{audit::Context, events::RevocationTarget};
use serde_json::json;

use super::held::{Held, becomes, is_fresh, verdict};
use crate::{
    edge::{Edge, Launch},
    rig::{ControlPlane, Rig},
    wait::{until, until_async},
};

const LISTS: &str = "events.v1.EventService/ListRevocations";
const WATCHES: &str = "events.v1.EventService/Watch";
const PINGS: &str = "events.v1.EventService/GetHeads";
const VALIDATIONS: &str = "grants.v1.GrantService/ValidateToken";

#[tokio::test]
async fn a_killed_edge_knows_what_was_revoked_before_its_start() {
    let rig = Rig::start().await;
    let key = ["data_analyst", "orchestrator"];
    let key = rig.control_plane.api_key(&key, false).await;
    let client = rig.edge.client(&key);
    let of = async |agent| Held::of(&client, agent, "SAP_API").await;
    let before = [of("data_analyst").await, of("data_analyst").await];
    let while_it_was_dead = of("data_analyst").await;
    let matching = of("orchestrator").await;
    let token = json!({"token": before[0].token});
    client.call("revoke_token", token).await;
    let killed = rig.edge.kill().await;
    for held in [&before[1], &while_it_was_dead] {
        revoke(&rig.control_plane, held).await;
    }
    revoke_all_of(&rig.control_plane, "orchestrator").await;
    let edge = killed.run_again().await;
    let client = edge.client(&key);
    for held in before.iter().chain([&while_it_was_dead, &matching]) {
        assert_eq!(verdict(&held.validate(&client).await), "GRANT_REVOKED");
    }
    let live = Held::of(&client, "orchestrator", "SAP_API").await;
    assert_eq!(verdict(&live.validate(&client).await), "valid");
    assert_eq!(
        rig.control_plane.calls(VALIDATIONS),
        0,
        "the edge has asked"
    );
}

#[tokio::test]
async fn a_key_that_was_revoked_while_its_edge_was_cut_off_is_refused_after_it() {
    let rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .api_key_with_id(&["data_analyst"], false)
        .await;
    let client = rig.edge.client(&key);
    let held = Held::of(&client, "data_analyst", "SAP_API").await;
    assert_eq!(verdict(&held.validate(&client).await), "valid");
    let elsewhere = rig.control_plane.beside().await;
    let cut_off = rig.control_plane.stop().await;
    elsewhere.revoke_api_key(id).await;
    let _control_plane = cut_off.start().await;
    until_async("the key is refused", async || {
        let (_, body) = client.try_call("validate_token", held.question()).await;
        body["reason"] == "API_KEY_REVOKED"
    })
    .await;
    let again = client.refusal("validate_token", held.question()).await;
    assert_eq!(again, "API_KEY_REVOKED");
}

#[tokio::test]
async fn an_edge_that_missed_too_much_lists_again_and_forgets_no_revocation() {
    let rig = Rig::start().await;
    let key = ["data_analyst", "orchestrator"];
    let key = rig.control_plane.api_key(&key, false).await;
    let client = rig.edge.client(&key);
    let of = async |agent| Held::of(&client, agent, "SAP_API").await;
    let (earlier, meanwhile) = (of("data_analyst").await, of("data_analyst").await);
    let matching = of("orchestrator").await;
    client
        .call("revoke_token", json!({"token": earlier.token}))
        .await;
    assert_eq!(rig.control_plane.calls(LISTS), 1);

    let elsewhere = rig.control_plane.beside().await;
    let cut_off = rig.control_plane.stop().await;
    revoke(&elsewhere, &meanwhile).await;
    revoke_all_of(&elsewhere, "orchestrator").await;
    elsewhere.forget_changes().await;
    let control_plane = cut_off.start().await;
    until("the edge has listed again", || {
        control_plane.calls(LISTS) > 0
    })
    .await;
    for held in [&earlier, &meanwhile, &matching] {
        becomes(&client, held, "GRANT_REVOKED").await;
    }
    let live = of("orchestrator").await;
    becomes(&client, &live, "valid").await;
    assert_eq!(control_plane.calls(LISTS), 1);
}

#[tokio::test]
async fn a_restarted_control_plane_is_followed_from_where_it_was() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    let ended = Held::of(&client, "data_analyst", "SAP_API").await;
    let control_plane = rig.control_plane.restart().await;
    until("the edge follows and proves", || {
        control_plane.calls(WATCHES) > 0 && control_plane.calls(PINGS) > 0
    })
    .await;
    revoke_all_of(&control_plane, "data_analyst").await;
    becomes(&client, &ended, "GRANT_REVOKED").await;
    let live = Held::of(&client, "data_analyst", "SAP_API").await;
    becomes(&client, &live, "valid").await;
    assert_eq!(control_plane.calls(LISTS), 0, "it has listed again");
}

#[tokio::test]
async fn an_edge_goes_on_with_the_second_control_plane_when_the_first_has_gone() {
    let first = ControlPlane::start().await;
    let second = first.beside().await;
    first.agent("data_analyst", 800).await;
    let key = first.api_key(&["data_analyst"], false).await;
    let launch = Launch::at(&[first.url(), second.url()]);
    let edge = Edge::start_with(&first, "host", launch).await;
    let client = edge.client(&key);
    let held = Held::of(&client, "data_analyst", "SAP_API").await;
    assert_eq!(second.calls(PINGS), 0, "the first is tried first");

    let _stopped = first.stop().await;
    until("the second is asked", || second.calls(PINGS) > 0).await;
    is_fresh(&edge).await;
    assert_eq!(verdict(&held.validate(&client).await), "valid");
    let strong = client.call("validate_token", held.strong_question()).await;
    assert_eq!(verdict(&strong), "valid");
    revoke_all_of(&second, "data_analyst").await;
    becomes(&client, &held, "GRANT_REVOKED").await;
    assert_eq!(second.calls(LISTS), 0, "it has listed again");
}

async fn revoke(control_plane: &ControlPlane, held: &Held) {
    let id = held.grant_id.parse().unwrap();
    let grants = &control_plane.app.grants;
    grants.revoke_one(Context::system(), id, "").await.unwrap();
}

async fn revoke_all_of(control_plane: &ControlPlane, agent: &str) {
    let target = RevocationTarget::Agent(agent.parse().unwrap());
    let grants = &control_plane.app.grants;
    let revoked = grants.revoke_matching(Context::system(), target, "");
    revoked.await.unwrap();
}
