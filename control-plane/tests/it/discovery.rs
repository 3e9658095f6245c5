//! Finding agents: what fits, in the order of rank, page by page.

use std::{collections::BTreeMap, sync::Arc};

use authguardian_proto::{
    capability::CapabilityQuery, ids::MachineId, liveness::Liveness, reason::Reason,
    registry::v1::DiscoverAgentsRequest,
    registry::v1::registry_service_client::RegistryServiceClient, status::from_status, zone::Zone,
};
use control_plane::{
    identity::{Session, Terms},
    registry::{Cursor, Heartbeat, NewRegistration, Registration, Said, Search},
};
use proptest::{
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use sqlx::Row;

use crate::{
    fake_edge::with_bearer,
    leases::Edge,
    operator::Operator,
    records::problem,
    registrations::{able, plain},
    rig::{Rig, admin, put},
    serving::Serving,
};

fn asking(capability: &str) -> Search {
    Search {
        capability: capability.parse().unwrap(),
        ..Search::default()
    }
}

impl Rig {
    /// All pages of this size, as one.
    async fn find(&self, search: &Search, size: u32) -> Vec<Registration> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let registry = &self.app.registry;
            let page = registry
                .discover(search, after.as_ref(), size)
                .await
                .unwrap();
            assert!(page.agents.len() <= size as usize);
            found.extend(page.agents);
            let Some(next) = page.next else { return found };
            // as it goes over the wire
            after = Some(next.to_string().parse::<Cursor>().unwrap());
        }
    }

    async fn names(&self, search: &Search) -> Vec<String> {
        let found = self.find(search, 1000).await;
        found
            .iter()
            .map(|agent| agent.agent_id.to_string())
            .collect()
    }
}

async fn say(rig: &Rig, edge: &mut Edge, of: &[(&Registration, Liveness)]) {
    edge.sequence += 1;
    let agents = of.iter().map(|(agent, liveness)| Said {
        agent_id: agent.agent_id.clone(),
        epoch: agent.epoch,
        liveness: *liveness,
        wants_record: false,
    });
    let heartbeat = Heartbeat {
        machine: edge.machine,
        incarnation: edge.incarnation,
        sequence: edge.sequence,
        peer_address: None,
        agents: agents.collect(),
        complete: false,
    };
    rig.app.registry.heartbeat(heartbeat).await.unwrap();
}

#[tokio::test]
async fn agents_are_found_by_capability_namespace_version_and_label() {
    let rig = Rig::open().await;
    let session = rig.agent("a", 800).await;
    let labelled = NewRegistration {
        labels: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
        ..able("a", &["finance.invoices.read@1.2", "mail"])
    };
    rig.register(&session, labelled).await.unwrap();
    let session = rig.agent("b", 500).await;
    rig.register(&session, able("b", &["finance.ledger"]))
        .await
        .unwrap();
    for (query, found) in [
        ("*", &["a", "b"][..]),
        ("finance.*", &["a", "b"]),
        ("finance.invoices.read", &["a"]),
        ("finance.invoices.read@1.*", &["a"]),
        ("finance.invoices.read@1.2", &["a"]),
        ("finance.invoices.read@1.3", &[]),
        ("finance", &[]),
        ("mail", &["a"]),
    ] {
        assert_eq!(rig.names(&asking(query)).await, found, "{query}");
    }
    let eu = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    let in_eu = |query: &str| Search {
        labels: eu.clone(),
        ..asking(query)
    };
    assert_eq!(rig.names(&in_eu("*")).await, ["a"]);
    assert_eq!(rig.names(&in_eu("finance.ledger")).await, [""; 0]);
    let trusted = Search {
        min_trust: 501,
        ..asking("finance.*")
    };
    assert_eq!(rig.names(&trusted).await, ["a"]);
    // a label is no capability, whatever it looks like
    assert!("region=eu".parse::<CapabilityQuery>().is_err());
    // what it no longer says, it is no longer found by
    let session = rig.another_of("a", &rig.registration("a").await).await;
    rig.register(&session, plain("a")).await.unwrap();
    assert_eq!(rig.names(&asking("mail")).await, [""; 0]);
    assert_eq!(rig.names(&in_eu("*")).await, [""; 0]);
}

