//! What a fence ends, and when one is put up without being asked for.

use authguardian_proto::{
    credential::{ApiKey, JoinToken},
    ids::MachineId,
    reason::Reason,
    zone::Zone,
};
use control_plane::{
    audit::{self, Context, Entry},
    backup::{Fenced, fence},
    budgets::AsOf,
    error::Error,
    grants::Decision,
    identity::{Session, join::NewJoinToken, session::MadeSession},
};
use sqlx::PgConnection;

use crate::{
    budgets::terms,
    rig::{Rig, admin, anonymous, requested_key},
    wait::until_async,
};

async fn put_up(rig: &Rig) -> Fenced {
    let url = rig.config.database.url.expose();
    fence::in_place(url, &rig.app.ambient, AsOf::Unknown)
        .await
        .unwrap()
}

async fn log_in(rig: &Rig, machine: MachineId, key: &ApiKey) -> MadeSession {
    let identity = &rig.app.identity;
    let (nonce, _) = identity.create_challenge(machine, key.id()).await.unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();
    identity
        .create_session(
            anonymous(),
            machine,
            key.id(),
            &nonce,
            &signature,
            Zone::LocalMachine,
        )
        .await
        .unwrap()
}

/// What the control plane says of a grant's token.
async fn verdict(rig: &Rig, session: &Session, decision: &Decision) -> Option<Reason> {
    let token = decision.token.as_deref().unwrap();
    let (agent, resource_type) = (&decision.record.agent_id, &decision.record.resource_type);
    let grants = &rig.app.grants;
    let found = grants.validate(session, token, agent, resource_type).await;
    found.unwrap().refused
}

#[tokio::test]
async fn what_was_given_before_a_fence_has_ended() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let (kept, lost) = (rig.granted(&session).await, rig.granted(&session).await);
    let key = rig.api_key(&["data_analyst"], false).await;
    let before = log_in(&rig, session.machine, &key).await;
    let new = NewJoinToken::of("late".parse().unwrap());
    let (join_token, _) = rig
        .app
        .identity
        .create_join_token(admin(), new)
        .await
        .unwrap();
    let join_token: JoinToken = join_token.unwrap().parse().unwrap();
    assert_eq!(verdict(&rig, &session, &kept).await, None);

    let fenced = put_up(&rig).await;
    assert_eq!((fenced.epoch_before, fenced.grants_ended), (1, 2));
    // that of its machine too, which could be repeated
    assert_eq!(fenced.join_tokens_ended, 2);
    let identity = &rig.app.identity;
    identity.reload_standings().await.unwrap();
    assert_eq!(identity.restored_epoch(), fenced.epoch);
    let refused = identity.authenticate(&before.token, session.machine).await;
    assert_eq!(reason(refused), Reason::SessionExpired);
    let (_, requested) = requested_key();
    let refused = identity.join(anonymous(), &join_token, &requested).await;
    assert_eq!(reason(refused), Reason::JoinTokenInvalid);

    let after = log_in(&rig, session.machine, &key).await;
    let machine = session.machine;
    identity.authenticate(&after.token, machine).await.unwrap();
    // one that was given after the backup is not in the database
    sqlx::query("DELETE FROM permission_grant WHERE id = $1")
        .bind(lost.record.id.as_uuid())
        .execute(rig.database.pool())
        .await
        .unwrap();
    for decision in [&kept, &lost] {
        let found = verdict(&rig, &after.session, decision).await;
        assert_eq!(found, Some(Reason::GrantRevoked));
    }
    let given = rig.granted(&after.session).await;
    assert_eq!(given.record.position.epoch, fenced.epoch);
    assert_eq!(verdict(&rig, &after.session, &given).await, None);
}

