//! Registering agents: whose they are, what they say, how far they are trusted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use authguardian_proto::{
    agent_record,
    credential::ApiKey,
    ids::{AgentId, ResourceTypeName},
    liveness::Liveness,
    reason::{Problem, Reason},
    registry::v1::{
        Capability as PbCapability, OwnAgent, RegisterAgentRequest,
        registry_service_client::RegistryServiceClient,
    },
    status::from_status,
    zone::Zone,
};
use control_plane::{
    error,
    events::Stream,
    grants::Ask,
    identity::{Session, Terms, membership::Expulsion},
    policy::ResourceType,
    registry::{NewRegistration, Registered, Registration},
};

use tonic::transport::Channel;

use crate::{
    fake_edge::with_bearer,
    records::{fault, problem, request},
    rig::{JUSTIFICATION, Rig, admin, ask, caller, put, with_id},
    serving::Serving,
    wait::until_async,
};

/// A registration that says little.
pub(crate) fn plain(agent: &str) -> NewRegistration {
    NewRegistration {
        agent_id: agent.parse().unwrap(),
        capabilities: Vec::new(),
        endpoint: None,
        labels: BTreeMap::new(),
        trust: None,
        ttl_seconds: None,
    }
}

/// One of an agent that can do these things.
pub(crate) fn able(agent: &str, capabilities: &[&str]) -> NewRegistration {
    NewRegistration {
        capabilities: capabilities
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
        ..plain(agent)
    }
}

impl Rig {
    pub(crate) async fn register(
        &self,
        session: &Arc<Session>,
        new: NewRegistration,
    ) -> error::Result<Registered> {
        let registry = &self.app.registry;
        registry
            .register(caller(session), Arc::clone(session), new)
            .await
    }

    /// A session of another key for the same agents, at this machine.
    pub(crate) async fn another(&self, of: &Session, machine: &str) -> (ApiKey, Arc<Session>) {
        let agents: Vec<&str> = of.agents.iter().map(AgentId::as_str).collect();
        let key = self.api_key(&agents, false).await;
        let machine = self.machine(machine).await;
        let session = self.session(machine, &key).await;
        (key, session)
    }

    pub(crate) async fn registration(&self, agent: &str) -> Registration {
        let agent = agent.parse().unwrap();
        self.app.registry.get(&agent).await.unwrap()
    }

    /// The registry's changes: `what agent`, oldest first.
    pub(crate) async fn told_of_agents(&self) -> Vec<String> {
        let changes = "SELECT concat_ws(' ', body->>'what', body->>'agent_id') FROM change
                       WHERE stream = 'registry' ORDER BY revision";
        sqlx::query_scalar(changes)
            .fetch_all(self.database.pool())
            .await
            .unwrap()
    }
}

fn mismatch() -> (String, String) {
    ("AGENT_MISMATCH".to_owned(), "agent_id".to_owned())
}

#[tokio::test]
async fn an_agent_registers_and_has_a_signed_record_of_it() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let new = NewRegistration {
        endpoint: Some("http://127.0.0.1:9000/mcp".parse().unwrap()),
        labels: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
        trust: Some(600),
        ttl_seconds: Some(30),
        ..able("data_analyst", &["finance.invoices.read@1.2"])
    };
    let registered = rig.register(&session, new.clone()).await.unwrap();
    let registration = &registered.registration;
    assert_eq!(registration.machine_id, session.machine);
    assert_eq!(registration.api_key_id, session.api_key_id);
    assert_eq!(
        (
            registration.trust,
            registration.ttl_seconds,
            registration.liveness
        ),
        (600, 30, Liveness::Live)
    );
    assert_eq!(rig.registration("data_analyst").await, *registration);

    let now = rig.app.ambient.clock.now().unix_timestamp();
    let keyring = rig.app.identity.keyring();
    let said = agent_record::verify(&registered.signed_record, keyring.grant_keys(), now).unwrap();
    assert_eq!(said.sub.as_str(), "data_analyst");
    assert_eq!(said.machine, session.machine);
    assert_eq!(said.epoch, registration.epoch.unsigned_abs());
    assert_eq!(said.capabilities, new.capabilities);
    assert_eq!((said.trust, said.exp), (600, now + 3600));

    assert_eq!(
        rig.told_of_agents().await,
        ["put data_analyst", "registered data_analyst"]
    );
    assert_eq!(
        rig.audited().await.last().unwrap(),
        "agent.register data_analyst ok"
    );
}

