//! Leases: who is live, suspect or gone, by server time and by nothing else.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{ids::MachineId, liveness::Liveness, reason::Reason};
use control_plane::{
    error::Result,
    identity::{Session, membership::Expulsion},
    registry::{Heard, Heartbeat, Registration, Said},
};

use crate::{
    records::{problem, request},
    registrations::{able, plain},
    rig::{Rig, admin, caller},
};

use Liveness::{Gone, Live, Suspect};

/// An edge process that holds its machine's lease, as far as it knows.
pub(crate) struct Edge {
    pub(crate) machine: MachineId,
    pub(crate) incarnation: i64,
    pub(crate) sequence: i64,
}

impl Edge {
    pub(crate) async fn begin(rig: &Rig, machine: MachineId) -> Self {
        let begun = rig.app.registry.begin_edge(machine, None).await.unwrap();
        Self {
            machine,
            incarnation: begun.incarnation,
            sequence: 0,
        }
    }

    /// The next heartbeat.
    pub(crate) async fn beat(&mut self, rig: &Rig) -> Result<Heard> {
        self.say(rig, Vec::new(), false).await
    }

    async fn say(&mut self, rig: &Rig, agents: Vec<Said>, complete: bool) -> Result<Heard> {
        self.sequence += 1;
        let heartbeat = Heartbeat {
            machine: self.machine,
            incarnation: self.incarnation,
            sequence: self.sequence,
            peer_address: None,
            agents,
            complete,
        };
        rig.app.registry.heartbeat(heartbeat).await
    }
}

fn said(registration: &Registration, liveness: Liveness) -> Said {
    Said {
        agent_id: registration.agent_id.clone(),
        epoch: registration.epoch,
        liveness,
        wants_record: false,
    }
}

/// Time passes second by second, and edges are judged at each.
async fn pass(rig: &Rig, seconds: u64) {
    for _ in 0..seconds {
        rig.clock.advance(Duration::from_secs(1));
        rig.app.registry.sweep().await.unwrap();
    }
}

async fn liveness(rig: &Rig, agent: &str) -> Liveness {
    rig.registration(agent).await.liveness
}

/// The analyst, registered through an edge that holds its lease.
async fn registered() -> (Rig, Arc<Session>, Edge, Registration) {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let edge = Edge::begin(&rig, session.machine).await;
    let new = able("data_analyst", &["mail"]);
    let registered = rig.register(&session, new).await.unwrap();
    pass(&rig, 1).await;
    (rig, session, edge, registered.registration)
}

#[tokio::test]
async fn only_the_process_that_began_last_is_heard_and_only_in_order() {
    let rig = Rig::open().await;
    let machine = rig.machine("host").await;
    let refused = |result: Result<Heard>| problem(result).reason;
    let mut nobody = Edge {
        machine,
        incarnation: 1,
        sequence: 0,
    };
    assert_eq!(refused(nobody.beat(&rig).await), Reason::LeaseExpired);

    let mut first = Edge::begin(&rig, machine).await;
    first.beat(&rig).await.unwrap();
    first.sequence = 7;
    first.beat(&rig).await.unwrap();
    for earlier in [6, 0] {
        first.sequence = earlier;
        assert_eq!(refused(first.beat(&rig).await), Reason::RevisionConflict);
    }
    let mut second = Edge::begin(&rig, machine).await;
    first.sequence = 100;
    assert_eq!(refused(first.beat(&rig).await), Reason::LeaseExpired);
    second.beat(&rig).await.unwrap();

    // a machine speaks for itself alone
    let other = rig.machine("other").await;
    second.machine = other;
    assert_eq!(refused(second.beat(&rig).await), Reason::LeaseExpired);
}

#[tokio::test]
async fn heartbeats_of_one_batch_are_taken_in_their_order() {
    let rig = Rig::open().await;
    let mut machines = Vec::new();
    for n in 0..20 {
        let machine = rig.machine(&format!("host-{n}")).await;
        machines.push(Edge::begin(&rig, machine).await);
    }
    let of = |edge: &Edge, sequence| Heartbeat {
        machine: edge.machine,
        incarnation: edge.incarnation,
        sequence,
        peer_address: None,
        agents: Vec::new(),
        complete: false,
    };
    let calls = [1, 2, 2, 3]
        .into_iter()
        .flat_map(|sequence| machines.iter().map(move |edge| (edge, sequence)))
        .map(|(edge, sequence)| rig.app.registry.heartbeat(of(edge, sequence)));
    let outcomes = futures::future::join_all(calls).await;
    let refused: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 20);
    for error in refused {
        assert_eq!(error.reason(), Reason::RevisionConflict);
    }
}