impl Rig {
    /// A session that may replace a registration: an operator has released it.
    async fn another_of(&self, agent: &str, held: &Registration) -> Arc<Session> {
        let registry = &self.app.registry;
        registry
            .release(admin(), held.agent_id.clone())
            .await
            .unwrap();
        let key = self.api_key(&[agent], false).await;
        self.session(held.machine_id, &key).await
    }
}

#[tokio::test]
async fn the_live_come_first_then_the_near_then_the_trusted_then_by_id() {
    let rig = Rig::open().await;
    let (near, far) = (rig.machine("near").await, rig.machine("far").await);
    let mut edges = [Edge::begin(&rig, near).await, Edge::begin(&rig, far).await];
    let mut made = Vec::new();
    for (name, machine, trust) in [
        ("near-700", near, 700),
        ("near-suspect", near, 900),
        ("far-800-b", far, 800),
        ("far-800-a", far, 800),
        ("far-900", far, 900),
        ("far-gone", far, 900),
    ] {
        let agent = name.parse().unwrap();
        rig.app
            .agents
            .put(admin(), put(&agent, trust))
            .await
            .unwrap();
        let key = rig.api_key(&[name], false).await;
        let session = rig.session(machine, &key).await;
        let registered = rig.register(&session, able(name, &["x"])).await.unwrap();
        made.push(registered.registration);
    }
    say(&rig, &mut edges[0], &[(&made[1], Liveness::Suspect)]).await;
    say(&rig, &mut edges[1], &[(&made[5], Liveness::Gone)]).await;
    let ranked = [
        "near-700",
        "far-900",
        "far-800-a",
        "far-800-b",
        "near-suspect",
        "far-gone",
    ];
    for query in ["x", "*"] {
        let search = Search {
            near: Some(near),
            ..asking(query)
        };
        assert_eq!(rig.names(&search).await, ranked);
    }
    let from_nowhere = [
        "far-900",
        "far-800-a",
        "far-800-b",
        "near-700",
        "near-suspect",
        "far-gone",
    ];
    assert_eq!(rig.names(&asking("x")).await, from_nowhere);
    let live_there = Search {
        machine: Some(far),
        worst: Liveness::Live,
        near: Some(near),
        ..asking("x")
    };
    assert_eq!(
        rig.names(&live_there).await,
        ["far-900", "far-800-a", "far-800-b"]
    );
}

const CAPABILITIES: [&str; 8] = [
    "finance.invoices@1.0",
    "finance.invoices@1.2",
    "finance.invoices@2.0",
    "finance.ledger",
    "finance",
    "mail/send",
    "mail/read@3",
    "x:y:z",
];