#[tokio::test]
async fn the_same_again_keeps_its_epoch_and_anything_else_has_a_higher_one() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let first = rig.register(&session, plain("data_analyst")).await.unwrap();
    let revision = rig.revision(Stream::Registry).await;
    rig.clock.advance(Duration::from_secs(1));
    let same = rig.register(&session, plain("data_analyst")).await.unwrap();
    assert_eq!(same.registration.epoch, first.registration.epoch);
    assert_eq!(rig.revision(Stream::Registry).await, revision);
    let other = rig
        .register(&session, able("data_analyst", &["mail"]))
        .await
        .unwrap()
        .registration;
    assert!(other.epoch > first.registration.epoch);
    assert_eq!(other.registered_at, first.registration.registered_at);
    assert_eq!(
        rig.told_of_agents().await.last().unwrap(),
        "updated data_analyst"
    );
}

#[tokio::test]
async fn a_repeat_of_a_request_is_told_its_outcome_and_the_same_record() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let registry = &rig.app.registry;
    let call = async |new: NewRegistration| {
        let context = with_id(caller(&session), "once");
        registry.register(context, Arc::clone(&session), new).await
    };
    let first = call(plain("data_analyst")).await.unwrap();
    rig.clock.advance(Duration::from_secs(7));
    let again = call(plain("data_analyst")).await.unwrap();
    assert_eq!(again.registration, first.registration);
    assert_eq!(again.signed_record, first.signed_record);
    let other = call(able("data_analyst", &["mail"])).await;
    assert_eq!(problem(other).reason, Reason::RequestIdReused);

    let deregister = async || {
        let context = with_id(caller(&session), "once");
        let agent = session.agents[0].clone();
        registry
            .deregister(context, Arc::clone(&session), agent)
            .await
    };
    let was = deregister().await.unwrap();
    assert_eq!(deregister().await.unwrap(), was);
    let release = registry.release(request("r"), session.agents[0].clone());
    assert_eq!(problem(release.await).reason, Reason::UnknownAgent);
}

#[tokio::test]
async fn nobody_registers_an_agent_that_their_key_or_machine_does_not_speak_for() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    assert_eq!(
        fault(rig.register(&session, plain("critic")).await),
        mismatch()
    );
    // the key may, the machine may not
    let terms = Terms {
        agents: control_plane::identity::Serves::Only(vec!["critic".parse().unwrap()]),
        ..Terms::default()
    };
    let machine = rig.machine_for("narrow", terms).await;
    let key = rig.api_key(&["data_analyst", "critic"], false).await;
    let narrow = rig.session(machine, &key).await;
    let refused = rig.register(&narrow, plain("data_analyst")).await;
    assert_eq!(fault(refused), mismatch());
    assert_eq!(rig.told_of_agents().await, ["put data_analyst"]);
}

#[tokio::test]
async fn a_registered_id_is_taken_by_no_other_machine_and_no_other_key() {
    let rig = Rig::open().await;
    let owner = rig.analyst().await;
    let first = rig.register(&owner, plain("data_analyst")).await.unwrap();
    // another key at the same machine, the same agent
    let key = rig.api_key(&["data_analyst"], false).await;
    let other_key = rig.session(owner.machine, &key).await;
    let (_, other_machine) = rig.another(&owner, "elsewhere").await;
    for thief in [&other_key, &other_machine] {
        let refused = rig.register(thief, plain("data_analyst")).await;
        let told = problem(refused);
        assert_eq!(told.reason, Reason::AgentMismatch);
        assert!(told.detail.contains("agent release"), "{}", told.detail);
        let refused = rig
            .app
            .registry
            .deregister(caller(thief), Arc::clone(thief), owner.agents[0].clone())
            .await;
        assert_eq!(fault(refused), mismatch());
    }
    assert_eq!(rig.registration("data_analyst").await, first.registration);
}

