//! What callers are told.

use std::time::Duration;

use authguardian_proto::{budgets::v1::State, reason::Reason};
use tokio::time::Instant;

use super::stub::{Control, Desk, Edge, TTL, agent, request, task};
use crate::slices::{MAX_AMOUNT, Settled};

#[tokio::test]
async fn what_is_set_aside_is_settled_with_what_was_spent() {
    let edge = Edge::new(&Control::with("t", Desk::of(1000)));
    edge.keep();
    let first = edge.reserve(100).await.unwrap();
    assert_eq!((first.granted, first.remaining), (100, 900));
    assert_eq!((first.unit.as_str(), first.expires_in), ("tokens", TTL));
    let (a, t) = (agent("a"), task("t"));
    let settled = edge.slices.settle(&a, &t, first.reservation, 70).await;
    let expected = Settled {
        recorded: 70,
        overdraft: 0,
        remaining: 930,
        unit: "tokens".to_owned(),
    };
    assert_eq!(settled, Ok(expected.clone()));
    let again = edge.slices.settle(&a, &t, first.reservation, 70).await;
    assert_eq!(again.unwrap_err().reason, Reason::AlreadySettled);

    let nothing = edge.reserve(30).await.unwrap();
    let settled = edge.slices.settle(&a, &t, nothing.reservation, 0).await;
    assert_eq!(
        settled,
        Ok(Settled {
            recorded: 0,
            ..expected
        })
    );
    let known = edge.slices.known(&t).unwrap();
    let slice = known.slice.unwrap();
    assert_eq!((slice.spent, slice.reserved), (70, 0));
    assert!(known.is_leased && known.budget.total == 1000);
    assert_eq!(edge.slices.tasks(), [t]);
}

#[tokio::test]
async fn an_amount_is_within_bounds() {
    let edge = Edge::new(&Control::with("t", Desk::of(1000)));
    edge.keep();
    let (a, t, id) = (agent("a"), task("t"), request("1"));
    for amount in [0, MAX_AMOUNT + 1, u64::MAX] {
        let problem = edge.reserve(amount).await.unwrap_err();
        assert_eq!(problem.reason, Reason::InvalidArgument);
        assert_eq!(problem.field.as_deref(), Some("tokens"));
        let problem = edge.slices.spend(&a, &t, &id, amount).await.unwrap_err();
        assert_eq!(problem.reason, Reason::InvalidArgument);
    }
    let reserved = edge.reserve(1).await.unwrap().reservation;
    let problem = edge.slices.settle(&a, &t, reserved, MAX_AMOUNT + 1).await;
    assert_eq!(problem.unwrap_err().reason, Reason::InvalidArgument);
    // the sum of all is an amount too
    edge.slices.spend(&a, &t, &id, MAX_AMOUNT).await.unwrap();
    let more = edge.slices.spend(&a, &t, &request("2"), 1).await;
    assert_eq!(more.unwrap_err().reason, Reason::InvalidArgument);
    let settled = edge.slices.settle(&a, &t, reserved, 0).await;
    assert_eq!(settled.unwrap().recorded, 0);
}

#[tokio::test]
async fn a_foreign_or_unknown_reservation_is_not_found() {
    let edge = Edge::new(&Control::with("t", Desk::of(1000)));
    edge.keep();
    let (a, b, t) = (agent("a"), agent("b"), task("t"));
    let reserved = edge.reserve(10).await.unwrap().reservation;
    let foreign = edge.slices.settle(&b, &t, reserved, 5).await;
    assert_eq!(foreign.unwrap_err().reason, Reason::ReservationNotFound);
    let elsewhere = edge.slices.settle(&a, &task("u"), reserved, 5).await;
    assert_eq!(elsewhere.unwrap_err().reason, Reason::ReservationNotFound);
    edge.slices.settle(&a, &t, reserved, 5).await.unwrap();
    let foreign = edge.slices.settle(&b, &t, reserved, 5).await;
    assert_eq!(foreign.unwrap_err().reason, Reason::ReservationNotFound);
}

#[tokio::test]
async fn what_is_not_settled_in_time_is_free_again() {
    let edge = Edge::new(&Control::with("t", Desk::of(100)));
    edge.keep();
    let late = edge.reserve(100).await.unwrap().reservation;
    let problem = edge.reserve(1).await.unwrap_err();
    assert_eq!(problem.reason, Reason::BudgetExhausted);
    assert!(problem.detail.contains("0 tokens remain"), "{problem}");
    edge.clock.advance(TTL);
    edge.exchange().await;
    edge.reserve(100).await.unwrap();
    let (a, t) = (agent("a"), task("t"));
    let problem = edge.slices.settle(&a, &t, late, 100).await.unwrap_err();
    assert_eq!(problem.reason, Reason::LeaseExpired);
    // what was truly spent is told otherwise
    let spent = edge.slices.spend(&a, &t, &request("1"), 100).await.unwrap();
    assert_eq!((spent.recorded, spent.overdraft), (100, 100));
}

