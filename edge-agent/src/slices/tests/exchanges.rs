//! What the control plane is told, and when.

use std::time::Duration;

use authguardian_proto::reason::Reason;

use super::stub::{BOOT, Control, Desk, Edge, Given, TTL, agent, request, task};
use crate::slices::{Changed, Slices};

#[tokio::test]
async fn offline_a_slice_is_spent_to_the_end_of_its_lease_and_told_afterwards() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    edge.keep();
    let (a, t) = (agent("a"), task("t"));
    edge.reserve(100).await.unwrap();
    let first = edge.reserve(500).await.unwrap().reservation;
    edge.slices.settle(&a, &t, first, 0).await.unwrap();
    control.go_away(true);
    let second = edge.reserve(400).await.unwrap().reservation;
    edge.clock.advance(Duration::from_secs(31));
    let problem = edge.reserve(1).await.unwrap_err();
    assert_eq!(problem.reason, Reason::LeaseExpired);
    edge.slices.settle(&a, &t, second, 350).await.unwrap();
    // a task that nothing is held of
    let unknown = edge.slices.reserve(&a, &task("u"), 1, TTL, None).await;
    assert_eq!(unknown.unwrap_err().reason, Reason::Unavailable);
    control.go_away(false);
    edge.clock.advance(Duration::from_secs(1));
    edge.reserve(1).await.unwrap();
    let reported = control.change("t", |desk| desk.slices[&1].reported);
    assert_eq!(reported, 350);
}

#[tokio::test]
async fn mere_spending_is_told_once_a_second_and_what_is_idle_at_half_of_its_lease() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    let (a, t) = (agent("a"), task("t"));
    let heard = || control.heard.lock().unwrap().len();
    {
        let (reserved, ()) = tokio::join!(edge.reserve(100), async {
            tokio::task::yield_now().await;
            edge.exchange().await;
            edge.exchange().await;
        });
        let id = reserved.unwrap().reservation;
        edge.slices.settle(&a, &t, id, 10).await.unwrap();
    }
    let before = heard();
    for _ in 0..40 {
        edge.exchange().await;
    }
    assert_eq!(heard(), before);
    for _ in 0..12 {
        edge.exchange().await;
    }
    assert_eq!(heard(), before + 1);
    assert_eq!(control.change("t", |desk| desk.slices[&1].reported), 10);
    edge.clock.advance(Duration::from_secs(10));
    edge.exchange().await;
    assert_eq!(heard(), before + 1);
    edge.clock.advance(Duration::from_secs(5));
    edge.exchange().await;
    assert_eq!(heard(), before + 2);
    edge.slices.hurry(&t);
    edge.exchange().await;
    assert_eq!(heard(), before + 3);
}

#[tokio::test]
async fn budgets_that_are_spent_from_come_to_be_told_together_once_a_second() {
    let names = ["t", "u", "v"];
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    let a = agent("a");
    let spend = async |name: &str| {
        let task = task(name);
        let reserved = edge.slices.reserve(&a, &task, 100, TTL, None).await;
        let id = reserved.unwrap().reservation;
        edge.slices.settle(&a, &task, id, 0).await.unwrap();
    };
    for name in names {
        control.add(name, Desk::of(1000));
        tokio::join!(spend(name), async {
            tokio::task::yield_now().await;
            edge.exchange().await;
            edge.exchange().await;
        });
        edge.clock.advance(Duration::from_millis(300));
    }
    let go_on = async |seconds: u32| {
        let before = control.heard.lock().unwrap().len();
        for _ in 0..50 * seconds {
            for name in names {
                spend(name).await;
            }
            edge.exchange().await;
        }
        let heard = control.heard.lock().unwrap();
        let slices = heard[before..].iter().map(|heard| heard.slices.len());
        slices.collect::<Vec<_>>()
    };
    go_on(3).await;
    let told = go_on(10).await;
    assert!((9..=11).contains(&told.len()), "{told:?}");
    assert!(told.iter().all(|slices| *slices == 3), "{told:?}");
}

#[tokio::test]
async fn exchanges_are_numbered_and_the_first_names_all() {
    let control = Control::with("t", Desk::of(1000));
    let mut edge = Edge::new(&control);
    edge.keep();
    edge.reserve(10).await.unwrap();
    edge.restart(BOOT);
    edge.keep();
    edge.reserve(10).await.unwrap();
    let heard = control.heard.lock().unwrap();
    let order: Vec<_> = heard
        .iter()
        .map(|request| (request.incarnation, request.sequence))
        .collect();
    assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    for request in heard.iter() {
        assert_eq!(request.complete, request.sequence == 1);
    }
    let first = heard.iter().find(|request| request.incarnation == 2);
    assert_eq!(first.unwrap().slices[0].epoch, 1);
}

