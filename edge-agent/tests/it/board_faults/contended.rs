//! One key and one lock that two edges contend for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use authguardian_history::{Act, Answer, Call, LockHeld, Outcome, Recorder, Refusal, check};

use super::{rest::Rest, way::Way};
use crate::faults::{caller::AGENT, system::System};

/// Increments of both edges together.
const INCREMENTS: u64 = 10_000;
/// How long whoever is to lose a lock holds it.
const BRIEF: Duration = Duration::from_secs(2);
/// How long whoever is not to lose it does, at most.
const LONG: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_increments_of_two_edges_come_to_ten_thousand() {
    let system = System::start(2).await;
    let left = Arc::new(AtomicU64::new(INCREMENTS));
    let lost = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for edge in 0..2 {
        let target = system.target(edge);
        let way = Way::Rest(Rest::new(&target.url, AGENT, &target.api_key));
        let name = format!("counter-{edge}");
        clients.spawn(count(way, name, left.clone(), lost.clone()));
    }
    let done: u64 = clients.join_all().await.into_iter().sum();
    assert_eq!(done, INCREMENTS);
    let target = system.target(0);
    let way = Way::Rest(Rest::new(&target.url, AGENT, &target.api_key));
    let (count, _) = read(&way).await;
    assert_eq!(count, INCREMENTS);
    assert!(lost.load(Ordering::Relaxed) > 0, "they have not contended");
}

/// Increments until there are none left; returns how many it has done. Reads
/// only what somebody else has written.
async fn count(way: Way, name: String, left: Arc<AtomicU64>, lost: Arc<AtomicUsize>) -> u64 {
    let (mut done, mut attempt, mut known) = (0, 0, None);
    let take = |left: u64| left.checked_sub(1);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
    {
        known = loop {
            let (count, revision) = match known {
                Some(known) => known,
                None => read(&way).await,
            };
            let call = Call::Put {
                key: "counter".to_owned(),
                value: (count + 1).to_string(),
                if_revision: Some(revision),
                if_lock: None,
                ttl: None,
            };
            attempt += 1;
            match way.ask(&call, &format!("{name}-{attempt}")).await {
                Outcome::Done(answer) => break Some((count + 1, answer.position().revision)),
                Outcome::Refused(Refusal::Conflict) => {
                    known = None;
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                other => panic!("{other:?}"),
            }
        };
        done += 1;
    }
    done
}

/// What the counter says, and its revision.
async fn read(way: &Way) -> (u64, u64) {
    let call = Call::Get {
        key: "counter".to_owned(),
    };
    match way.ask(&call, "").await {
        Outcome::Done(Answer::Found { entry, .. }) => {
            (entry.value.unwrap().parse().unwrap(), entry.revision)
        }
        Outcome::Refused(Refusal::NotFound) => (0, 0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_two_edges_is_held_by_one_and_a_late_holder_is_fenced() {
    let system = System::start(2).await;
    let clock = tokio::time::Instant::now();
    let recorder = Recorder::new(move || clock.elapsed());
    let ways = [0, 1].map(|edge| {
        let target = system.target(edge);
        Way::Rest(Rest::new(&target.url, AGENT, &target.api_key))
    });
    let contenders = ways.iter().enumerate().flat_map(|(edge, way)| {
        (0..4).map({
            let recorder = &recorder;
            move |number| contend(way, format!("holder-{edge}-{number}"), recorder)
        })
    });
    futures::future::join_all(contenders).await;
    late(&ways, &recorder).await;
    let history = recorder.history();
    check::locks(&history).unwrap_or_else(|violation| panic!("{violation}"));
    let report = check::linearizable(&history).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.expiries > 0, "{report}");
}

/// Takes the lock, writes under it and leaves it, a few times.
async fn contend(way: &Way, name: String, recorder: &Recorder) {
    for turn in 0..10 {
        let mut attempt = 0;
        let fencing = loop {
            attempt += 1;
            let id = format!("{name}-{turn}-{attempt}");
            if let Some(fencing) = take(way, &name, &id, LONG, recorder).await {
                break fencing;
            }
        };
        let outcome = write_under(way, &name, &format!("{name}-{turn}"), fencing, recorder).await;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        let id = format!("{name}-{turn}-leave");
        lock(way, &name, &id, Act::Release, fencing, recorder).await;
    }
}

/// One edge's client comes too late: the other's has had the lock since.
async fn late(ways: &[Way; 2], recorder: &Recorder) {
    let [one, other] = ways;
    let first = take(one, "late", "late-take", BRIEF, recorder)
        .await
        .unwrap();
    let second = std::cell::Cell::new(None);
    let attempts = AtomicU64::new(0);
    crate::wait::until_async("the lock has ended by itself", async || {
        let id = format!("next-{}", attempts.fetch_add(1, Ordering::Relaxed));
        second.set(take(other, "next", &id, LONG, recorder).await);
        second.get().is_some()
    })
    .await;
    assert!(second.get().unwrap() > first);
    let outcome = write_under(one, "late", "late-write", first, recorder).await;
    assert_eq!(outcome, Outcome::Refused(Refusal::Conflict));
    let outcome = write_under(other, "next", "next-write", second.get().unwrap(), recorder).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    let late = lock(one, "late", "late-renew", Act::Renew, first, recorder).await;
    assert_eq!(late, None);
}

/// Takes the lock for so long; the fencing revision, where it is held then.
async fn take(
    way: &Way,
    client: &str,
    request_id: &str,
    ttl: Duration,
    recorder: &Recorder,
) -> Option<u64> {
    let call = Call::Lock {
        act: Act::Acquire,
        key: "lock".to_owned(),
        ttl,
        fencing_revision: None,
    };
    holding(way, client, request_id, call, recorder).await
}

/// Renews or leaves it; likewise.
async fn lock(
    way: &Way,
    client: &str,
    request_id: &str,
    act: Act,
    fencing_revision: u64,
    recorder: &Recorder,
) -> Option<u64> {
    let call = Call::Lock {
        act,
        key: "lock".to_owned(),
        ttl: LONG,
        fencing_revision: Some(fencing_revision),
    };
    holding(way, client, request_id, call, recorder).await
}

/// The fencing revision after that call, where the lock is held then.
async fn holding(
    way: &Way,
    client: &str,
    request_id: &str,
    call: Call,
    recorder: &Recorder,
) -> Option<u64> {
    match ask(way, client, request_id, call, recorder).await {
        Outcome::Done(Answer::Locked {
            held: true,
            fencing_revision,
            ..
        }) => Some(fencing_revision),
        Outcome::Done(_) => None,
        other => panic!("{other:?}"),
    }
}

async fn write_under(
    way: &Way,
    client: &str,
    request_id: &str,
    fencing_revision: u64,
    recorder: &Recorder,
) -> Outcome {
    let call = Call::Put {
        key: "guarded".to_owned(),
        value: format!("\"{request_id}\""),
        if_revision: None,
        if_lock: Some(LockHeld {
            key: "lock".to_owned(),
            fencing_revision,
        }),
        ttl: None,
    };
    ask(way, client, request_id, call, recorder).await
}

async fn ask(
    way: &Way,
    client: &str,
    request_id: &str,
    call: Call,
    recorder: &Recorder,
) -> Outcome {
    let pending = recorder.begin(client, way.agent(), call.clone());
    let outcome = way.ask(&call, request_id).await;
    recorder.end(&pending, outcome.clone());
    outcome
}