#[tokio::test]
async fn an_id_is_free_once_it_is_released_or_its_key_or_machine_counts_no_more() {
    let rig = Rig::open().await;
    let owner = rig.analyst().await;
    rig.register(&owner, plain("data_analyst")).await.unwrap();

    let agent = owner.agents[0].clone();
    rig.app
        .registry
        .release(request("r"), agent.clone())
        .await
        .unwrap();
    let (key, second) = rig.another(&owner, "second").await;
    rig.register(&second, plain("data_analyst")).await.unwrap();
    assert!(rig.register(&owner, plain("data_analyst")).await.is_err());

    let revoke = rig.app.identity.revoke_api_key(admin(), key.id());
    revoke.await.unwrap();
    let (_, third) = rig.another(&owner, "third").await;
    rig.register(&third, plain("data_analyst")).await.unwrap();

    let machine = third.machine.to_string().parse().unwrap();
    let evict = rig
        .app
        .grants
        .expel_machine(admin(), &machine, Expulsion::Evict, "");
    evict.await.unwrap();
    let (_, fourth) = rig.another(&owner, "fourth").await;
    let taken = rig.register(&fourth, plain("data_analyst")).await.unwrap();
    assert_eq!(taken.registration.machine_id, fourth.machine);
    let audited = rig.audited().await;
    assert!(
        audited.contains(&"agent.release data_analyst ok".to_owned()),
        "{audited:?}"
    );
}

#[tokio::test]
async fn an_agent_can_ask_for_less_trust_and_never_for_more() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let asking = |trust| NewRegistration {
        trust: Some(trust),
        ..plain("data_analyst")
    };
    let too_much = ("TRUST_TOO_LOW".to_owned(), "trust_level".to_owned());
    assert_eq!(fault(rig.register(&session, asking(801)).await), too_much);
    let of_scale = fault(rig.register(&session, asking(1001)).await);
    assert_eq!(
        of_scale,
        ("INVALID_ARGUMENT".to_owned(), "trust_level".to_owned())
    );
    let registered = rig.register(&session, asking(500)).await.unwrap();
    assert_eq!(registered.registration.trust, 500);
    // its grants are judged by what operators say
    assert_eq!(rig.granted(&session).await.record.score.trust, 800);

    // one that operators say nothing of
    let key = rig.api_key(&["stranger"], false).await;
    let stranger = rig.session(session.machine, &key).await;
    let asking = |trust| NewRegistration {
        trust,
        ..plain("stranger")
    };
    assert_eq!(
        fault(rig.register(&stranger, asking(Some(301))).await),
        too_much
    );
    let registered = rig.register(&stranger, asking(None)).await.unwrap();
    assert_eq!(registered.registration.trust, 300);
}

#[tokio::test]
async fn what_operators_say_of_trust_reaches_the_registry_in_the_same_act() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let new = NewRegistration {
        trust: Some(600),
        ..able("data_analyst", &["mail"])
    };
    rig.register(&session, new).await.unwrap();
    let agent = &session.agents[0];
    let trust_of_terms = async || -> Vec<i16> {
        sqlx::query_scalar("SELECT 1000 - distrust FROM agent_term")
            .fetch_all(rig.database.pool())
            .await
            .unwrap()
            .into_iter()
            .map(|trust: i32| i16::try_from(trust).unwrap())
            .collect()
    };
    for (trust, effective) in [(400, 400), (900, 600), (100, 100)] {
        rig.app
            .agents
            .put(admin(), put(agent, trust))
            .await
            .unwrap();
        assert_eq!(rig.registration("data_analyst").await.trust, effective);
        assert_eq!(trust_of_terms().await, [i16::try_from(effective).unwrap()]);
    }
    let deleted = rig.app.grants.delete_agent(admin(), agent.clone());
    deleted.await.unwrap();
    assert_eq!(rig.registration("data_analyst").await.trust, 300);
    assert_eq!(
        rig.told_of_agents().await.last().unwrap(),
        "deleted data_analyst"
    );
}

#[tokio::test]
async fn a_key_and_a_machine_register_only_so_many_and_junk_is_refused_by_the_thousand() {
    let mut rig = Rig::open().await;
    rig.config.registry.max_agents_per_key = 3;
    rig.config.registry.max_agents_per_machine = 4;
    let rig = rig.beside().await;
    let names: Vec<String> = (0..100).map(|n| format!("junk-{n}")).collect();
    let agents: Vec<&str> = names.iter().map(String::as_str).collect();
    let key = rig.api_key(&agents, false).await;
    let machine = rig.machine("host").await;
    let session = rig.session(machine, &key).await;
    let all = agents
        .iter()
        .map(|name| rig.register(&session, plain(name)));
    let outcomes = futures::future::join_all(all).await;
    let (good, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), refused.len()), (3, 97));
    for refused in refused {
        assert_eq!(problem(refused).reason, Reason::ResourceExhausted);
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM agent_registration")
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
    assert_eq!(count, 3);
    // what it has can be registered again
    let own = good.into_iter().next().unwrap().unwrap().registration;
    let again = able(own.agent_id.as_str(), &["mail"]);
    rig.register(&session, again).await.unwrap();
    // of the machine's four, another key gets one
    let key = rig.api_key(&["x", "y"], false).await;
    let other = rig.session(machine, &key).await;
    rig.register(&other, plain("x")).await.unwrap();
    let refused = problem(rig.register(&other, plain("y")).await);
    assert_eq!(refused.reason, Reason::ResourceExhausted);
    assert!(refused.detail.contains("machine"), "{}", refused.detail);
    // another machine has room
    let machine = rig.machine("other").await;
    let elsewhere = rig.session(machine, &key).await;
    rig.register(&elsewhere, plain("y")).await.unwrap();
}