#[tokio::test]
async fn a_slice_that_was_given_and_not_heard_of_is_taken_up() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    let journal = edge.slices.journal.id();
    control.change("t", |desk| {
        let given = Given {
            journal,
            granted: 300,
            reported: 20,
            ..Given::default()
        };
        desk.slices.insert(1, given);
        desk.slices.insert(2, given);
        desk.over = 1;
    });
    edge.exchange().await;
    let slice = edge.slices.known(&task("t")).unwrap().slice.unwrap();
    assert_eq!((slice.epoch, slice.spent, slice.free), (2, 20, 280));
    edge.exchange().await;
    // what is of no use any more is given back
    let first = control.change("t", |desk| desk.slices[&1]);
    assert_eq!(first.returned, 280);
    edge.exchange().await;
    let purse = edge.slices.known_purse(&task("t")).unwrap();
    assert_eq!(purse.state().holding.kept().count(), 1);
}

#[tokio::test]
async fn what_others_wait_for_is_given_back_once() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    edge.keep();
    let id = edge.reserve(900).await.unwrap().reservation;
    edge.slices
        .settle(&agent("a"), &task("t"), id, 100)
        .await
        .unwrap();
    control.change("t", |desk| desk.give_back = 300);
    edge.slices.hurry(&task("t"));
    while control.change("t", |desk| desk.slices[&1].returned) == 0 {
        tokio::task::yield_now().await;
        control.change("t", |desk| {
            if desk.slices[&1].returned > 0 {
                desk.give_back = 0;
            }
        });
    }
    control.change("t", |desk| assert_eq!(desk.slices[&1].returned % 300, 0));
}

#[tokio::test]
async fn a_window_that_ends_takes_its_slice_with_it() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    edge.keep();
    let (a, t) = (agent("a"), task("t"));
    let old = edge.reserve(100).await.unwrap().reservation;
    control.change("t", |desk| desk.over = 1);
    edge.slices.hurry(&t);
    edge.clock.advance(Duration::from_secs(30));
    let new = edge.reserve(100).await.unwrap();
    assert_eq!(edge.slices.known(&t).unwrap().slice.unwrap().epoch, 2);
    edge.slices.settle(&a, &t, old, 80).await.unwrap();
    edge.slices
        .settle(&a, &t, new.reservation, 100)
        .await
        .unwrap();
    edge.slices.hurry(&t);
    let reported = |epoch| control.change("t", |desk| desk.slices[&epoch].reported);
    while (reported(1), reported(2)) != (80, 100) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_slice_that_is_refused_does_not_stop_others() {
    let control = Control::with("t", Desk::of(1000));
    control.add("u", Desk::of(1000));
    let mut edge = Edge::new(&control);
    edge.keep();
    let a = agent("a");
    edge.reserve(10).await.unwrap();
    edge.slices
        .reserve(&a, &task("u"), 10, TTL, None)
        .await
        .unwrap();
    // as if its database were older
    control.change("u", |desk| desk.slices.clear());
    edge.restart(BOOT);
    edge.keep();
    let reserving = async {
        loop {
            if let Ok(reserved) = edge.reserve(10).await {
                return reserved;
            }
        }
    };
    let reserved = tokio::time::timeout(Duration::from_secs(5), reserving).await;
    assert_eq!(reserved.unwrap().granted, 10);
}

#[tokio::test]
async fn watchers_hear_of_thresholds_at_once_and_of_spending_once_a_second() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    let mut changes = edge.slices.changed();
    let (a, t) = (agent("a"), task("t"));
    let (reserved, ()) = tokio::join!(edge.reserve(600), async {
        tokio::task::yield_now().await;
        edge.exchange().await;
        edge.exchange().await;
    });
    let expected = Some(Changed::Tasks([t.clone()].into()));
    assert_eq!(changes.next().await, expected);
    let heard = |changes: &mut crate::slices::Changes| {
        let next = futures::FutureExt::now_or_never(changes.next());
        next.is_some()
    };
    edge.slices.hurry(&t);
    edge.exchange().await;
    assert!(!heard(&mut changes));
    let id = reserved.unwrap().reservation;
    edge.slices.settle(&a, &t, id, 550).await.unwrap();
    edge.slices.hurry(&t);
    edge.exchange().await;
    assert!(heard(&mut changes), "half of it is spent");
    edge.slices.spend(&a, &t, &request("1"), 1).await.unwrap();
    edge.slices.hurry(&t);
    edge.exchange().await;
    assert!(!heard(&mut changes));
    edge.clock.advance(Duration::from_secs(1));
    edge.slices.hurry(&t);
    edge.exchange().await;
    assert!(heard(&mut changes));
}

#[tokio::test]
async fn nothing_is_told_before_the_process_is_known() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    let dir = tempfile::tempdir().unwrap();
    let slices = Slices::open_as(dir.path(), edge.ambient.clone(), BOOT).unwrap();
    assert!(slices.round_now().await.is_err());
    slices.begin(7);
    let round = slices.round_now().await.unwrap();
    assert_eq!(round.request().incarnation, 7);
}