#[tokio::test]
async fn a_request_id_is_one_request() {
    let edge = Edge::new(&Control::with("t", Desk::of(1000)));
    edge.keep();
    let (a, b, t) = (agent("a"), agent("b"), task("t"));
    let (one, two) = (request("1"), request("2"));
    let reserve = |agent, amount, id| {
        let (slices, t) = (&edge.slices, &t);
        async move { slices.reserve(agent, t, amount, TTL, Some(id)).await }
    };
    let first = reserve(&a, 10, &one).await.unwrap();
    assert_eq!(reserve(&a, 10, &one).await, Ok(first.clone()));
    let other = reserve(&b, 10, &one).await.unwrap();
    assert_ne!(other.reservation, first.reservation);
    let reused = reserve(&a, 11, &one).await.unwrap_err();
    assert_eq!(reused.reason, Reason::RequestIdReused);
    edge.slices
        .settle(&a, &t, first.reservation, 10)
        .await
        .unwrap();
    let known = reserve(&a, 10, &one).await.unwrap();
    assert_eq!(known.reservation, first.reservation);
    assert_eq!(known.expires_in, Duration::ZERO);

    let spent = edge.slices.spend(&a, &t, &two, 7).await.unwrap();
    assert_eq!(edge.slices.spend(&a, &t, &two, 7).await, Ok(spent));
    for (id, amount) in [(&two, 8), (&one, 10)] {
        let reused = edge.slices.spend(&a, &t, id, amount).await.unwrap_err();
        assert_eq!(reused.reason, Reason::RequestIdReused);
    }
    assert_eq!(
        reserve(&a, 7, &two).await.unwrap_err().reason,
        Reason::RequestIdReused
    );
    assert_eq!(edge.slices.known(&t).unwrap().slice.unwrap().spent, 17);
}

#[tokio::test]
async fn refusals_name_their_reason() {
    let control = Control::with("t", Desk::of(100));
    control.change("t", |desk| desk.spenders = vec!["a".to_owned()]);
    let edge = Edge::new(&control);
    edge.keep();
    let (a, b) = (agent("a"), agent("b"));
    let missing = edge.slices.reserve(&a, &task("u"), 1, TTL, None).await;
    assert_eq!(missing.unwrap_err().reason, Reason::BudgetNotFound);
    control.add("u", Desk::of(10));
    edge.slices
        .reserve(&a, &task("u"), 1, TTL, None)
        .await
        .unwrap();
    let t = task("t");
    let denied = edge.slices.reserve(&b, &t, 1, TTL, None).await;
    assert_eq!(denied.unwrap_err().reason, Reason::PermissionDenied);
    let denied = edge.slices.spend(&b, &t, &request("1"), 1).await;
    assert_eq!(denied.unwrap_err().reason, Reason::PermissionDenied);

    edge.reserve(10).await.unwrap();
    for state in [State::Frozen, State::Closed] {
        control.change("t", |desk| desk.state = state);
        edge.slices.hurry(&t);
        let stopped = loop {
            match edge.reserve(1).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(problem) => break problem,
            }
        };
        assert_eq!(stopped.reason, Reason::BudgetFrozen);
    }
    // what was spent is spent
    edge.slices.spend(&a, &t, &request("2"), 1).await.unwrap();
    control.change("t", |desk| desk.state = State::Active);
    edge.slices.hurry(&t);
    edge.reserve(1).await.unwrap();
}

#[tokio::test]
async fn more_than_was_set_aside_is_taken_from_what_is_free_and_then_is_overdraft() {
    let control = Control::with("t", Desk::of(100));
    let edge = Edge::new(&control);
    edge.keep();
    let (a, t) = (agent("a"), task("t"));
    let first = edge.reserve(50).await.unwrap().reservation;
    let second = edge.reserve(40).await.unwrap().reservation;
    let settled = edge.slices.settle(&a, &t, second, 30).await.unwrap();
    assert_eq!((settled.overdraft, settled.remaining), (0, 20));
    let settled = edge.slices.settle(&a, &t, first, 100).await.unwrap();
    assert_eq!((settled.recorded, settled.overdraft), (100, 30));
    let problem = edge.reserve(1).await.unwrap_err();
    assert_eq!(problem.reason, Reason::BudgetExhausted);
    control.change("t", |desk| desk.total = 200);
    edge.slices.hurry(&t);
    edge.reserve(70).await.unwrap();
    assert_eq!(edge.slices.known(&t).unwrap().account.overdraft, 0);
}

