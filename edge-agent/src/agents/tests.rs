use authguardian_proto::{
    common::v1::Zone as PbZone,
    ids::ApiKeyId,
    registry::v1::{Capability as PbCapability, RemoteAgent},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::*;
use crate::clock::manual::ManualClock;

const TTL: Duration = Duration::from_secs(90);

fn machine() -> MachineId {
    MachineId::from_uuid(Uuid::from_u128(7))
}

fn own(agent: &str, epoch: u64) -> OwnAgent {
    let times = URL_SAFE_NO_PAD.encode(r#"{"iat":1000,"exp":4600}"#);
    OwnAgent {
        agent: Some(RemoteAgent {
            agent_id: agent.into(),
            machine_id: machine().to_string(),
            capabilities: vec![PbCapability {
                name: "finance.invoices".into(),
                version: "1.2".into(),
                ..Default::default()
            }],
            trust_level: 700,
            zone: PbZone::LocalMachine.into(),
            endpoint: "http://127.0.0.1:8000/mcp".into(),
            epoch,
            ttl_seconds: 90,
            ..Default::default()
        }),
        signed_record: format!("e30.{times}.{agent}-{epoch}"),
        api_key_id: ApiKeyId::from_uuid(Uuid::from_u128(9)).to_string(),
    }
}

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    agents: Arc<Agents>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, ambient) = ManualClock::ambient();
        let agents = Agents::open(dir.path(), machine(), ambient.clock).unwrap();
        Self { dir, clock, agents }
    }

    fn take(&self, agent: &str, epoch: u64) {
        self.agents.take(own(agent, epoch)).unwrap();
    }

    fn liveness(&self, agent: &str) -> Option<Liveness> {
        let own = self.agents.get(&agent.parse().unwrap());
        own.map(|own| own.liveness)
    }

    fn names(&self) -> Vec<String> {
        let all = self.agents.all().into_iter();
        let mut names: Vec<_> = all.map(|own| own.agent.agent_id.to_string()).collect();
        names.sort();
        names
    }

    fn wants_record(&self) -> bool {
        self.agents.statuses().iter().any(|one| one.wants_record)
    }
}

#[test]
fn an_agent_without_signs_of_life_is_suspect_then_gone_and_lives_when_it_is_heard() {
    let bench = Bench::new();
    bench.take("analyst", 5);
    assert_eq!(bench.agents.next_change_in(), Some(TTL));
    bench.clock.advance(TTL);
    assert_eq!(bench.liveness("analyst"), Some(Liveness::Suspect));
    assert!(bench.agents.records().is_empty(), "nobody vouches for it");
    assert_eq!(bench.agents.next_change_in(), Some(TTL));
    bench.clock.advance(TTL);
    assert_eq!(bench.liveness("analyst"), Some(Liveness::Gone));
    assert_eq!(bench.agents.next_change_in(), None);
    bench.agents.heard(&"analyst".parse().unwrap());
    assert_eq!(bench.liveness("analyst"), Some(Liveness::Live));
    assert_eq!(bench.agents.records().len(), 1);
}

#[test]
fn what_is_judged_otherwise_is_news_and_a_sign_of_life_of_the_living_is_none() {
    let bench = Bench::new();
    bench.take("analyst", 5);
    let mut versions = bench.agents.versions();
    let id = "analyst".parse().unwrap();
    bench.agents.heard(&id);
    bench.agents.statuses();
    assert!(!versions.has_changed().unwrap());
    bench.clock.advance(TTL);
    bench.agents.statuses();
    assert!(versions.has_changed().unwrap());
    versions.mark_unchanged();
    bench.agents.heard(&id);
    assert!(versions.has_changed().unwrap(), "it is back");
    versions.mark_unchanged();
    bench.agents.end(&id, 4);
    assert!(!versions.has_changed().unwrap(), "of an earlier epoch");
    bench.agents.end(&id, 5);
    assert!(versions.has_changed().unwrap());
    assert_eq!(bench.liveness("analyst"), None);
}

