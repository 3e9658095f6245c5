//! What edges report for the audit log.

use authguardian_proto::{
    audit::v1::{self as pb, audit_service_client::AuditServiceClient},
    ids::{AgentId, ApiKeyId, MachineId},
    reason::Reason,
    status::from_status,
    zone::Zone,
};
use control_plane::{
    audit::{Actor, Context, Outcome, journal::Place},
    clock::Clock,
    identity::{Terms, report::ReportedCall},
};
use futures::future::join_all;
use uuid::Uuid;

use crate::{
    rig::{Rig, with_id},
    serving::Serving,
};

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
        "SELECT caller, subject, agent_id, count FROM audit_trail
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
        "SELECT occurred_at, peer_address, zone FROM audit_trail
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

/// A call of an agent that nobody has proved to be.
fn anonymous(agent: &str) -> ReportedCall {
    call(None, agent)
}

impl Rig {
    /// Tells of calls at a place of a machine's journal; the highest place that is written.
    async fn report_at(
        &self,
        machine: MachineId,
        (journal, sequence): (u128, i64),
        calls: &[ReportedCall],
    ) -> i64 {
        let place = Place {
            journal_id: Uuid::from_u128(journal),
            sequence,
        };
        let identity = &self.app.identity;
        let written = identity.report_journal(machine, place, calls).await;
        written.unwrap()
    }

    /// Of whom reported entries are, in the order of their arrival.
    async fn subjects(&self) -> Vec<String> {
        let entries = reported(self).await.into_iter();
        entries.map(|(_, subject, _, _)| subject).collect()
    }
}

#[tokio::test]
async fn a_batch_of_a_journal_is_written_once_and_its_repeats_are_told_how_far_it_is() {
    let rig = Rig::open().await;
    let machine = rig.machine("host").await;
    assert_eq!(rig.report_at(machine, (1, 1), &[anonymous("a")]).await, 1);
    // whatever a repeat says
    for agent in ["a", "b"] {
        assert_eq!(rig.report_at(machine, (1, 1), &[anonymous(agent)]).await, 1);
    }
    assert_eq!(rig.subjects().await, ["a"]);
    // numbers may be left out, and none comes later than a higher one
    assert_eq!(rig.report_at(machine, (1, 7), &[anonymous("b")]).await, 7);
    for sequence in [1, 2, 6, 7] {
        assert_eq!(
            rig.report_at(machine, (1, sequence), &[anonymous("c")])
                .await,
            7
        );
    }
    let most = (1, i64::MAX);
    assert_eq!(
        rig.report_at(machine, most, &[anonymous("d")]).await,
        i64::MAX
    );
    assert_eq!(rig.subjects().await, ["a", "b", "d"]);
    let when: time::OffsetDateTime =
        sqlx::query_scalar("SELECT occurred_at FROM audit_trail WHERE subject = 'a'")
            .fetch_one(rig.database.pool())
            .await
            .unwrap();
    assert_eq!(when, rig.clock.now() - time::Duration::seconds(2));
}

#[tokio::test]
async fn each_journal_of_each_machine_is_counted_by_itself() {
    let rig = Rig::open().await;
    let (one, other) = (rig.machine("one").await, rig.machine("other").await);
    assert_eq!(rig.report_at(one, (1, 5), &[anonymous("a")]).await, 5);
    // a machine that names the journal of another moves only its own
    assert_eq!(rig.report_at(other, (1, 9), &[anonymous("b")]).await, 9);
    assert_eq!(rig.report_at(one, (2, 1), &[anonymous("c")]).await, 1);
    assert_eq!(rig.report_at(one, (1, 6), &[anonymous("d")]).await, 6);
    assert_eq!(rig.report_at(one, (1, 5), &[anonymous("e")]).await, 6);
    assert_eq!(rig.report_at(other, (1, 9), &[anonymous("e")]).await, 9);
    assert_eq!(rig.subjects().await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn of_equal_batches_at_once_one_is_written() {
    let rig = Rig::open().await;
    let machine = rig.machine("host").await;
    for sequence in 1..=5 {
        let calls = [anonymous("a"), anonymous("b")];
        let told = join_all((0..8).map(|_| rig.report_at(machine, (1, sequence), &calls))).await;
        assert_eq!(told, [sequence; 8]);
    }
    assert_eq!(rig.subjects().await.len(), 10);
}

type Spoil = fn(&mut pb::ReportCallsRequest);

#[tokio::test]
async fn a_batch_that_is_refused_takes_no_place() {
    let serving = Serving::start().await;
    let edge = serving.join("host", Terms::default()).await;
    let mut client = AuditServiceClient::new(edge.channel.clone());
    let batch = pb::ReportCallsRequest {
        request_id: String::new(),
        calls: vec![pb::ReportedCall {
            action: "audit.witness".into(),
            outcome: "failed".into(),
            count: 1,
            ..Default::default()
        }],
        journal_id: Uuid::from_u128(1).to_string(),
        sequence: 3,
    };
    let spoilt: [(&str, Spoil); 7] = [
        ("request_id", |batch| batch.request_id = "r1".into()),
        ("journal_id", |batch| batch.journal_id = "journal".into()),
        ("sequence", |batch| batch.journal_id.clear()),
        ("journal_id", |batch| {
            batch.journal_id.clear();
            batch.sequence = 0;
        }),
        ("sequence", |batch| batch.sequence = 0),
        ("calls", |batch| batch.calls.clear()),
        ("action", |batch| {
            batch.calls[0].action = "grant.request".into();
        }),
    ];
    for (field, spoil) in spoilt {
        let mut batch = batch.clone();
        spoil(&mut batch);
        let refused = client.report_calls(batch).await.unwrap_err();
        let problem = from_status(&refused);
        assert_eq!(problem.reason, Reason::InvalidArgument);
        assert_eq!(problem.field.as_deref(), Some(field));
    }
    for _ in 0..2 {
        let told = client.report_calls(batch.clone()).await.unwrap();
        assert_eq!(told.into_inner().sequence, 3);
    }
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT count, machine_id::text FROM audit_trail WHERE action = 'audit.witness'",
    )
    .fetch_all(serving.rig.database.pool())
    .await
    .unwrap();
    assert_eq!(rows, [(1, edge.machine.as_uuid().to_string())]);

    // as an edge without a journal does
    let older = pb::ReportCallsRequest {
        request_id: "r1".into(),
        journal_id: String::new(),
        sequence: 0,
        ..batch
    };
    for _ in 0..2 {
        let told = client.report_calls(older.clone()).await.unwrap();
        assert_eq!(told.into_inner().sequence, 0);
    }
}
