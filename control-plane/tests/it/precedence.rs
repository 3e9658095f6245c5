//! What operators do comes before load, also before that of whom it is done
//! to: share locks of rows that overlap for ever hold up nobody's ban.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use authguardian_proto::{credential::ApiKey, reason::Reason, zone::Zone};
use control_plane::{
    error::Result,
    identity::{
        Machine, Session, TermsChange,
        api_key::{KeyChanges, lock_api_keys},
        machine::{MachineRef, lock_machines},
        membership::Expulsion,
    },
};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    rig::{Rig, admin, anonymous, ask, caller, requested_key},
    wait::{until, until_async},
};

/// Far less than a lock is waited for, and more than a busy machine takes.
const PROMPT: Duration = Duration::from_secs(3);

/// Calls of one key at one machine, as fast as they are answered.
struct Load {
    key: ApiKey,
    session: Arc<Session>,
    /// With what they are refused, once they are.
    refused: &'static [Reason],
    /// The act has begun; it has been done.
    begun: AtomicBool,
    done: AtomicBool,
    stop: AtomicBool,
    challenges: AtomicUsize,
    logins: AtomicUsize,
    decisions: AtomicUsize,
}

impl Load {
    async fn of(rig: &Rig, name: &str, refused: &'static [Reason]) -> Self {
        let key = rig.api_key(&["data_analyst"], false).await;
        let machine = rig.machine(name).await;
        Self {
            session: rig.session(machine, &key).await,
            key,
            refused,
            begun: AtomicBool::new(false),
            done: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            challenges: AtomicUsize::new(0),
            logins: AtomicUsize::new(0),
            decisions: AtomicUsize::new(0),
        }
    }

    /// Until `stop`, one kind of call after the other.
    async fn run(&self, rig: &Rig, number: usize) {
        let identity = &rig.app.identity;
        let (machine, key) = (self.session.machine, self.key.id());
        while !self.stop.load(Ordering::SeqCst) {
            let done = self.done.load(Ordering::SeqCst);
            let (outcome, count) = match number % 3 {
                0 => {
                    let challenge = identity.create_challenge(machine, key).await;
                    (challenge.map(|_| ()), &self.challenges)
                }
                1 => (self.log_in(rig).await, &self.logins),
                _ => {
                    let decision = rig.request(&self.session, ask(&self.session)).await;
                    (decision.map(|_| ()), &self.decisions)
                }
            };
            match outcome {
                Ok(()) => {
                    assert!(!done, "served, although asked after the act: {number}");
                    count.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => {
                    assert!(self.begun.load(Ordering::SeqCst), "{error:?}");
                    assert!(self.refused.contains(&error.reason()), "{error:?}");
                }
            }
        }
    }

    async fn log_in(&self, rig: &Rig) -> Result<()> {
        let identity = &rig.app.identity;
        let (machine, key) = (self.session.machine, self.key.id());
        let (nonce, _) = identity.create_challenge(machine, key).await?;
        let signature = self.key.sign_nonce(&nonce).unwrap();
        let zone = Zone::LocalMachine;
        let login = identity.create_session(anonymous(), machine, key, &nonce, &signature, zone);
        login.await.map(|_| ())
    }

    fn counts(&self) -> [usize; 3] {
        [&self.challenges, &self.logins, &self.decisions].map(|count| count.load(Ordering::SeqCst))
    }

    /// Until so many more calls of each kind were served.
    async fn serves(&self, more: usize) {
        let before = self.counts();
        until("the load runs", || {
            let now = self.counts().into_iter().zip(before);
            now.into_iter().all(|(now, before)| now >= before + more)
        })
        .await;
    }

    /// Carries out an act while 24 callers go on, 12 at each control plane.
    async fn during<T>(&self, rigs: [&Rig; 2], act: impl Future<Output = T>) -> T {
        let callers = (0..24).map(|number| self.run(rigs[number / 3 % 2], number));
        let acting = async {
            self.serves(20).await;
            let outcome = act.await;
            self.done.store(true, Ordering::SeqCst);
            // who asks now is refused
            for rig in rigs {
                let refused = self.log_in(rig).await.unwrap_err().reason();
                assert!(self.refused.contains(&refused), "{refused}");
            }
            self.stop.store(true, Ordering::SeqCst);
            outcome
        };
        futures::join!(acting, futures::future::join_all(callers)).0
    }

    fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }
}

