//! Suspension: nothing that matches is given or renewed until it is lifted,
//! and nothing slips past, however busy the system is.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use authguardian_proto::reason::Reason;
use control_plane::{
    events::{ChangeBody, Message, Position, Stream, SuspensionTarget},
    grants::{Decision, Filter, GrantState},
    identity::Session,
    policy::{Engine, Suspensions, lock_active},
};
use serde_json::json;

use crate::{
    grants::refusal,
    operator::Operator,
    rig::{Rig, admin, ask, caller, with_id},
    wait::{until, until_async},
};

const EVERYTHING: SuspensionTarget = SuspensionTarget::Everything;

/// The reasons for which this session is denied now; none when it is granted.
async fn denial(rig: &Rig, session: &Arc<Session>) -> Vec<String> {
    rig.granted(session).await.record.reasons
}

async fn suspend(rig: &Rig, target: SuspensionTarget) -> i64 {
    let suspended = rig.app.grants.suspend(admin(), target, "drill").await;
    suspended.unwrap().ended
}

async fn resume(rig: &Rig, target: SuspensionTarget) -> bool {
    let lifted = rig.app.identity.resume(admin(), target, "").await;
    lifted.unwrap().is_some()
}

async fn renew(rig: &Rig, session: &Arc<Session>, decision: &Decision) -> Result<Decision, Reason> {
    let token = decision.token.as_deref().unwrap();
    let grants = &rig.app.grants;
    let renewal = grants.renew(caller(session), Arc::clone(session), token, None);
    renewal.await.map_err(|error| error.reason())
}