#[test]
fn an_earlier_registration_changes_nothing_and_an_update_is_no_sign_of_life() {
    let bench = Bench::new();
    bench.take("analyst", 5);
    bench.clock.advance(TTL);
    bench.take("analyst", 4);
    let epoch = |bench: &Bench| {
        bench
            .agents
            .get(&"analyst".parse().unwrap())
            .unwrap()
            .agent
            .epoch
    };
    assert_eq!(epoch(&bench), 5);
    bench.take("analyst", 5);
    assert_eq!(bench.liveness("analyst"), Some(Liveness::Suspect));
    bench.take("analyst", 6);
    assert_eq!(
        (epoch(&bench), bench.liveness("analyst")),
        (6, Some(Liveness::Live))
    );
}

#[test]
fn records_are_wanted_at_half_of_their_life_and_when_something_is_another() {
    let bench = Bench::new();
    bench.take("analyst", 5);
    assert!(!bench.wants_record());
    bench.clock.advance(Duration::from_secs(1800));
    assert!(bench.wants_record());
    bench.take("analyst", 5);
    assert!(!bench.wants_record());
    bench.agents.want_record(&"analyst".parse().unwrap());
    assert!(bench.wants_record());
    let mut without = own("analyst", 5);
    without.signed_record.clear();
    bench.agents.take(without).unwrap();
    assert!(bench.wants_record(), "none came");
    bench.take("analyst", 5);
    assert!(!bench.wants_record());
}

#[test]
fn what_the_registry_no_longer_has_is_dropped_but_not_what_came_meanwhile() {
    let bench = Bench::new();
    for agent in ["a", "b", "c"] {
        bench.take(agent, 5);
    }
    let mark = bench.agents.mark();
    bench.take("new", 6);
    let told = vec![own("b", 5), own("c", 4), own("d", 2)];
    bench.agents.keep_only(mark, told).unwrap();
    assert_eq!(
        bench.names(),
        ["b", "d", "new"],
        "c has ended with its epoch"
    );
}

#[test]
fn an_answer_that_cannot_be_read_drops_nothing() {
    let bench = Bench::new();
    bench.take("a", 5);
    let mut foreign = own("b", 5);
    if let Some(agent) = &mut foreign.agent {
        agent.machine_id = MachineId::from_uuid(Uuid::from_u128(8)).to_string();
    }
    assert_eq!(
        bench.agents.take(foreign.clone()).unwrap_err(),
        NotUnderstood
    );
    let mark = bench.agents.mark();
    let told = bench.agents.keep_only(mark, vec![foreign, own("c", 5)]);
    assert_eq!(told, Err(NotUnderstood));
    assert_eq!(bench.names(), ["a", "c"]);
}

#[tokio::test]
async fn after_a_restart_each_has_one_time_to_live_to_be_heard_again() {
    let bench = Bench::new();
    bench.take("analyst", 5);
    let stop = CancellationToken::new();
    stop.cancel();
    bench.agents.clone().keep_saved(stop).await;
    bench.clock.advance(TTL * 3);
    let again = Agents::open(bench.dir.path(), machine(), bench.clock.clone()).unwrap();
    let own = again.get(&"analyst".parse().unwrap()).unwrap();
    assert_eq!(own.liveness, Liveness::Live);
    assert_eq!(own.agent.trust_level, 700);
    assert_eq!(again.records().len(), 1);
    assert!(
        again.statuses()[0].wants_record,
        "how old it is, nobody knows"
    );
    bench.clock.advance(TTL);
    let own = again.get(&"analyst".parse().unwrap()).unwrap();
    assert_eq!(own.liveness, Liveness::Suspect);
}

#[test]
fn a_damaged_file_is_named_and_another_machines_agents_are_left_out() {
    let bench = Bench::new();
    bench.take("analyst", 5);
    bench.agents.save().unwrap();
    let other = MachineId::from_uuid(Uuid::from_u128(8));
    let open = |machine| Agents::open(bench.dir.path(), machine, bench.clock.clone());
    assert!(open(other).unwrap().all().is_empty());
    let path = bench.dir.path().join("agents.json");
    for text in ["", "{", r#"{"version":2,"agents":[]}"#] {
        std::fs::write(&path, text).unwrap();
        let error = open(machine()).unwrap_err().to_string();
        assert!(
            error.contains("agents.json") && error.contains("damaged"),
            "{error}"
        );
    }
}
