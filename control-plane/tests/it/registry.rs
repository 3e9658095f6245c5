//! Agents, as they are kept.

use std::time::Duration;

use authguardian_proto::{ids::AgentId, reason::Reason};
use control_plane::{
    events::Stream,
    registry::{Agent, Agents, PutAgent, agent_changed, delete_in, lock_agents},
};

use crate::{
    grants::refusal,
    records::{fault, problem, request},
    rig::Rig,
};

async fn open() -> (Rig, Agents) {
    let rig = Rig::open().await;
    let agents = rig.app.agents.clone();
    (rig, agents)
}

fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

fn analyst(trust: u32) -> PutAgent {
    PutAgent {
        id: id("data_analyst"),
        trust,
        description: "Reads figures".into(),
    }
}

#[tokio::test]
async fn an_agent_is_created_and_replaced() {
    let (rig, agents) = open().await;
    let created = agents.put(request("a"), analyst(800)).await.unwrap();
    assert_eq!(
        (created.trust, created.created_at),
        (800, created.updated_at)
    );
    rig.clock.advance(Duration::from_mins(1));
    let replaced = agents.put(request("b"), analyst(700)).await.unwrap();
    assert_eq!(
        replaced,
        Agent {
            trust: 700,
            updated_at: created.updated_at + Duration::from_mins(1),
            ..created.clone()
        }
    );
    assert_eq!(agents.get(&created.id).await.unwrap(), replaced);
    assert_eq!(agents.count().await.unwrap(), 1);
    // a late repeat of the first put is told its outcome, and undoes nothing
    assert_eq!(
        agents.put(request("a"), analyst(800)).await.unwrap(),
        created
    );
    assert_eq!(agents.get(&created.id).await.unwrap(), replaced);
    assert_eq!(
        problem(agents.put(request("a"), analyst(1)).await).reason,
        Reason::RequestIdReused
    );
    assert_eq!(
        rig.audited().await[1..],
        ["agent.put data_analyst ok", "agent.put data_analyst ok"]
    );
    assert_eq!(rig.revision(Stream::Registry).await, 2);
}

#[tokio::test]
async fn a_change_of_an_agent_is_shown_to_that_agent() {
    let (rig, agents) = open().await;
    agents.put(request("a"), analyst(800)).await.unwrap();
    let seen = rig.about_agents(&[id("data_analyst")]).await;
    assert_eq!(
        seen.iter()
            .map(|entry| entry.action.as_str())
            .collect::<Vec<_>>(),
        ["agent.put"]
    );
    assert!(rig.about_agents(&[id("other")]).await.is_empty());
}

#[tokio::test]
async fn a_malformed_agent_names_its_field() {
    let (rig, agents) = open().await;
    let cases = [
        (analyst(1001), "trust"),
        (
            PutAgent {
                description: "x".repeat(501),
                ..analyst(1)
            },
            "description",
        ),
        (
            PutAgent {
                description: "\0".into(),
                ..analyst(1)
            },
            "description",
        ),
    ];
    for (malformed, field) in cases {
        let refused = fault(agents.put(request("a"), malformed).await);
        assert_eq!(refused, ("INVALID_ARGUMENT".into(), field.into()));
    }
    assert_eq!(rig.revision(Stream::Registry).await, 0);
}

#[tokio::test]
async fn an_unknown_agent_is_told() {
    let (rig, agents) = open().await;
    let unknown = ("UNKNOWN_AGENT".to_owned(), "agent_id".to_owned());
    assert_eq!(fault(agents.get(&id("nobody")).await), unknown);
    let mut tx = rig.app.db.begin().await.unwrap();
    let now = rig.app.ambient.clock.now();
    assert_eq!(
        fault(delete_in(&mut tx, now, request("a"), &id("nobody")).await),
        unknown
    );
}

#[tokio::test]
async fn agents_are_listed_by_id_after_an_id() {
    let (_rig, agents) = open().await;
    for (request_id, name) in [("1", "b"), ("2", "a"), ("3", "c")] {
        agents
            .put(
                request(request_id),
                PutAgent {
                    id: id(name),
                    ..analyst(500)
                },
            )
            .await
            .unwrap();
    }
    let ids = |page: Vec<Agent>| {
        page.into_iter()
            .map(|agent| agent.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(agents.list(None, 2).await.unwrap()), ["a", "b"]);
    assert_eq!(ids(agents.list(Some(&id("b")), 2).await.unwrap()), ["c"]);
}

#[tokio::test]
async fn an_agent_that_a_decision_rests_on_is_not_deleted_before_it_is_committed() {
    let (rig, agents) = open().await;
    agents.put(request("a"), analyst(800)).await.unwrap();
    let mut decision = rig.app.db.begin().await.unwrap();
    let locked = lock_agents(&mut decision, &[id("unknown"), id("data_analyst")])
        .await
        .unwrap();
    assert_eq!(
        locked
            .iter()
            .map(|agent| (agent.id.as_str(), agent.trust))
            .collect::<Vec<_>>(),
        [("data_analyst", 800)]
    );
    let deleting = tokio::spawn({
        let (db, now) = (rig.app.db.clone(), rig.app.ambient.clock.now());
        async move {
            let mut tx = db.begin().await?;
            let change = delete_in(&mut tx, now, request("b"), &id("data_analyst")).await?;
            agent_changed(&mut tx, now, &change).await?;
            db.commit(tx).await
        }
    });
    rig.until_somebody_waits_for_a_lock().await;
    agents.get(&id("data_analyst")).await.unwrap();
    rig.app.db.commit(decision).await.unwrap();
    deleting.await.unwrap().unwrap();
    assert_eq!(
        problem(agents.get(&id("data_analyst")).await).reason,
        Reason::UnknownAgent
    );
}

#[tokio::test]
async fn deleting_an_agent_ends_its_grants_in_the_same_transaction() {
    let (rig, agents) = open().await;
    let session = rig.analyst().await;
    let granted = rig.granted(&session).await;
    let grants = &rig.app.grants;
    grants
        .delete_agent(request("b"), id("data_analyst"))
        .await
        .unwrap();
    grants
        .delete_agent(request("b"), id("data_analyst"))
        .await
        .expect("a repeat gets the first outcome");
    let unknown = ("UNKNOWN_AGENT".to_owned(), "agent_id".to_owned());
    assert_eq!(
        fault(grants.delete_agent(request("c"), id("data_analyst")).await),
        unknown
    );
    assert_eq!(fault(agents.get(&id("data_analyst")).await), unknown);
    assert_eq!(
        refusal(&rig, &session, &granted).await,
        Some(Reason::GrantRevoked)
    );
    assert_eq!(
        (
            rig.revision(Stream::Grants).await,
            rig.revision(Stream::Registry).await
        ),
        (2, 2)
    );
    let audited = rig.audited().await;
    assert_eq!(
        audited[audited.len() - 2..],
        [
            "agent.delete data_analyst ok",
            "grant.revoke_matching agent:data_analyst ok"
        ]
    );
    let denied = rig.granted(&session).await;
    assert_eq!(denied.record.reasons, ["TRUST_TOO_LOW"]);
}
