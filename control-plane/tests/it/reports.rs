//! What edges report for the audit log.

use authguardian_proto::{
    ids::{AgentId, ApiKeyId, MachineId},
    reason::Reason,
    zone::Zone,
};
use control_plane::{
    audit::{Actor, Context, Outcome},
    clock::Clock,
    identity::report::ReportedCall,
};

use crate::rig::{Rig, with_id};

fn call(key: Option<ApiKeyId>, agent: &str) -> ReportedCall {
    ReportedCall {
        action: "tool.request_permission".to_owned(),
        outcome: Outcome::Refused,
        reason: Some(Reason::RateLimited),
        api_key_id: key,
        claimed: None,
        agent_id: Some(agent.parse::<AgentId>().unwrap()),
        zone: Some(Zone::External),
        client: Some([192, 0, 2, 7].into()),
        count: 3,
        age: time::Duration::seconds(2),
    }
}

fn from(machine: MachineId) -> Context {
    Context {
        actor: Actor::Machine(machine),
        machine_id: Some(machine),
        ..Context::system()
    }
}

/// Caller, subject, whose affair, and count of the reported entries.
async fn reported(rig: &Rig) -> Vec<(String, String, Option<String>, i64)> {
    sqlx::query_as(
        "SELECT caller, subject, agent_id, count FROM audit_entry
         WHERE action = 'tool.request_permission' ORDER BY sequence",
    )
    .fetch_all(rig.database.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_report_is_written_once_however_often_it_is_sent() {
    let rig = Rig::open().await;
    let machine = rig.machine("host").await;
    let context = with_id(from(machine), "batch-1");
    let key = rig.api_key(&["data_analyst"], false).await.id();
    let calls = [call(Some(key), "data_analyst")];
    let identity = &rig.app.identity;
    let report = async |calls: &[ReportedCall]| {
        let reported = identity.report_calls(context.clone(), machine, calls);
        reported.await.map_err(|error| error.reason())
    };
    assert_eq!(report(&calls).await, Ok(()));
    let mut later = calls.clone();
    later[0].age = time::Duration::seconds(40);
    assert_eq!(report(&later).await, Ok(()), "it is the same report");
    let other = [call(Some(key), "orchestrator")];
    assert_eq!(report(&other).await, Err(Reason::RequestIdReused));

    let caller = "agent:data_analyst".to_owned();
    let agent = "data_analyst".to_owned();
    assert_eq!(
        reported(&rig).await,
        [(caller, agent.clone(), Some(agent), 3)]
    );
    let seen: (time::OffsetDateTime, String, String) = sqlx::query_as(
        "SELECT occurred_at, peer_address, zone FROM audit_entry
         WHERE action = 'tool.request_permission'",
    )
    .fetch_one(rig.database.pool())
    .await
    .unwrap();
    assert_eq!(seen.0, rig.clock.now() - time::Duration::seconds(2));
    assert_eq!(
        (seen.1.as_str(), seen.2.as_str()),
        ("192.0.2.7", "external")
    );
}

#[tokio::test]
async fn a_machine_is_not_believed_that_a_key_acted_for_a_foreign_agent() {
    let rig = Rig::open().await;
    let machine = rig.machine("host").await;
    let key = rig.api_key(&["data_analyst"], false).await.id();
    let unknown = "apk_0000000000000000000001".parse().unwrap();
    let calls = [
        call(Some(key), "orchestrator"),
        call(Some(unknown), "orchestrator"),
        call(None, "orchestrator"),
    ];
    rig.app
        .identity
        .report_calls(from(machine), machine, &calls)
        .await
        .unwrap();
    let subject = || "orchestrator".to_owned();
    assert_eq!(
        reported(&rig).await,
        [
            (format!("api_key:{key}"), subject(), None, 3),
            ("anonymous".to_owned(), subject(), None, 3),
            ("anonymous".to_owned(), subject(), None, 3),
        ]
    );
}