#[tokio::test]
async fn an_epoch_of_a_restore_is_none_that_the_lost_database_can_have_come_to() {
    let rig = Rig::open().await;
    let now = rig.app.ambient.clock.now().unix_timestamp();
    let first = put_up(&rig).await;
    assert_eq!(first.epoch, now);
    // at the same moment once more: higher all the same
    let second = put_up(&rig).await;
    assert_eq!((second.epoch_before, second.epoch), (now, now + 1));
    // a promotion goes on from there
    sqlx::query("UPDATE installation SET timeline = 0")
        .execute(rig.database.pool())
        .await
        .unwrap();
    let other = rig.beside().await;
    assert_eq!(epoch(&other).await, (now + 2, now + 1));
}

#[tokio::test]
async fn the_log_after_a_fence_names_the_head_of_the_one_before() {
    let rig = Rig::open().await;
    let before = logs(&rig).await;
    let fenced = put_up(&rig).await;
    let after = logs(&rig).await;
    assert_eq!(after.len(), before.len() + 1);
    let (old, new) = (&after[after.len() - 2], &after[after.len() - 1]);
    assert!(old.ended_at.is_some() && new.ended_at.is_none());
    assert_eq!(new.epoch, fenced.epoch);
    assert_ne!(new.origin, old.origin);
    let told = format!("epoch 1 to {}", fenced.epoch);
    for (action, subject) in [
        ("installation.restore", told.as_str()),
        ("grant.revoke_matching", "everything"),
    ] {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM audit_trail WHERE action = $1 AND subject = $2",
        )
        .bind(action)
        .bind(subject)
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
        assert_eq!(count, 1, "{action}");
    }
}

#[tokio::test]
async fn a_database_on_another_server_is_fenced_by_whoever_serves_it() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let decision = rig.granted(&session).await;
    assert_eq!(epoch(&rig).await, (1, 0));
    // by a control plane that is running
    forget_server(&rig).await;
    until_async("it was fenced", async || epoch(&rig).await.1 > 0).await;
    let (first, restored) = epoch(&rig).await;
    assert_eq!(first, restored);
    until_async("the control plane knows", async || {
        rig.app.identity.restored_epoch() == restored
    })
    .await;
    let again = rig.agent("orchestrator", 900).await;
    let found = verdict(&rig, &session, &decision).await;
    assert_eq!(found, Some(Reason::GrantRevoked));
    // and by one that starts
    let decision = rig.granted(&again).await;
    rig.app.stop.cancel();
    forget_server(&rig).await;
    let other = rig.beside().await;
    assert_eq!(epoch(&other).await.1, first + 1);
    let found = verdict(&other, &again, &decision).await;
    assert_eq!(found, Some(Reason::GrantRevoked));
}

#[tokio::test]
async fn a_restore_that_was_begun_is_ended_by_whoever_serves_the_database() {
    let rig = Rig::open().await;
    rig.app.stop.cancel();
    sqlx::query("CREATE TABLE unfenced_restore ()")
        .execute(rig.database.pool())
        .await
        .unwrap();
    let other = rig.beside().await;
    let (now, restored) = epoch(&other).await;
    assert_eq!((now, now > 1), (restored, true));
    let mark: Option<String> = sqlx::query_scalar("SELECT to_regclass('unfenced_restore')::text")
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
    assert_eq!(mark, None);
    let third = rig.beside().await;
    assert_eq!(epoch(&third).await, (now, now), "it was fenced once");
}

#[tokio::test]
async fn a_fence_waits_for_acts_that_have_locked_what_it_ends() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("host").await;
    rig.slice(&mut machine, "t", 1).await;
    let (db, ambient) = (&rig.app.db, &rig.app.ambient);
    for lock in [
        // that of the machine, which a fence ends once
        "SELECT FROM join_token FOR UPDATE",
        "SELECT FROM budget FOR UPDATE",
        "SELECT FROM budget_slice FOR UPDATE",
    ] {
        let mut act = rig.database.pool().begin().await.unwrap();
        let locked = sqlx::query(lock).execute(&mut *act).await.unwrap();
        assert!(locked.rows_affected() > 0, "{lock}");
        let (before, _) = epoch(&rig).await;
        // once: a deadlock would be an error of one of both
        let mut fencing = db.begin().await.unwrap();
        let pid = backend(&mut fencing).await;
        let fence = fence::fence(&mut fencing, ambient, "example.org", before, AsOf::Unknown);
        let acts = async {
            waiting(&rig, &[pid]).await;
            let entry = Entry::ok(Context::system(), "test.act", lock);
            let told = audit::append(&mut act, ambient.clock.now(), &[entry]).await;
            told.unwrap_or_else(|error| panic!("{lock}: {error}"));
            act.commit().await.unwrap();
        };
        let (fenced, ()) = tokio::join!(fence, acts);
        let fenced = fenced.unwrap_or_else(|error| panic!("{lock}: {error}"));
        assert_eq!(fenced.unwrap().budgets_held, 1);
        db.commit(fencing).await.unwrap();
    }
}