#[tokio::test]
async fn from_outside_of_the_configured_networks_nothing_is_registered() {
    let rig = Rig::open().await;
    let terms = Terms {
        max_zone: Zone::External,
        ..Terms::default()
    };
    let machine = rig.machine_for("outside", terms).await;
    let key = rig.api_key(&["data_analyst"], false).await;
    let session = rig.session(machine, &key).await;
    let refused = problem(rig.register(&session, plain("data_analyst")).await);
    assert_eq!(refused.reason, Reason::ZoneForbids);
}

/// A session at a machine that calls over the wire.
struct Wired {
    serving: Serving,
    client: RegistryServiceClient<Channel>,
    key: ApiKey,
    token: String,
}

impl Wired {
    /// For the analyst.
    async fn open() -> Self {
        let serving = Serving::start().await;
        let edge = serving.join("host", Terms::default()).await;
        let key = serving.rig.api_key(&["data_analyst"], false).await;
        let session = edge.log_in(&key, Zone::LocalMachine).await.unwrap();
        Self {
            serving,
            client: RegistryServiceClient::new(edge.channel),
            key,
            token: session.session_token,
        }
    }

    async fn register(&mut self, request: RegisterAgentRequest) -> Result<OwnAgent, Problem> {
        let answer = self
            .client
            .register_agent(with_bearer(request, &self.token))
            .await
            .map_err(|status| from_status(&status))?;
        Ok(answer.into_inner().agent.unwrap())
    }
}

fn of_agent(agent: &str) -> RegisterAgentRequest {
    RegisterAgentRequest {
        agent_id: agent.to_owned(),
        ..RegisterAgentRequest::default()
    }
}

#[tokio::test]
async fn a_malformed_registration_names_its_field() {
    type Spoil = fn(&mut RegisterAgentRequest);
    let mut wired = Wired::open().await;
    let cases: [(&str, Spoil); 11] = [
        ("agent_id", |asked| asked.agent_id = "a b".into()),
        ("capabilities[1]", |asked| {
            asked.capabilities = ["a", "a..b"]
                .map(|name| PbCapability {
                    name: name.to_owned(),
                    ..PbCapability::default()
                })
                .into();
        }),
        ("endpoint", |asked| {
            asked.endpoint = "http://169.254.169.254/latest".into();
        }),
        ("endpoint", |asked| {
            asked.endpoint = "file:///etc/passwd".into();
        }),
        ("endpoint", |asked| {
            asked.endpoint = "https://user:pw@example.org/".into();
        }),
        ("labels", |asked| {
            asked.labels = [("a=b".into(), String::new())].into();
        }),
        ("labels", |asked| {
            asked.labels = [("a".into(), "x\0".into())].into();
        }),
        ("ttl_seconds", |asked| asked.ttl_seconds = 4),
        ("ttl_seconds", |asked| asked.ttl_seconds = 86_401),
        ("trust_level", |asked| asked.trust_level = Some(1001)),
        ("request_id", |asked| asked.request_id = " ".into()),
    ];
    for (field, spoil) in cases {
        let mut asked = of_agent("data_analyst");
        spoil(&mut asked);
        let refused = wired.register(asked).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(field), "{refused:?}");
    }
    let own = wired.register(of_agent("data_analyst")).await.unwrap();
    assert_eq!(own.api_key_id, wired.key.id().to_string());
    assert_eq!(own.agent.unwrap().api_key_id, "", "that is for admins");
    wired.serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_refused_registrations_are_all_told_by_a_few_rows_of_audit() {
    const AT_ONCE: i64 = 50;
    const EACH: i64 = 2_000;
    let wired = Wired::open().await;
    let floods = (0..AT_ONCE).map(|_| {
        let (mut client, token) = (wired.client.clone(), wired.token.clone());
        tokio::spawn(async move {
            for _ in 0..EACH {
                let asked = with_bearer(of_agent("critic"), &token);
                let status = client.register_agent(asked).await.unwrap_err();
                assert_eq!(from_status(&status).reason, Reason::AgentMismatch);
            }
        })
    });
    for flood in floods.collect::<Vec<_>>() {
        flood.await.unwrap();
    }
    let rig = &wired.serving.rig;
    let written = async || -> (i64, i64) {
        rig.app.refusals.flush().await.unwrap();
        sqlx::query_as(
            "SELECT count(*), coalesce(sum(count), 0)::bigint FROM audit_trail
             WHERE action = 'call.refuse' AND reason = 'AGENT_MISMATCH' AND subject LIKE '%/RegisterAgent'",
        )
        .fetch_one(rig.database.pool())
        .await
        .unwrap()
    };
    let all = AT_ONCE * EACH;
    until_async("all are told", async || written().await.1 == all).await;
    let (rows, _) = written().await;
    assert!(
        rows <= 200,
        "{rows} rows: about one for each second of the flood"
    );
    wired.serving.stop().await;
}