#[tokio::test]
async fn what_is_suspended_loses_its_grants_and_gets_none_until_it_is_resumed() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let analyst = rig.analyst().await;
    let assessor = rig.agent("risk_assessor", 850).await;
    let targets = [
        SuspensionTarget::Agent(analyst.agents[0].clone()),
        SuspensionTarget::Machine(analyst.machine),
        SuspensionTarget::ResourceType("SAP_API".parse().unwrap()),
        EVERYTHING,
    ];
    for target in targets {
        let (before, foreign) = (rig.granted(&analyst).await, rig.granted(&assessor).await);
        let spared = matches!(
            target,
            SuspensionTarget::Agent(_) | SuspensionTarget::Machine(_)
        );
        assert_eq!(
            suspend(&rig, target.clone()).await,
            if spared { 1 } else { 2 },
            "{target}"
        );
        let ended = refusal(&other, &analyst, &before).await;
        assert_eq!(ended, Some(Reason::GrantRevoked), "{target}");
        let untouched = refusal(&other, &assessor, &foreign).await.is_none();
        assert_eq!(untouched, spared, "{target}");

        let denied = other.granted(&analyst).await.record;
        assert_eq!(denied.reasons, ["SUSPENDED"], "{target}");
        assert_eq!(denied.policy_ids, ["builtin-suspended"], "{target}");
        assert!(denied.facts.contains(r#""suspended":true"#), "{target}");
        assert_eq!(
            denial(&other, &assessor).await.is_empty(),
            spared,
            "{target}"
        );
        let renewal = renew(&other, &analyst, &before).await;
        assert_eq!(renewal.unwrap_err(), Reason::GrantRevoked, "{target}");

        assert!(resume(&other, target.clone()).await, "{target}");
        let ended = refusal(&rig, &analyst, &before).await;
        assert_eq!(ended, Some(Reason::GrantRevoked), "ended ones stay ended");
        assert_eq!(denial(&rig, &analyst).await, Vec::<String>::new());
        rig.app
            .grants
            .revoke_matching(admin(), EVERYTHING.into(), "")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_renewal_through_a_suspended_machine_is_denied_and_the_grant_stays() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let decision = rig.granted(&session).await;
    let key = rig.api_key(&["data_analyst"], false).await;
    let second = rig.machine("second").await;
    let elsewhere = rig.session(second, &key).await;
    let machine = SuspensionTarget::Machine(second);
    assert_eq!(suspend(&rig, machine.clone()).await, 0);
    let denied = renew(&rig, &elsewhere, &decision).await.unwrap();
    assert_eq!(denied.record.reasons, ["SUSPENDED"]);
    assert_eq!(denied.token, None);
    assert_eq!(refusal(&rig, &session, &decision).await, None);
    assert!(resume(&rig, machine).await);
    let renewed = renew(&rig, &elsewhere, &decision).await.unwrap();
    assert!(renewed.token.is_some());
}

#[tokio::test]
async fn suspending_and_resuming_twice_succeed_and_each_act_is_audited() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    rig.granted(&session).await;
    let target = SuspensionTarget::Agent(session.agents[0].clone());
    assert!(!resume(&rig, target.clone()).await);
    let first = rig
        .app
        .grants
        .suspend(with_id(admin(), "one"), target.clone(), "first")
        .await
        .unwrap();
    assert_eq!(first.ended, 1);
    let repeated = rig
        .app
        .grants
        .suspend(with_id(admin(), "one"), target.clone(), "first")
        .await
        .unwrap();
    assert_eq!(repeated, first, "the outcome of the same request");
    let other = rig
        .app
        .grants
        .suspend(with_id(admin(), "one"), EVERYTHING, "first")
        .await;
    assert_eq!(other.unwrap_err().reason(), Reason::RequestIdReused);
    let again = rig
        .app
        .grants
        .suspend(admin(), target.clone(), "second")
        .await
        .unwrap();
    assert_eq!((again.position, again.ended), (None, 0));
    assert_eq!(again.suspension, first.suspension, "it stays as it was");
    assert_eq!(
        rig.app.identity.list_suspensions().await.unwrap(),
        [first.suspension]
    );
    assert!(resume(&rig, target.clone()).await);
    assert!(!resume(&rig, target).await);
    assert!(
        rig.app
            .identity
            .list_suspensions()
            .await
            .unwrap()
            .is_empty()
    );
    let audited: Vec<(String, i64)> = sqlx::query_as(
        "SELECT action, count(*) FROM audit_trail
         WHERE subject = 'agent:data_analyst' AND agent_id IS NOT DISTINCT FROM
               CASE WHEN action LIKE 'suspension.%' THEN 'data_analyst' END
         GROUP BY action ORDER BY action",
    )
    .fetch_all(rig.database.pool())
    .await
    .unwrap();
    let counted = |action: &str, count| (action.to_owned(), count);
    assert_eq!(
        audited,
        [
            counted("grant.revoke_matching", 1),
            counted("suspension.begin", 2),
            counted("suspension.lift", 3),
        ]
    );
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let decisions = [rig.granted(&session).await, rig.granted(&session).await];
    let would = rig.app.grants.would_end(EVERYTHING).await.unwrap();
    assert_eq!(would, 2);
    for decision in &decisions {
        assert_eq!(refusal(&rig, &session, decision).await, None);
    }
    let mistyped = SuspensionTarget::ResourceType("SAP_APY".parse().unwrap());
    for refused in [
        rig.app.grants.would_end(mistyped.clone()).await.err(),
        rig.app.grants.suspend(admin(), mistyped, "").await.err(),
    ] {
        let problem = refused.unwrap().problem().clone();
        assert_eq!(problem.reason, Reason::UnknownResourceType);
        assert_eq!(problem.field.as_deref(), Some("resource_type"));
    }
    assert_eq!(denial(&rig, &session).await, Vec::<String>::new());
}

#[tokio::test]
async fn whoever_watches_hears_of_suspensions() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let mut changes = other
        .app
        .publisher
        .subscribe(&[(Stream::Identity, None)])
        .await
        .unwrap();
    suspend(&rig, EVERYTHING).await;
    resume(&rig, EVERYTHING).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        if let Message::Changes(more) = changes.next().await.unwrap() {
            told.extend(more.into_iter().map(|change| change.body));
        }
    }
    let body = |suspended| ChangeBody::SuspensionChanged {
        target: EVERYTHING,
        suspended,
    };
    assert_eq!(told, [body(true), body(false)]);
}