const QUERIES: [&str; 12] = [
    "*",
    "finance",
    "finance.*",
    "finance.invoices",
    "finance.invoices@1.*",
    "finance.invoices@1.2",
    "finance.invoices@1",
    "mail/*",
    "mail/read@3",
    "x:*",
    "x:y:*",
    "nothing",
];

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let pairs = [("a", "1"), ("b", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    subsequence(pairs.to_vec(), 0..=2).prop_map(|pairs| pairs.into_iter().collect())
}

/// 40 agents of two machines that say, and are, different things.
async fn crowd(rig: &Rig, runner: &mut TestRunner) -> Vec<MachineId> {
    let says = || {
        (
            subsequence(CAPABILITIES.to_vec(), 0..=3),
            labels(),
            select(vec![0_u32, 300, 500, 899, 900]),
            0..3_u8,
        )
    };
    let terms = Terms {
        max_zone: Zone::TrustedNetwork,
        ..Terms::default()
    };
    let machines = vec![
        rig.machine("one").await,
        rig.machine_for("two", terms).await,
    ];
    let mut edges = Vec::new();
    for machine in &machines {
        edges.push(Edge::begin(rig, *machine).await);
    }
    let names: Vec<String> = (0..40).map(|n| format!("agent-{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let key = rig.api_key(&names, false).await;
    for (n, name) in names.iter().enumerate() {
        let (capabilities, labels, trust, liveness) = says().new_tree(runner).unwrap().current();
        let agent = name.parse().unwrap();
        rig.app
            .agents
            .put(admin(), put(&agent, trust))
            .await
            .unwrap();
        let session = rig.session(machines[n % 2], &key).await;
        let new = NewRegistration {
            labels,
            ..able(name, &capabilities)
        };
        let registered = rig.register(&session, new).await.unwrap().registration;
        let liveness = Liveness::ALL[usize::from(liveness)];
        say(rig, &mut edges[n % 2], &[(&registered, liveness)]).await;
    }
    machines
}

fn searches(machines: Vec<MachineId>) -> impl Strategy<Value = (Search, u32)> {
    let places: Vec<Option<MachineId>> = std::iter::once(None)
        .chain(machines.into_iter().map(Some))
        .collect();
    let zones = vec![None, Some(Zone::TrustedNetwork), Some(Zone::LocalMachine)];
    let names: Vec<_> = (0..40)
        .map(|n| format!("agent-{n:02}").parse().unwrap())
        .collect();
    let some = prop_oneof![4 => Just(Vec::new()), 1 => subsequence(names, 1..20)];
    let parts = (
        select(QUERIES.to_vec()),
        select(vec![0_u32, 1, 300, 500, 900]),
        select(zones),
        select(places.clone()),
        select(Liveness::ALL.to_vec()),
        labels(),
        some,
        select(places),
        1..50_u32,
    );
    parts.prop_map(
        |(query, min_trust, zone, machine, worst, labels, agents, near, size)| {
            let search = Search {
                capability: query.parse().unwrap(),
                min_trust,
                zone,
                machine,
                worst,
                labels,
                agents,
                near,
            };
            (search, size)
        },
    )
}

#[test]
fn the_database_finds_what_the_query_matches_in_the_order_of_rank() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    });
    let (rig, machines, all) = runtime.block_on(async {
        let rig = Rig::open().await;
        let machines = crowd(&rig, &mut runner).await;
        let all = rig.find(&Search::default(), 7).await;
        (rig, machines, all)
    });
    assert_eq!(all.len(), 40);
    let checked = runner.run(&searches(machines), |(search, size)| {
        let mut fit: Vec<_> = all.iter().filter(|agent| search.fits(agent)).collect();
        fit.sort_by_cached_key(|agent| search.rank(agent));
        let found = runtime.block_on(rig.find(&search, size));
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), fit);
        Ok(())
    });
    checked.unwrap();
    runtime.block_on(async { drop(rig) });
}

#[tokio::test]
async fn pages_neither_repeat_nor_pass_over_whoever_keeps_their_rank() {
    let rig = Rig::open().await;
    let machine = rig.machine("host").await;
    let mut edge = Edge::begin(&rig, machine).await;
    let names: Vec<String> = (0..30).map(|n| format!("agent-{n:02}")).collect();
    let texts: Vec<&str> = names.iter().map(String::as_str).collect();
    let key = rig.api_key(&texts, false).await;
    let session = rig.session(machine, &key).await;
    let mut made = Vec::new();
    for name in &texts {
        let registered = rig.register(&session, able(name, &["x"])).await.unwrap();
        made.push(registered.registration);
    }
    let registry = &rig.app.registry;
    let first = registry.discover(&asking("x"), None, 10).await.unwrap();
    // one of the first page goes to the end, one of the second out, one comes before both
    say(&rig, &mut edge, &[(&made[3], Liveness::Suspect)]).await;
    registry
        .release(admin(), made[15].agent_id.clone())
        .await
        .unwrap();
    let early = rig.agent("aaa", 900).await;
    rig.register(&early, able("aaa", &["x"])).await.unwrap();
    let mut seen = first.agents;
    let mut next = first.next;
    while let Some(after) = next {
        let page = registry
            .discover(&asking("x"), Some(&after), 10)
            .await
            .unwrap();
        seen.extend(page.agents);
        next = page.next;
    }
    let seen: Vec<String> = seen
        .iter()
        .map(|agent| agent.agent_id.to_string())
        .collect();
    let stayed = |name: &&&str| **name != "agent-03" && **name != "agent-15";
    for name in texts.iter().filter(stayed) {
        let times = seen.iter().filter(|seen| seen == name).count();
        assert_eq!(times, 1, "{name}");
    }
    assert!(!seen.contains(&"agent-15".to_owned()));
}