/// Fails unless it is done at once.
async fn prompt<T>(what: &str, act: impl Future<Output = Result<T>>) -> T {
    let outcome = tokio::time::timeout(PROMPT, act).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("held up: {what}"));
    outcome.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

async fn ban(rig: &Rig, machine: &MachineRef) -> Result<Machine> {
    let grants = &rig.app.grants;
    let banned = grants.expel_machine(admin(), machine, Expulsion::Ban, "");
    Ok(banned.await?.machine)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_is_not_held_up_by_the_machine_that_it_bans() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let refused = &[Reason::MachineBanned, Reason::SessionExpired];
    let load = Load::of(&rig, "culprit", refused).await;
    let culprit = MachineRef::Id(load.session.machine);
    let act = async {
        load.begin();
        prompt("the ban", ban(&rig, &culprit)).await
    };
    let banned = Box::pin(load.during([&rig, &other], act)).await;
    assert_eq!(banned.id, load.session.machine);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_of_a_key_is_not_held_up_by_its_use() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let load = Load::of(&rig, "host", &[Reason::ApiKeyRevoked]).await;
    let (identity, key) = (&rig.app.identity, load.key.id());
    let act = async {
        let changes = KeyChanges {
            allowed_networks: Some(["127.0.0.1".parse().unwrap()].into_iter().collect()),
            ..KeyChanges::default()
        };
        let narrowed = identity.update_api_key(admin(), key, changes);
        prompt("the change of limits", narrowed).await;
        load.begin();
        prompt("the revocation", identity.revoke_api_key(admin(), key)).await
    };
    let revoked = Box::pin(load.during([&rig, &other], act)).await;
    assert!(revoked.revoked_at.is_some());
}

/// Until so many transactions wait for a table.
async fn until_waiting(rig: &Rig, table: &str, count: i64) {
    until_async("they wait", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks
             WHERE NOT granted AND relation = $1::regclass
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .bind(table)
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
        waiting == count
    })
    .await;
}

/// Carries out an act while the row is share-locked: who share-locks it later
/// waits behind the act, and a challenge for nobody.
async fn goes_first<T: Send + 'static>(
    rig: &Rig,
    table: &str,
    session: &Session,
    act: BoxFuture<'static, Result<T>>,
) -> T {
    let lock = |mut tx: sqlx::Transaction<'static, sqlx::Postgres>, of_machine: bool| {
        let (machine, key) = (session.machine, session.api_key_id);
        async move {
            sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
                .execute(&mut *tx)
                .await
                .unwrap();
            if of_machine {
                lock_machines(&mut tx, &[machine]).await.unwrap();
            } else {
                lock_api_keys(&mut tx, &[key]).await.unwrap();
            }
            tx
        }
    };
    let of_machine = table == "machine";
    let earlier = lock(rig.app.db.begin().await.unwrap(), of_machine).await;
    let acting = tokio::spawn(act);
    until_waiting(rig, table, 1).await;
    let later = tokio::spawn(lock(rig.app.db.begin().await.unwrap(), of_machine));
    until_waiting(rig, table, 2).await;
    let challenge = rig
        .app
        .identity
        .create_challenge(session.machine, session.api_key_id);
    prompt("a challenge", challenge).await;
    rig.app.db.commit(earlier).await.unwrap();
    let outcome = acting.await.unwrap().unwrap();
    rig.app.db.commit(later.await.unwrap()).await.unwrap();
    outcome
}