#[tokio::test]
async fn an_edge_that_is_not_heard_is_suspect_after_15_seconds_and_gone_after_60() {
    let (rig, _, mut edge, _) = registered().await;
    for _ in 0..4 {
        pass(&rig, 5).await;
        edge.beat(&rig).await.unwrap();
    }
    let last = rig.app.ambient.clock.now();
    pass(&rig, 14).await;
    assert_eq!(liveness(&rig, "data_analyst").await, Live);
    pass(&rig, 1).await;
    assert_eq!(liveness(&rig, "data_analyst").await, Suspect);
    pass(&rig, 44).await;
    assert_eq!(liveness(&rig, "data_analyst").await, Suspect);
    pass(&rig, 1).await;
    let gone = rig.registration("data_analyst").await;
    assert_eq!((gone.liveness, gone.last_seen), (Gone, last));

    // heard again, it is what its edge last said of it
    edge.beat(&rig).await.unwrap();
    assert_eq!(liveness(&rig, "data_analyst").await, Live);
    let told = rig.told_of_agents().await;
    assert_eq!(
        told[2..],
        [
            "suspect data_analyst",
            "gone data_analyst",
            "live data_analyst"
        ]
    );
}

#[tokio::test]
async fn a_gone_agent_may_be_taken_and_does_not_come_back_by_a_late_heartbeat() {
    let (rig, owner, mut edge, first) = registered().await;
    let (_, other) = rig.another(&owner, "elsewhere").await;
    pass(&rig, 20).await;
    assert_eq!(liveness(&rig, "data_analyst").await, Suspect);
    let refused = problem(rig.register(&other, plain("data_analyst")).await);
    assert_eq!(refused.reason, Reason::AgentMismatch);
    assert!(
        refused.detail.contains("39 more seconds"),
        "{}",
        refused.detail
    );
    pass(&rig, 45).await;
    let taken = rig.register(&other, plain("data_analyst")).await.unwrap();
    assert!(taken.registration.epoch > first.epoch);

    let heard = edge
        .say(&rig, vec![said(&first, Live)], true)
        .await
        .unwrap();
    assert_eq!(heard.ended, owner.agents);
    let now = rig.registration("data_analyst").await;
    assert_eq!(now.machine_id, other.machine);
    // nor does an edge that claims the epoch of another machine's registration say anything
    let claim = vec![said(&taken.registration, Gone)];
    let heard = edge.say(&rig, claim, false).await.unwrap();
    assert_eq!(heard.ended, owner.agents);
    assert_eq!(liveness(&rig, "data_analyst").await, Live);
    let refused = problem(rig.register(&owner, plain("data_analyst")).await);
    assert_eq!(refused.reason, Reason::AgentMismatch);
}

#[tokio::test]
async fn a_deregistered_agent_does_not_come_back_and_a_new_registration_is_another() {
    let (rig, session, mut edge, first) = registered().await;
    let agent = session.agents[0].clone();
    let registry = &rig.app.registry;
    registry
        .deregister(caller(&session), Arc::clone(&session), agent.clone())
        .await
        .unwrap();
    let heard = edge
        .say(&rig, vec![said(&first, Live)], false)
        .await
        .unwrap();
    assert_eq!(heard.ended, session.agents);
    assert_eq!(
        problem(registry.get(&agent).await).reason,
        Reason::UnknownAgent
    );
    let again = rig
        .register(&session, able("data_analyst", &["mail"]))
        .await
        .unwrap();
    // what was said of the first is not said of this
    let heard = edge
        .say(&rig, vec![said(&first, Gone)], false)
        .await
        .unwrap();
    assert_eq!(heard.ended, [agent]);
    assert_eq!(rig.registration("data_analyst").await, again.registration);
}

#[tokio::test]
async fn an_edge_says_what_its_agents_are_and_what_it_does_not_name_is_gone() {
    let (rig, session, mut edge, analyst) = registered().await;
    let key = rig.api_key(&["scout"], false).await;
    let scout = rig.session(session.machine, &key).await;
    let scout = rig.register(&scout, plain("scout")).await.unwrap();
    let scout = scout.registration;
    pass(&rig, 3).await;
    edge.say(&rig, vec![said(&analyst, Suspect)], false)
        .await
        .unwrap();
    let seen = rig.registration("data_analyst").await;
    assert_eq!(seen.liveness, Suspect);
    assert_eq!(liveness(&rig, "scout").await, Live);
    pass(&rig, 1).await;
    edge.beat(&rig).await.unwrap();
    let later = rig.registration("data_analyst").await;
    assert_eq!(later.last_seen, seen.last_seen, "nobody vouches for it");
    edge.say(&rig, vec![said(&analyst, Live)], false)
        .await
        .unwrap();
    assert_eq!(liveness(&rig, "data_analyst").await, Live);

    // one that has registered just now may not be named yet
    let all = || vec![said(&analyst, Live)];
    edge.say(&rig, all(), true).await.unwrap();
    assert_eq!(liveness(&rig, "scout").await, Live);
    pass(&rig, 10).await;
    edge.say(&rig, all(), true).await.unwrap();
    assert_eq!(liveness(&rig, "scout").await, Gone);
    assert_eq!(liveness(&rig, "data_analyst").await, Live);
    // the lease is still its own: its edge may find it alive
    edge.say(&rig, vec![said(&scout, Live)], false)
        .await
        .unwrap();
    assert_eq!(liveness(&rig, "scout").await, Live);
}