/// So many agents, a tenth of them with the capability `common`, each with one
/// of its own; written as registering writes them.
const CROWD: &str = "
    INSERT INTO agent_registration (
        agent_id, epoch, machine_id, api_key_id, capabilities, labels, trust, zone, ttl_seconds,
        own_liveness, liveness, ended, vouched_at, registered_at, updated_at)
    SELECT 'agent-' || n, n, gen_random_uuid(), gen_random_uuid(), '[]', '{}', n % 1001, 'local_machine', 90,
           0, 0, false, now(), now(), now()
    FROM generate_series(1, 20000) AS n";

const CROWD_TERMS: &str = "
    INSERT INTO agent_term (term, liveness, distrust, agent_id, machine_id)
    SELECT term, liveness, distrust, agent_id, machine_id
    FROM agent_registration AS r,
         LATERAL (VALUES ('own.' || r.agent_id), (CASE WHEN epoch % 10 = 0 THEN 'common' END)) AS t (term)
    WHERE term IS NOT NULL";

#[tokio::test]
async fn a_query_reads_a_range_of_the_index_and_sorts_nothing() {
    let rig = Rig::open().await;
    let pool = rig.database.pool();
    for statement in [CROWD, CROWD_TERMS, "ANALYZE agent_registration, agent_term"] {
        sqlx::query(statement).execute(pool).await.unwrap();
    }
    let mut connection = pool.acquire().await.unwrap();
    // what a statement that is prepared once gets
    sqlx::query("SET plan_cache_mode = force_generic_plan")
        .execute(&mut *connection)
        .await
        .unwrap();
    let store = include_str!("../../src/registry/store/find.rs");
    let statements: Vec<&str> = store
        .split('"')
        .filter(|text| text.starts_with("SELECT ") && text.contains("LIMIT $"))
        .collect();
    assert_eq!(statements.len(), 4);
    for (number, (statement, index)) in statements
        .iter()
        .zip([
            "agent_term_rank",
            "agent_term_machine",
            "agent_registration_rank",
            "agent_registration_machine",
        ])
        .enumerate()
    {
        let prepare = format!("PREPARE s{number} AS {statement}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepare))
            .execute(&mut *connection)
            .await
            .unwrap();
        let machine = "00000000-0000-0000-0000-000000000000";
        let arguments = if statement.contains("t.term") {
            format!("'common', 0, 1000, -1, '', '{machine}', NULL, '{{}}', 101")
        } else {
            format!("0, 1000, -1, '', '{machine}', NULL, '{{}}', 101")
        };
        let explain = format!("EXPLAIN EXECUTE s{number}({arguments})");
        let plan: Vec<String> = sqlx::raw_sql(sqlx::AssertSqlSafe(explain))
            .fetch_all(&mut *connection)
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index), "{statement}\n{plan}");
        assert!(!plan.contains("Sort"), "{statement}\n{plan}");
        assert!(!plan.contains("Seq Scan"), "{statement}\n{plan}");
    }
    let found = rig
        .app
        .registry
        .discover(&asking("common"), None, 100)
        .await;
    let found = found.unwrap().agents;
    assert_eq!(found.len(), 100);
    assert!(found.is_sorted_by(|one, next| one.trust >= next.trust));
}