#[tokio::test]
async fn who_locks_a_machine_or_a_key_later_waits_for_the_act_of_an_operator() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let named = MachineRef::Id(session.machine);
    let key = session.api_key_id;
    let narrower = TermsChange {
        max_zone: Some(Zone::TrustedNetwork),
        ..TermsChange::default()
    };
    let set = {
        let (identity, named) = (rig.app.identity.clone(), named.clone());
        async move { identity.update_machine(admin(), &named, narrower).await }.boxed()
    };
    goes_first(&rig, "machine", &session, set).await;
    let set = {
        let identity = rig.app.identity.clone();
        let changes = KeyChanges {
            rate_limit: Some(None),
            ..KeyChanges::default()
        };
        async move { identity.update_api_key(admin(), key, changes).await }.boxed()
    };
    goes_first(&rig, "api_key", &session, set).await;
    let revoke = {
        let identity = rig.app.identity.clone();
        async move { identity.revoke_api_key(admin(), key).await }.boxed()
    };
    // the challenge that is asked for meanwhile does not know of it yet
    goes_first(&rig, "api_key", &session, revoke).await;

    let assessor = rig.agent("risk_assessor", 850).await;
    for how in [Expulsion::Ban, Expulsion::Evict] {
        let named = MachineRef::Id(assessor.machine);
        if how == Expulsion::Evict {
            let unbanned = rig.app.identity.unban_machine(admin(), &named).await;
            unbanned.unwrap();
        }
        let grants = rig.app.grants.clone();
        let expel = async move { grants.expel_machine(admin(), &named, how, "").await }.boxed();
        goes_first(&rig, "machine", &assessor, expel).await;
    }
}

#[tokio::test]
async fn whoever_locks_a_key_and_a_machine_locks_the_key_first() {
    let rig = Rig::open().await;
    let key = rig.api_key(&["data_analyst"], false).await;
    let machine = rig.machine("host").await;
    let session = rig.session(machine, &key).await;
    let identity = &rig.app.identity;
    let (nonce, _) = identity.create_challenge(machine, key.id()).await.unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();

    let mut held = rig.database.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE machine IN EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    let (id, zone) = (key.id(), Zone::LocalMachine);
    let login = identity.create_session(anonymous(), machine, id, &nonce, &signature, zone);
    let renewal = identity.renew_session(caller(&session), &session);
    let decision = rig.request(&session, ask(&session));
    let release = async {
        until_waiting(&rig, "machine", 3).await;
        let hold_the_key: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks AS waiting JOIN pg_locks AS held USING (pid, database)
             WHERE NOT waiting.granted AND waiting.relation = 'machine'::regclass
               AND held.granted AND held.relation = 'api_key'::regclass
               AND held.mode = 'RowShareLock'
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
        held.rollback().await.unwrap();
        assert_eq!(hold_the_key, 3);
    };
    let (login, renewal, decision, ()) = futures::join!(login, renewal, decision, release);
    login.unwrap();
    renewal.unwrap();
    decision.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_of_one_certificate_at_once_are_all_served() {
    let rig = Rig::open().await;
    let other = rig.beside().await;
    let machine = rig.machine("host").await;
    for _ in 0..5 {
        let renewals = (0..16).map(|number| {
            let app = if number % 2 == 0 { &rig } else { &other };
            async move {
                let (_, key) = requested_key();
                let identity = &app.app.identity;
                prompt(
                    "a renewal",
                    identity.renew_certificate(admin(), machine, &key),
                )
                .await
            }
        });
        futures::future::join_all(renewals).await;
    }
    let named = MachineRef::Id(machine);
    prompt("the ban", ban(&rig, &named)).await;
    let (_, key) = requested_key();
    let refused = other.app.identity.renew_certificate(admin(), machine, &key);
    assert_eq!(refused.await.unwrap_err().reason(), Reason::MachineBanned);
}