#[tokio::test]
async fn a_record_is_given_where_it_is_wanted_with_the_address_of_now() {
    let (rig, _, mut edge, analyst) = registered().await;
    edge.sequence += 1;
    let heartbeat = Heartbeat {
        machine: edge.machine,
        incarnation: edge.incarnation,
        sequence: edge.sequence,
        peer_address: Some("edge-7:3005".parse().unwrap()),
        agents: vec![Said {
            wants_record: true,
            ..said(&analyst, Live)
        }],
        complete: true,
    };
    let heard = rig.app.registry.heartbeat(heartbeat).await.unwrap();
    assert_eq!(heard.wanted.len(), 1);
    let record = rig.app.registry.sign(&heard.wanted[0]).unwrap();
    let now = rig.app.ambient.clock.now().unix_timestamp();
    let keyring = rig.app.identity.keyring();
    let read = authguardian_proto::agent_record::verify(&record, keyring.grant_keys(), now);
    assert_eq!(read.unwrap().peer_address.as_deref(), Some("edge-7:3005"));
}

#[tokio::test]
async fn a_new_process_is_told_the_agents_of_its_machine() {
    let (rig, session, mut edge, analyst) = registered().await;
    let begun = rig
        .app
        .registry
        .begin_edge(session.machine, None)
        .await
        .unwrap();
    let told = begun.agents.iter();
    let told: Vec<_> = told.map(|agent| (&agent.agent_id, agent.epoch)).collect();
    assert_eq!(told, [(&analyst.agent_id, analyst.epoch)]);
    assert_eq!(problem(edge.beat(&rig).await).reason, Reason::LeaseExpired);
}

#[tokio::test]
async fn agents_of_a_revoked_key_or_an_evicted_machine_are_gone_for_good() {
    let (rig, session, mut edge, analyst) = registered().await;
    let revoke = rig.app.identity.revoke_api_key(admin(), session.api_key_id);
    revoke.await.unwrap();
    pass(&rig, 1).await;
    assert_eq!(liveness(&rig, "data_analyst").await, Gone);
    let heard = edge
        .say(&rig, vec![said(&analyst, Live)], true)
        .await
        .unwrap();
    assert_eq!(heard.ended, session.agents);
    assert_eq!(liveness(&rig, "data_analyst").await, Gone);
    assert_eq!(
        rig.told_of_agents().await.last().unwrap(),
        "gone data_analyst"
    );

    let scout = rig.agent("scout", 500).await;
    rig.register(&scout, plain("scout")).await.unwrap();
    let machine = scout.machine.to_string().parse().unwrap();
    let evict = rig
        .app
        .grants
        .expel_machine(admin(), &machine, Expulsion::Evict, "");
    evict.await.unwrap();
    pass(&rig, 1).await;
    let evicted = rig.registration("scout").await;
    assert_eq!((evicted.liveness, evicted.ended), (Gone, true));
}

#[tokio::test]
async fn agents_of_a_banned_machine_are_gone_until_it_is_heard_again() {
    let (rig, session, mut edge, _) = registered().await;
    let machine = session.machine.to_string().parse().unwrap();
    let ban = rig
        .app
        .grants
        .expel_machine(admin(), &machine, Expulsion::Ban, "");
    ban.await.unwrap();
    pass(&rig, 1).await;
    assert_eq!(liveness(&rig, "data_analyst").await, Gone);
    let unban = rig.app.identity.unban_machine(admin(), &machine);
    unban.await.unwrap();
    edge.beat(&rig).await.unwrap();
    assert_eq!(liveness(&rig, "data_analyst").await, Live);
}