#[tokio::test]
async fn the_number_of_suspensions_is_bounded_but_everything_can_always_be_suspended() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    sqlx::query(
        "INSERT INTO suspension (kind, subject, created_at, created_by, comment)
         SELECT 'agent', 'agent_' || number, now(), 'system', '' FROM generate_series(1, 1000) AS number",
    )
    .execute(rig.database.pool())
    .await
    .unwrap();
    let agent = SuspensionTarget::Agent(session.agents[0].clone());
    let refused = rig.app.grants.suspend(admin(), agent, "").await;
    assert_eq!(refused.unwrap_err().reason(), Reason::ResourceExhausted);
    suspend(&rig, EVERYTHING).await;
    assert_eq!(denial(&rig, &session).await, ["SUSPENDED"]);
    assert!(resume(&rig, EVERYTHING).await);
    assert_eq!(denial(&rig, &session).await, Vec::<String>::new());
}

/// Until so many transactions wait for those who judge, or who suspend.
async fn until_waiting(rig: &Rig, count: i64) {
    until_async("they wait", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks
             WHERE NOT granted AND relation = 'active_suspensions'::regclass
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
        waiting == count
    })
    .await;
}

#[tokio::test]
async fn a_suspension_waits_for_who_judges_now_and_who_comes_later_waits_for_it() {
    let rig = Rig::open().await;
    let mut judging = rig.app.db.begin().await.unwrap();
    let seen = lock_active(&mut judging, &Engine::default()).await.unwrap();
    assert_eq!(seen.suspensions, Suspensions::default());
    let suspending = tokio::spawn({
        let grants = rig.app.grants.clone();
        async move { grants.suspend(admin(), EVERYTHING, "").await }
    });
    until_waiting(&rig, 1).await;
    // it does not join in, which could go on for ever
    let later = tokio::spawn({
        let db = rig.app.db.clone();
        async move { lock_active(&mut db.begin().await.unwrap(), &Engine::default()).await }
    });
    until_waiting(&rig, 2).await;
    rig.app.db.commit(judging).await.unwrap();
    assert!(suspending.await.unwrap().unwrap().position.is_some());
    let everything: Suspensions = [EVERYTHING].into_iter().collect();
    assert_eq!(later.await.unwrap().unwrap().suspensions, everything);
}

/// Asks for grants as fast as it can, and keeps what it was told.
struct Load {
    granted: Mutex<Vec<Decision>>,
    made: AtomicUsize,
    suspended: AtomicBool,
    stop: AtomicBool,
}