#[tokio::test]
async fn a_caller_waits_a_moment_for_more_and_no_longer() {
    let control = Control::with("t", Desk::of(100));
    let edge = Edge::new(&control);
    edge.keep();
    edge.reserve(60).await.unwrap();
    // there is nobody who could give it back
    let began = Instant::now();
    let problem = edge.reserve(50).await.unwrap_err();
    assert_eq!(problem.reason, Reason::BudgetExhausted);
    assert!(began.elapsed() < Duration::from_millis(200));

    control.change("t", |desk| (desk.total, desk.elsewhere) = (200, 100));
    edge.slices.hurry(&task("t"));
    let began = Instant::now();
    let problem = edge.reserve(50).await.unwrap_err();
    assert_eq!(problem.reason, Reason::BudgetExhausted);
    assert!(began.elapsed() >= Duration::from_millis(240));
    let (given, waiting) = tokio::join!(
        async { control.change("t", |desk| desk.elsewhere = 0) },
        edge.reserve(50)
    );
    let () = given;
    assert_eq!(waiting.unwrap().granted, 50);
}

#[tokio::test]
async fn a_budget_is_exhausted_only_where_that_is_known() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    edge.keep();
    edge.reserve(60).await.unwrap();
    edge.slices.hurry(&task("t"));
    edge.reserve(1).await.unwrap();
    control.go_away(true);
    let problem = edge.reserve(900).await.unwrap_err();
    assert_eq!(problem.reason, Reason::Unavailable);
    assert!(problem.detail.contains("no more has come"), "{problem}");
    // what is more than was left cannot be there, unless something has happened since
    let problem = edge.reserve(1000).await.unwrap_err();
    assert_eq!(problem.reason, Reason::BudgetExhausted);
    edge.slices.hurry(&task("t"));
    let problem = edge.reserve(1000).await.unwrap_err();
    assert_eq!(problem.reason, Reason::Unavailable);
    control.go_away(false);
    let comes = async {
        while edge.reserve(900).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let came = tokio::time::timeout(Duration::from_mins(2), comes).await;
    came.expect("the control plane is back");
}

#[tokio::test]
async fn overdraft_of_this_machine_is_none_of_a_budget_that_has_enough() {
    let control = Control::with("t", Desk::of(10_000));
    let edge = Edge::new(&control);
    edge.keep();
    let first = edge.reserve(100).await.unwrap().reservation;
    control.go_away(true);
    let (a, t) = (agent("a"), task("t"));
    let settled = edge.slices.settle(&a, &t, first, 5000).await.unwrap();
    assert!(settled.overdraft > 0);
    let problem = edge.reserve(10).await.unwrap_err();
    assert_eq!(problem.reason, Reason::Unavailable, "{problem}");
    // what is overdrawn is taken from what was left first
    let problem = edge.reserve(6000).await.unwrap_err();
    assert_eq!(problem.reason, Reason::BudgetExhausted);
    assert!(problem.detail.contains("5000 tokens remain"), "{problem}");
}

#[tokio::test]
async fn a_budget_that_another_machine_has_overdrawn_is_exhausted() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    let (reserved, ()) = tokio::join!(edge.reserve(500), edge.exchange());
    let (a, t, reserved) = (agent("a"), task("t"), reserved.unwrap().reservation);
    edge.slices.settle(&a, &t, reserved, 0).await.unwrap();
    control.change("t", |desk| desk.overdrawn = 70);
    edge.slices.hurry(&t);
    edge.exchange().await;
    edge.keep();
    let problem = edge.reserve(10).await.unwrap_err();
    assert_eq!(problem.reason, Reason::BudgetExhausted);
    assert!(problem.detail.contains("overdrawn by 70"), "{problem}");
}

#[tokio::test]
async fn an_answer_that_brings_nothing_does_not_make_a_budget_exhausted() {
    let control = Control::with("t", Desk::of(1000));
    let edge = Edge::new(&control);
    edge.keep();
    edge.reserve(60).await.unwrap();
    control.change("t", |desk| desk.is_slow = true);
    edge.slices.hurry(&task("t"));
    let problem = edge.reserve(900).await.unwrap_err();
    assert_eq!(problem.reason, Reason::Unavailable);
    assert!(problem.detail.contains("no more has come"), "{problem}");
    control.change("t", |desk| desk.is_slow = false);
    edge.reserve(900).await.unwrap();
}
