//! An edge that stands still for longer than the bound on staleness, with calls
//! under way on connections that carry many.

use std::time::Duration;

use control_plane::{audit::Context, events::RevocationTarget};
use serde_json::json;
use tokio::time::Instant;

use super::speaker::{Face, Speaker};
use crate::{rig::Rig, validation::BOUND, wait::until};

/// Connections of each face.
const CONNECTIONS: usize = 8;
/// Calls under way on each.
const CALLS: usize = 32;

#[tokio::test]
async fn no_answer_from_before_a_pause_is_sent_after_it_on_any_long_connection() {
    let rig = Rig::start().await;
    let (_, token) = rig.edge.client(&rig.api_key).granted().await;
    let asked = json!({"name": "validate_token", "arguments": {
        "token": token, "agent_id": "data_analyst", "resource_type": "SAP_API",
    }});
    let mut speakers = Vec::new();
    for face in [Face::Sse, Face::WebSocket] {
        for _ in 0..CONNECTIONS {
            let mut speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
            let answer = speaker.request("tools/call", asked.clone()).await;
            let valid = &answer["result"]["structuredContent"]["valid"];
            assert_eq!(valid, true, "{face:?}: {answer}");
            speakers.push((face, speaker));
        }
    }
    for _ in 0..CALLS {
        for (_, speaker) in &mut speakers {
            speaker.ask("tools/call", asked.clone()).await;
        }
    }
    rig.edge.pause();
    let paused_at = Instant::now();
    let analyst = RevocationTarget::Agent("data_analyst".parse().unwrap());
    let grants = &rig.control_plane.app.grants;
    let revoked = grants.revoke_matching(Context::system(), analyst, "");
    revoked.await.unwrap();
    until("the pause is longer than the bound", || {
        paused_at.elapsed() > BOUND + Duration::from_millis(500)
    })
    .await;
    let drained = speakers
        .iter_mut()
        .map(|(_, speaker)| speaker.drain().len());
    let before: Vec<usize> = drained.collect();
    rig.edge.resume();
    let (mut after, mut cut_off) = (0, 0);
    for ((face, speaker), before) in speakers.iter_mut().zip(&before) {
        for _ in *before..CALLS {
            let Some(answer) = speaker.any().await else {
                cut_off += 1;
                break;
            };
            let valid = &answer["result"]["structuredContent"]["valid"];
            assert_ne!(valid, true, "{face:?}: {answer}");
            after += 1;
        }
    }
    let before: usize = before.iter().sum();
    eprintln!("{before} answers before the pause, {after} after it, {cut_off} connections cut off");
    assert!(
        after + cut_off > 0,
        "everything was answered before the pause"
    );
}