impl Load {
    /// Requests, and a renewal of each grant, until `stop`.
    async fn run(&self, rig: &Rig, session: &Arc<Session>) {
        while !self.stop.load(Ordering::SeqCst) {
            let suspended = self.suspended.load(Ordering::SeqCst);
            let decision = rig.request(session, ask(session)).await.unwrap();
            if decision.state == GrantState::Denied {
                assert_eq!(decision.record.reasons, ["SUSPENDED"]);
                continue;
            }
            assert!(!suspended, "granted, although asked after the suspension");
            if decision.token.is_some() {
                match renew(rig, session, &decision).await {
                    Ok(renewed) => assert!(renewed.record.granted || renewed.token.is_none()),
                    Err(reason) => assert_eq!(reason, Reason::GrantRevoked),
                }
            }
            self.granted.lock().unwrap().push(decision);
            self.made.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grant_in_flight_slips_past_a_suspension_and_load_does_not_hold_it_up() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let session = rig.analyst().await;
    let target = SuspensionTarget::Agent(session.agents[0].clone());
    let filter = Filter {
        agents: Some(session.agents.clone()),
        state: Some(GrantState::Active),
        ..Filter::default()
    };
    for round in 0..5 {
        let load = Load {
            granted: Mutex::default(),
            made: AtomicUsize::new(0),
            suspended: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        let callers = (0..24).map(|number| {
            let app = if number % 2 == 0 { &rig } else { &other };
            load.run(app, &session)
        });
        let brake = async {
            until("the load runs", || {
                load.made.load(Ordering::SeqCst) >= 60 + 13 * round
            })
            .await;
            let asked = tokio::time::Instant::now();
            let suspended = rig.app.grants.suspend(admin(), target.clone(), "race");
            // share locks that overlap for ever must not keep it waiting
            let suspended = tokio::time::timeout(Duration::from_secs(10), suspended).await;
            let suspended = suspended.expect("it is not held up").unwrap();
            load.suspended.store(true, Ordering::SeqCst);
            let active = other.app.grants.list(&filter, None, 10).await.unwrap();
            assert!(active.is_empty(), "round {round}: {active:?}");
            load.stop.store(true, Ordering::SeqCst);
            tracing::info!(round, took = ?asked.elapsed(), ended = suspended.ended);
            suspended
        };
        let (suspended, _) = futures::join!(brake, futures::future::join_all(callers));
        let active = rig.app.grants.list(&filter, None, 10).await.unwrap();
        assert!(active.is_empty(), "round {round}: {active:?}");
        let position: Position = suspended.position.unwrap();
        let granted = load.granted.into_inner().unwrap();
        assert!(granted.len() >= 60);
        for decision in &granted {
            assert!(decision.record.position < position, "round {round}");
        }
        let tokens = granted.iter().filter(|decision| decision.token.is_some());
        let refusals = tokens.map(|decision| refusal(&other, &session, decision));
        for reason in futures::future::join_all(refusals).await {
            assert_eq!(reason, Some(Reason::GrantRevoked), "round {round}");
        }
        assert!(resume(&other, target.clone()).await);
    }
}

#[tokio::test]
async fn an_operator_suspends_looks_and_resumes_from_the_command_line() {
    let operator = Operator::start().await;
    let session = operator.rig.analyst().await;
    operator.rig.granted(&session).await;
    let by_agent = ["--agent", "data_analyst"];
    let with = |verb: &str, more: &[&str]| -> Vec<String> {
        [&[verb], &by_agent[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let json = async |args: Vec<String>| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        operator.json(&args).await
    };
    let dry = json(with("suspend", &["--dry-run"])).await;
    assert_eq!((&dry["ended"], &dry["dry_run"]), (&json!(1), &json!(true)));
    let unasked = ["suspend", "--agent", "data_analyst"];
    let refused = operator.refused(&unasked).await;
    assert_eq!(refused, (2, "INVALID_ARGUMENT".to_owned()));
    assert_eq!(denial(&operator.rig, &session).await, Vec::<String>::new());

    let suspended = json(with("suspend", &["--yes", "--comment", "looks odd"])).await;
    assert_eq!(suspended["ended"], 2);
    assert!(suspended["position"]["revision"].is_u64());
    assert_eq!(denial(&operator.rig, &session).await, ["SUSPENDED"]);
    let listed = operator.json(&["suspend", "list"]).await;
    assert_eq!(listed["items"][0]["target"], "agent:data_analyst");
    assert_eq!(listed["items"][0]["comment"], "looks odd");
    assert!(
        listed["items"][0]["created_by"]
            .as_str()
            .unwrap()
            .starts_with("adm_")
    );
    let status = operator.json(&["status"]).await;
    assert_eq!(status["suspensions"], json!(["agent:data_analyst"]));

    let would = json(with("resume", &["--dry-run"])).await;
    assert_eq!(would["lifted"]["target"], "agent:data_analyst");
    let resumed = json(with("resume", &["--yes"])).await;
    assert_eq!(resumed["lifted"]["target"], "agent:data_analyst");
    let resumed = json(with("resume", &["--yes"])).await;
    assert_eq!(resumed["lifted"], json!(null));
    assert_eq!(denial(&operator.rig, &session).await, Vec::<String>::new());
    let status = operator.json(&["status"]).await;
    assert_eq!(status["suspensions"], json!([]));

    let host = ["suspend", "--machine", "host-of-data-analyst", "--yes"];
    assert_eq!(operator.json(&host).await["ended"], 1);
    let unknown = ["suspend", "--machine", "nowhere", "--yes"];
    assert_eq!(operator.refused(&unknown).await.0, 3);
}
