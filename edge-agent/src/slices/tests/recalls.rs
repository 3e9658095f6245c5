//! What is remembered of slices that are over, for a control plane that has forgotten.

use std::{sync::Arc, time::Duration};

use authguardian_proto::budgets::v1::{ExchangeRequest, Recall, SliceReport};
use prost_types::Timestamp;

use super::stub::{BOOT, Control, Desk, Edge, agent, task};

const fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// An edge that has spent 80 of a slice that is over, and 10 of the next one.
async fn after_a_window() -> (Edge, Arc<Control>) {
    let control = Control::with("t", Desk::of(1000));
    *control.time.lock().unwrap() = Some(at(1000));
    let edge = Edge::new(&control);
    let spend = async |amount: u64| {
        let (reserved, ()) = tokio::join!(edge.reserve(amount), async {
            tokio::task::yield_now().await;
            for _ in 0..4 {
                edge.exchange().await;
            }
        });
        let id = reserved.unwrap().reservation;
        let (agent, task) = (agent("a"), task("t"));
        let settled = edge.slices.settle(&agent, &task, id, amount);
        settled.await.unwrap();
    };
    spend(80).await;
    *control.time.lock().unwrap() = Some(at(2000));
    control.change("t", |desk| desk.over = 1);
    for _ in 0..6 {
        edge.slices.hurry(&task("t"));
        edge.exchange().await;
    }
    let purse = edge.slices.known_purse(&task("t")).unwrap();
    let knows = purse.state().holding.kept().any(|slice| slice.epoch == 1);
    assert!(!knows, "it is over");
    spend(10).await;
    (edge, control)
}

fn heard(control: &Control) -> Vec<ExchangeRequest> {
    std::mem::take(&mut *control.heard.lock().unwrap())
}

/// What was told of a slice since, the last first.
fn told(heard: &[ExchangeRequest], epoch: u64) -> Option<SliceReport> {
    let mut reports = heard.iter().rev().flat_map(|request| &request.slices);
    reports.find(|report| report.epoch == epoch).cloned()
}

/// The call that said that all was told.
fn recalled(heard: &[ExchangeRequest]) -> &ExchangeRequest {
    let mut calls = heard.iter();
    calls.find(|call| call.recalled.is_some()).unwrap()
}

async fn exchanges(edge: &Edge) {
    for _ in 0..8 {
        edge.exchange().await;
    }
}

#[tokio::test]
async fn what_is_over_is_told_where_the_control_plane_has_forgotten_it() {
    let (mut edge, control) = after_a_window().await;
    edge.restart(BOOT);
    heard(&control);
    *control.recalls.lock().unwrap() = Some(Recall {
        held_since: Some(at(3000)),
        as_of: Some(at(1500)),
    });
    exchanges(&edge).await;
    let since = heard(&control);
    let past = told(&since, 1).unwrap();
    assert_eq!(
        (past.spent, past.granted - past.returned, past.ends),
        (80, 80, true)
    );
    assert_eq!(told(&since, 2).unwrap().spent, 10);
    let last = recalled(&since);
    assert_eq!((last.recalled, last.slices.len()), (Some(at(3000)), 0));
    assert_eq!(last.remembers_since, Some(at(1000)));
    // once is enough
    exchanges(&edge).await;
    let more = heard(&control);
    assert!(told(&more, 1).is_none() && more.iter().all(|request| request.recalled.is_none()));
}

#[tokio::test]
async fn what_was_over_before_the_backup_is_not_told_again() {
    let (edge, control) = after_a_window().await;
    heard(&control);
    *control.recalls.lock().unwrap() = Some(Recall {
        held_since: Some(at(9000)),
        as_of: Some(at(2000 + 3601)),
    });
    edge.slices.tell_all();
    exchanges(&edge).await;
    let since = heard(&control);
    assert!(told(&since, 1).is_none() && told(&since, 2).is_some());
    assert_eq!(recalled(&since).recalled, Some(at(9000)));
}

#[tokio::test]
async fn all_is_told_from_the_beginning_where_an_answer_was_lost() {
    let (edge, control) = after_a_window().await;
    *control.recalls.lock().unwrap() = Some(Recall {
        held_since: Some(at(3000)),
        as_of: Some(at(0)),
    });
    edge.slices.tell_all();
    edge.exchange().await;
    control.go_away(true);
    edge.exchange().await;
    heard(&control);
    control.go_away(false);
    edge.clock.advance(Duration::from_secs(1));
    exchanges(&edge).await;
    let since = heard(&control);
    assert!(told(&since, 1).is_some() && told(&since, 2).is_some());
    assert_eq!(recalled(&since).recalled, Some(at(3000)));
}

#[tokio::test]
async fn a_slice_that_is_given_anew_and_is_over_here_is_not_spent_from() {
    let (edge, control) = after_a_window().await;
    // as if its database were older, and nobody had said so
    control.change("t", |desk| {
        desk.slices.clear();
        desk.over = 0;
    });
    let purse = edge.slices.known_purse(&task("t")).unwrap();
    purse.state().holding = crate::slices::Holding::default();
    heard(&control);
    edge.want(50);
    edge.slices.hurry(&task("t"));
    exchanges(&edge).await;
    let since = heard(&control);
    assert_eq!(told(&since, 1).unwrap().spent, 80);
    assert!(edge.slices.known(&task("t")).unwrap().slice.is_none());
}

#[tokio::test]
async fn a_new_journal_remembers_since_it_was_answered_first() {
    let control = Control::with("t", Desk::of(1000));
    *control.time.lock().unwrap() = Some(at(500));
    let edge = Edge::new(&control);
    edge.exchange().await;
    *control.time.lock().unwrap() = Some(at(700));
    edge.slices.tell_all();
    edge.exchange().await;
    edge.slices.tell_all();
    edge.exchange().await;
    let since: Vec<_> = heard(&control)
        .iter()
        .map(|request| request.remembers_since)
        .collect();
    assert_eq!(since, [None, Some(at(500)), Some(at(500))]);
}
