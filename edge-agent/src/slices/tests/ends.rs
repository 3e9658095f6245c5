//! How an edge ends.

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

#[tokio::test]
async fn nothing_is_given_back_to_nobody() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    let never = |_| async { panic!("nobody is there") };
    edge.slices.give_back(never).await.unwrap();
}