#[tokio::test]
async fn after_a_restart_of_the_control_plane_nobody_is_judged_by_what_it_could_not_hear() {
    let (rig, _, mut edge, _) = registered().await;
    rig.app.stop.cancel();
    rig.clock.advance(Duration::from_mins(10));
    let restarted = rig.beside().await;
    pass(&restarted, 14).await;
    assert_eq!(liveness(&restarted, "data_analyst").await, Live);
    edge.beat(&restarted).await.unwrap();
    pass(&restarted, 14).await;
    assert_eq!(liveness(&restarted, "data_analyst").await, Live);
    // one that is not heard now either
    pass(&restarted, 1).await;
    assert_eq!(liveness(&restarted, "data_analyst").await, Suspect);
    pass(&restarted, 45).await;
    assert_eq!(liveness(&restarted, "data_analyst").await, Gone);
}

#[tokio::test]
async fn after_an_outage_of_the_database_silence_is_counted_anew() {
    let (rig, _, _, _) = registered().await;
    pass(&rig, 10).await;
    let rename = async |statement: &'static str| {
        sqlx::query(statement)
            .execute(rig.database.pool())
            .await
            .unwrap();
    };
    rename("ALTER TABLE edge RENAME TO edge_away").await;
    for _ in 0..30 {
        rig.clock.advance(Duration::from_secs(1));
        rig.app.registry.sweep().await.unwrap_err();
    }
    rename("ALTER TABLE edge_away RENAME TO edge").await;
    pass(&rig, 15).await;
    assert_eq!(liveness(&rig, "data_analyst").await, Live);
    pass(&rig, 1).await;
    assert_eq!(liveness(&rig, "data_analyst").await, Suspect);
}

#[tokio::test]
async fn a_second_control_plane_judges_by_what_the_first_has_heard() {
    let (rig, _, mut edge, _) = registered().await;
    let other = rig.beside().await;
    for _ in 0..10 {
        pass(&other, 5).await;
        edge.beat(&rig).await.unwrap();
    }
    assert_eq!(liveness(&other, "data_analyst").await, Live);
    pass(&other, 15).await;
    assert_eq!(liveness(&rig, "data_analyst").await, Suspect);
    let suspect = rig.told_of_agents().await;
    let times = suspect
        .iter()
        .filter(|told| *told == "suspect data_analyst")
        .count();
    assert_eq!(times, 1, "two judges, one verdict");
}

#[tokio::test]
async fn what_has_been_gone_for_a_day_is_forgotten() {
    let (rig, session, _, _) = registered().await;
    pass(&rig, 70).await;
    let count = async |table: &'static str| -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
            .fetch_one(rig.database.pool())
            .await
            .unwrap()
    };
    assert_eq!(count("agent_term").await, 1);
    rig.clock.advance(Duration::from_secs(86_300));
    assert_eq!(rig.app.registry.forget(100).await.unwrap(), 0);
    rig.clock.advance(Duration::from_secs(200));
    rig.app.registry.forget(100).await.unwrap();
    for table in ["agent_registration", "agent_term", "edge"] {
        assert_eq!(count(table).await, 0, "{table}");
    }
    rig.register(&session, plain("data_analyst")).await.unwrap();
    let release = rig
        .app
        .registry
        .release(request("r"), session.agents[0].clone());
    release.await.unwrap();
}

#[tokio::test]
async fn an_hour_of_heartbeats_leaves_the_tables_as_large_as_before() {
    const EDGES: usize = 50;
    let rig = Rig::open().await;
    let mut edges = Vec::new();
    for n in 0..EDGES {
        let machine = rig.machine(&format!("host-{n}")).await;
        edges.push(Edge::begin(&rig, machine).await);
    }
    let round = async |edges: &mut [Edge]| {
        rig.clock.advance(Duration::from_secs(5));
        let beats = edges.iter_mut().map(|edge| edge.beat(&rig));
        for heard in futures::future::join_all(beats).await {
            heard.unwrap();
        }
    };
    let size = async || -> i64 {
        sqlx::query_scalar("SELECT pg_relation_size('edge')")
            .fetch_one(rig.database.pool())
            .await
            .unwrap()
    };
    // autovacuum looks once a minute; here, an hour passes in seconds
    let minute = async |edges: &mut [Edge]| {
        for _ in 0..12 {
            round(edges).await;
        }
        sqlx::query("VACUUM edge")
            .execute(rig.database.pool())
            .await
            .unwrap();
    };
    for _ in 0..3 {
        minute(&mut edges).await;
    }
    let before = size().await;
    let mut largest = 0;
    for _ in 0..60 {
        minute(&mut edges).await;
        largest = largest.max(size().await);
    }
    assert!(
        largest <= before + 16 * 8192,
        "{before} bytes became {largest}"
    );
    let (updates, in_place): (i64, i64) = sqlx::query_as(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'edge'",
    )
    .fetch_one(rig.database.pool())
    .await
    .unwrap();
    assert!(
        in_place * 10 >= updates * 9,
        "{in_place} of {updates} on their page"
    );
}