#[tokio::test]
async fn control_planes_that_arrive_at_once_fence_a_database_once() {
    let rig = Rig::open().await;
    rig.app.stop.cancel();
    let ambient = &rig.app.ambient;
    let before = logs(&rig).await.len();
    // both have seen that it was restored before one of them has fenced it
    let pool = rig.database.pool();
    let mut act = pool.begin().await.unwrap();
    let entry = Entry::ok(Context::system(), "test.act", "on its way");
    audit::append(&mut act, ambient.clock.now(), &[entry])
        .await
        .unwrap();
    forget_server(&rig).await;
    let (mut first, mut second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let pids = [backend(&mut first).await, backend(&mut second).await];
    let arrive = async |connection| {
        let arrived = fence::arrive(connection, ambient, "example.org").await;
        arrived.unwrap();
    };
    let goes_on = async {
        waiting(&rig, &pids).await;
        act.commit().await.unwrap();
    };
    tokio::join!(arrive(&mut first), arrive(&mut second), goes_on);
    let (now, restored) = epoch(&rig).await;
    assert_eq!((now, now > 1), (restored, true));
    assert_eq!(logs(&rig).await.len(), before + 1);
}

/// The server's process of a connection.
async fn backend(connection: &mut PgConnection) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Waits until all of these connections wait for locks.
async fn waiting(rig: &Rig, pids: &[i32]) {
    until_async("they wait for locks", async || {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1) AND wait_event_type = 'Lock'",
        )
        .bind(pids)
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
        usize::try_from(count) == Ok(pids.len())
    })
    .await;
}

#[tokio::test]
async fn a_fence_that_meets_a_deadlock_begins_again() {
    let rig = Rig::open().await;
    // a sequence is not rolled back
    sqlx::raw_sql(
        "CREATE SEQUENCE attempt;
         CREATE FUNCTION fail_twice() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('attempt') < 3 THEN
                 RAISE EXCEPTION 'met' USING ERRCODE = 'deadlock_detected';
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER fails BEFORE UPDATE OF epoch ON installation FOR EACH ROW EXECUTE FUNCTION fail_twice()",
    )
    .execute(rig.database.pool())
    .await
    .unwrap();
    let before = logs(&rig).await.len();
    let fenced = put_up(&rig).await;
    assert_eq!(epoch(&rig).await, (fenced.epoch, fenced.epoch));
    assert_eq!(logs(&rig).await.len(), before + 1);
    let attempts: i64 = sqlx::query_scalar("SELECT last_value FROM attempt")
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
    assert_eq!(attempts, 3);
}

/// What a restore looks like from inside: the server is not the one on record.
async fn forget_server(rig: &Rig) {
    sqlx::query("UPDATE installation SET system_identifier = 'another'")
        .execute(rig.database.pool())
        .await
        .unwrap();
}

/// The epoch, and that of the newest restore.
async fn epoch(rig: &Rig) -> (i64, i64) {
    sqlx::query_as("SELECT epoch, restored_epoch FROM installation")
        .fetch_one(rig.database.pool())
        .await
        .unwrap()
}

async fn logs(rig: &Rig) -> Vec<audit::log::Log> {
    let mut connection = rig.app.db.read().await.unwrap();
    audit::log::logs(&mut connection).await.unwrap()
}

fn reason<T>(outcome: Result<T, Error>) -> Reason {
    match outcome {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.reason(),
    }
}
