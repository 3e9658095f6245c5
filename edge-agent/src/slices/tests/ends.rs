//! How an edge ends.

use std::{sync::Arc, time::Duration};

use authguardian_proto::reason::Reason;

use super::stub::{BOOT, Control, Desk, Edge, agent, task};

#[tokio::test]
async fn what_is_free_is_given_back_and_what_is_set_aside_is_kept() {
    let control = Control::with("t", Desk::of(1000));
    let mut edge = Edge::new(&control);
    edge.keep();
    let (a, t) = (agent("a"), task("t"));
    let first = edge.reserve(500).await.unwrap().reservation;
    let second = edge.reserve(100).await.unwrap().reservation;
    edge.slices.settle(&a, &t, first, 200).await.unwrap();
    let exchange = |request| std::future::ready(control.exchange(&request));
    edge.slices.give_back(exchange).await.unwrap();
    let given = control.change("t", |desk| desk.slices[&1]);
    assert_eq!(given.reported, 200);
    assert_eq!(given.granted - given.returned, 300);
    let last = control.heard.lock().unwrap().last().unwrap().clone();
    assert!(
        last.slices
            .iter()
            .all(|report| report.ends && report.wanted == 0)
    );
    assert_eq!(last.slices[0].reserved, 100);
    let problem = edge.reserve(1).await.unwrap_err();
    assert_eq!(problem.reason, Reason::Unavailable);

    edge.restart(BOOT);
    edge.keep();
    edge.slices.settle(&a, &t, second, 100).await.unwrap();
    let all = edge.reserve(700).await.unwrap();
    assert_eq!(all.remaining, 0);
}

/// An edge with 100 set aside that has asked for more, and has not heard what came of it.
async fn broken_off(control: &Arc<Control>) -> Edge {
    let edge = Edge::new(control);
    let (reserved, ()) = tokio::join!(edge.reserve(100), edge.exchange());
    reserved.unwrap();
    edge.clock.advance(Duration::from_secs(2));
    edge.slices.hurry(&task("t"));
    let round = edge.slices.round_now().await.unwrap();
    assert!(round.request().slices[0].wanted > 0);
    control.exchange(round.request()).unwrap();
    assert!(control.change("t", |desk| desk.slices[&1].granted) > 100);
    edge
}

/// How much of its first slice is out after the edge has ended.
async fn out(control: &Control, edge: &Edge) -> u64 {
    let exchange = |request| std::future::ready(control.exchange(&request));
    edge.slices.give_back(exchange).await.unwrap();
    let given = control.change("t", |desk| desk.slices[&1]);
    given.granted - given.returned
}

#[tokio::test]
async fn what_was_given_on_an_exchange_that_was_broken_off_is_given_back_too() {
    let control = Control::with("t", Desk::of(1000));
    let edge = broken_off(&control).await;
    assert_eq!(out(&control, &edge).await, 100);
    // also where it is asked for
    let control = Control::with("t", Desk::of(1000));
    let edge = broken_off(&control).await;
    control.change("t", |desk| desk.give_back = 1000);
    assert_eq!(out(&control, &edge).await, 100);
}

#[tokio::test]
async fn a_slice_of_which_nothing_was_heard_is_given_back() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    // the control plane was heard before
    edge.exchange().await;
    let asks = async {
        let asking = edge.reserve(100);
        let round = async {
            tokio::task::yield_now().await;
            edge.clock.advance(Duration::from_secs(1));
            let round = edge.slices.round_now().await.unwrap();
            control.exchange(round.request()).unwrap();
        };
        tokio::join!(asking, round).0
    };
    assert_eq!(asks.await.unwrap_err().reason, Reason::Unavailable);
    assert_eq!(control.change("t", |desk| desk.slices[&1].granted), 100);
    assert_eq!(out(&control, &edge).await, 0);
}

#[tokio::test]
async fn nothing_is_given_back_to_nobody() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    let never = |_| async { panic!("nobody is there") };
    edge.slices.give_back(never).await.unwrap();
}