fn to_call(session: &Session, agent: &str) -> Ask {
    Ask {
        resource_type: ResourceTypeName::of_agent(&agent.parse().unwrap()),
        justification: JUSTIFICATION.to_owned(),
        scope: Some("read:answers".to_owned()),
        ..ask(session)
    }
}

#[tokio::test]
async fn a_grant_to_call_an_agent_is_good_for_that_agent_and_for_one_that_is_there() {
    let rig = Rig::open().await;
    let caller = rig.analyst().await;
    let unknown = fault(rig.request(&caller, to_call(&caller, "critic")).await);
    assert_eq!(
        unknown,
        ("UNKNOWN_AGENT".to_owned(), "resource_type".to_owned())
    );
    // registered, and no operator says anything of it
    let key = rig.api_key(&["critic"], false).await;
    let critic = rig.session(caller.machine, &key).await;
    rig.register(&critic, plain("critic")).await.unwrap();
    let granted = rig
        .request(&caller, to_call(&caller, "critic"))
        .await
        .unwrap();
    assert!(granted.record.granted, "{:?}", granted.record);
    assert_eq!(granted.record.restrictions, [""; 0]);
    let name = ResourceTypeName::of_agent(&critic.agents[0]);
    let (token, agent) = (granted.token.unwrap(), &caller.agents[0]);
    let grants = &rig.app.grants;
    let validated = grants.validate(&caller, &token, agent, &name).await;
    assert_eq!(validated.unwrap().refused, None);
    let other = "agent:other".parse().unwrap();
    let validated = grants.validate(&caller, &token, agent, &other).await;
    assert_eq!(validated.unwrap().refused, Some(Reason::ResourceMismatch));
    let issued = granted.record.issued_at;
    assert_eq!(
        granted.record.expires_at,
        Some(issued + Duration::from_mins(5))
    );
    let renewed = grants
        .renew(
            crate::rig::caller(&caller),
            Arc::clone(&caller),
            &token,
            None,
        )
        .await
        .unwrap();
    assert!(renewed.record.granted);

    // on record, and not registered
    rig.agent("assessor", 500).await;
    let granted = rig.request(&caller, to_call(&caller, "assessor")).await;
    assert!(granted.unwrap().record.granted);
}

#[tokio::test]
async fn operators_may_say_otherwise_what_calls_of_an_agent_are_granted_by() {
    let rig = Rig::open().await;
    let caller = rig.analyst().await;
    rig.agent("critic", 500).await;
    let name: ResourceTypeName = "agent:critic".parse().unwrap();
    let put = ResourceType {
        restrictions: vec!["read_only".to_owned()],
        default_ttl_seconds: 60,
        max_ttl_seconds: 60,
        ..ResourceType::of_agent(&name.agent().unwrap())
    };
    let policies = &rig.app.policies;
    policies.put_resource_type(admin(), put).await.unwrap();
    let granted = rig
        .request(&caller, to_call(&caller, "critic"))
        .await
        .unwrap();
    assert_eq!(granted.record.restrictions, ["read_only"]);
    let lives = granted.record.expires_at.unwrap() - granted.record.issued_at;
    assert_eq!(lives, Duration::from_mins(1));
}
