//! Many callers at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use authguardian_proto::reason::Reason;

use super::stub::{Control, Desk, Edge, TTL, agent, task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_spenders_get_all_of_it_and_no_more() {
    const TOTAL: u64 = 10_000;
    let control = Control::with("t", Desk::of(TOTAL));
    let edge = Arc::new(Edge::new(&control));
    edge.keep();
    let (reserved, spent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let runtime = tokio::runtime::Handle::current();
    let threads: Vec<_> = (0..16)
        .map(|at| {
            let (edge, runtime) = (edge.clone(), runtime.clone());
            let (reserved, spent) = (reserved.clone(), spent.clone());
            thread::spawn(move || {
                let (agent, task) = (agent(&format!("a{at}")), task("t"));
                for amount in (1..8).cycle() {
                    let reserving = edge.slices.reserve(&agent, &task, amount, TTL, None);
                    let id = match runtime.block_on(reserving) {
                        Ok(reserved) => reserved.reservation,
                        Err(problem) if problem.reason == Reason::BudgetExhausted => {
                            if amount == 1 {
                                return;
                            }
                            continue;
                        }
                        // an exchange that takes longer than callers wait
                        Err(problem) if problem.reason == Reason::Unavailable => continue,
                        Err(problem) => panic!("{problem}"),
                    };
                    let held = reserved.fetch_add(amount, Ordering::SeqCst) + amount;
                    assert!(held <= TOTAL, "{held}");
                    // what is not spent is somebody else's as soon as that is said
                    reserved.fetch_sub(amount / 3, Ordering::SeqCst);
                    let settling = edge.slices.settle(&agent, &task, id, amount - amount / 3);
                    let settled = runtime.block_on(settling).unwrap();
                    assert_eq!(settled.overdraft, 0);
                    spent.fetch_add(settled.recorded, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for thread in threads {
        tokio::task::spawn_blocking(move || thread.join().unwrap())
            .await
            .unwrap();
    }
    assert_eq!(spent.load(Ordering::SeqCst), TOTAL);
    let slice = edge.slices.known(&task("t")).unwrap().slice.unwrap();
    assert_eq!((slice.spent, slice.reserved, slice.free), (TOTAL, 0, 0));
}