#[tokio::test]
async fn a_malformed_search_names_its_field() {
    let serving = Serving::start().await;
    let edge = serving.join("host", Terms::default()).await;
    let key = serving.rig.api_key(&["data_analyst"], false).await;
    // also from outside of the networks agents can be found
    let session = edge.log_in(&key, Zone::External).await.unwrap();
    let call = async |request: DiscoverAgentsRequest| {
        RegistryServiceClient::new(edge.channel.clone())
            .discover_agents(with_bearer(request, &session.session_token))
            .await
            .map_err(|status| from_status(&status))
    };
    let good = DiscoverAgentsRequest::default;
    let cases = [
        (
            "capability",
            DiscoverAgentsRequest {
                capability: "a*".into(),
                ..good()
            },
        ),
        (
            "min_trust",
            DiscoverAgentsRequest {
                min_trust: 1001,
                ..good()
            },
        ),
        ("zone", DiscoverAgentsRequest { zone: 9, ..good() }),
        (
            "machine_id",
            DiscoverAgentsRequest {
                machine_id: "host".into(),
                ..good()
            },
        ),
        (
            "worst_liveness",
            DiscoverAgentsRequest {
                worst_liveness: 9,
                ..good()
            },
        ),
        (
            "labels",
            DiscoverAgentsRequest {
                labels: [(String::new(), "x".into())].into(),
                ..good()
            },
        ),
        (
            "agent_ids",
            DiscoverAgentsRequest {
                agent_ids: vec!["a b".into()],
                ..good()
            },
        ),
        (
            "agent_ids",
            DiscoverAgentsRequest {
                agent_ids: vec!["a".into(); 101],
                ..good()
            },
        ),
        (
            "page_size",
            DiscoverAgentsRequest {
                page_size: 1001,
                ..good()
            },
        ),
        (
            "page_token",
            DiscoverAgentsRequest {
                page_token: "x".into(),
                ..good()
            },
        ),
    ];
    for (field, request) in cases {
        let refused = call(request).await.unwrap_err();
        assert_eq!(
            (refused.reason, refused.field.as_deref()),
            (Reason::InvalidArgument, Some(field))
        );
    }
    assert_eq!(call(good()).await.unwrap().into_inner().agents, []);
    serving.stop().await;
}

#[tokio::test]
async fn operators_find_agents_and_release_them() {
    let operator = Operator::start().await;
    let rig = &operator.rig;
    for (name, trust) in [("scout", 500), ("critic", 800), ("clerk", 300)] {
        let session = rig.agent(name, trust).await;
        let new = NewRegistration {
            labels: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
            ..able(name, &["web.search@2.1"])
        };
        rig.register(&session, new).await.unwrap();
    }
    let all = [
        "agent",
        "find",
        "--capability",
        "web.*",
        "--label",
        "region=eu",
        "--live",
    ];
    let found = operator.json(&all).await;
    let ids = |found: &serde_json::Value| -> Vec<String> {
        let items = found["items"].as_array().unwrap().iter();
        items
            .map(|item| item["agent_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&found), ["critic", "scout", "clerk"]);
    let critic = &found["items"][0];
    assert_eq!(
        (&critic["liveness"], &critic["zone"]),
        (&"live".into(), &"local_machine".into())
    );
    assert_eq!(critic["capabilities"][0]["version"], "2.1");
    assert!(critic["api_key_id"].as_str().unwrap().starts_with("apk_"));

    let first = operator.json(&["agent", "find", "--limit", "2"]).await;
    assert_eq!(ids(&first), ["critic", "scout"]);
    let token = first["next_page_token"].as_str().unwrap();
    let second = operator
        .json(&["agent", "find", "--limit", "2", "--page-token", token])
        .await;
    assert_eq!(ids(&second), ["clerk"]);
    assert_eq!(second.get("next_page_token"), None);
    let trusted = operator
        .json(&["agent", "find", "--min-trust", "0.5"])
        .await;
    assert_eq!(ids(&trusted), ["critic", "scout"]);
    let machine = critic["machine_id"].as_str().unwrap();
    let there = operator
        .json(&["agent", "find", "--machine", machine])
        .await;
    assert_eq!(ids(&there), ["critic"]);
    let table = operator.run(&["agent", "find"]).await.stdout;
    assert!(
        table.starts_with("AGENT   LIVENESS  TRUST  MACHINE"),
        "{table}"
    );

    let shown = operator.json(&["agent", "show", "scout"]).await;
    assert_eq!(shown["registration"]["agent_id"], "scout");
    let released = operator.json(&["agent", "release", "scout"]).await;
    assert_eq!(released, shown["registration"]);
    let refused = operator.refused(&["agent", "release", "scout"]).await;
    assert_eq!(refused, (3, "UNKNOWN_AGENT".to_owned()));
    let shown = operator.json(&["agent", "show", "scout"]).await;
    assert_eq!(shown.get("registration"), None);
    let refused = operator
        .refused(&["agent", "find", "--capability", "a*"])
        .await;
    assert_eq!(refused.1, "INVALID_ARGUMENT");
    assert_eq!(
        operator.run(&["agent", "find", "--label", "x"]).await.code,
        2
    );
    let unknown = problem(rig.app.registry.get(&"scout".parse().unwrap()).await);
    assert_eq!(unknown.reason, Reason::UnknownAgent);
}
