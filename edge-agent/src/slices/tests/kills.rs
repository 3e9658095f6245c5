//! What a process leaves to the next.

use std::{fs, sync::atomic::Ordering};

use authguardian_proto::{ids::ReservationId, reason::Reason};
use proptest::prelude::*;

use super::stub::{BOOT, Control, Desk, Edge, OTHER_BOOT, TTL, agent, request, task};
use crate::{
    clock::manual::ManualClock,
    slices::{
        OpenError, Slices,
        journal::{DAMAGED_FILE, FILE, Journal},
        purse::Purse,
    },
};

fn purse(edge: &Edge) -> std::sync::Arc<Purse> {
    edge.slices.known_purse(&task("t")).unwrap()
}

#[tokio::test]
async fn a_killed_process_forgets_nothing() {
    let mut edge = Edge::new(&Control::with("t", Desk::of(1000)));
    edge.keep();
    let (a, t) = (agent("a"), task("t"));
    let open = edge.reserve(100).await.unwrap().reservation;
    let done = edge.reserve(50).await.unwrap().reservation;
    let one = request("1");
    let with_id = edge.slices.reserve(&a, &t, 20, TTL, Some(&one)).await;
    edge.slices.settle(&a, &t, done, 60).await.unwrap();
    edge.slices.spend(&a, &t, &request("2"), 5).await.unwrap();
    let before = edge.image("t");

    edge.restart(BOOT);
    assert_eq!(edge.image("t"), before);
    // settling works at once
    let settled = edge.slices.settle(&a, &t, open, 90).await.unwrap();
    assert_eq!((settled.overdraft, settled.unit.as_str()), (0, "tokens"));
    let again = edge.slices.settle(&a, &t, done, 60).await.unwrap_err();
    assert_eq!(again.reason, Reason::AlreadySettled);
    let known = edge.slices.reserve(&a, &t, 20, TTL, Some(&one)).await;
    assert_eq!(known.unwrap().reservation, with_id.unwrap().reservation);
    let reused = edge.slices.spend(&a, &t, &request("2"), 6).await;
    assert_eq!(reused.unwrap_err().reason, Reason::RequestIdReused);
    // nothing else is set aside before it is heard of
    edge.control.go_away(true);
    edge.keep();
    let problem = edge.reserve(1).await.unwrap_err();
    assert_eq!(problem.reason, Reason::LeaseExpired);
    edge.control.go_away(false);
    edge.clock.advance(std::time::Duration::from_secs(1));
    edge.reserve(1).await.unwrap();
}

#[tokio::test]
async fn after_a_loss_of_power_all_up_to_the_mark_is_spent() {
    let mut edge = Edge::new(&Control::with("t", Desk::of(1600)));
    edge.keep();
    let open = edge.reserve(800).await.unwrap().reservation;
    let (used, mark) = {
        let purse = purse(&edge);
        let state = purse.state();
        let kept = state.holding.present().unwrap();
        (kept.report.reserved + kept.report.spent, kept.mark)
    };
    assert_eq!(used, 800);
    // a sixteenth of what was given
    assert!((800..=850).contains(&mark), "{mark}");
    edge.restart(OTHER_BOOT);
    let kept = purse(&edge).state().holding.present().unwrap();
    assert_eq!((kept.report.spent, kept.report.reserved), (mark, 0));
    let gone = edge.slices.settle(&agent("a"), &task("t"), open, 1).await;
    assert_eq!(gone.unwrap_err().reason, Reason::ReservationNotFound);
    edge.restart(BOOT);
    let again = purse(&edge).state().holding.present().unwrap();
    assert_eq!(again.report.spent, mark, "once is enough");
    edge.keep();
    let rest = edge.reserve(1600 - mark).await.unwrap();
    assert_eq!(rest.remaining, 0);
}

#[tokio::test]
async fn a_line_that_was_cut_off_was_not_told_and_others_are_not_guessed_at() {
    let mut edge = Edge::new(&Control::with("t", Desk::of(1000)));
    edge.keep();
    edge.reserve(10).await.unwrap();
    let before = edge.image("t");
    let path = edge.dir.path().join(FILE);
    edge.restart(BOOT);
    let whole = fs::read(&path).unwrap();
    for torn in [&b"{\"settle\":{\"t\":1,"[..], b"\0\0\0\0", b"{"] {
        fs::write(&path, [&whole[..], torn].concat()).unwrap();
        edge.restart(BOOT);
        assert_eq!(edge.image("t"), before);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    for (damaged, line) in [
        ([&b"x\n"[..], &whole].concat(), 1),
        (
            [&whole[..], b"nonsense\n"].concat(),
            whole_lines(&whole) + 1,
        ),
        (
            [&whole[..], b"{\"over\":{\"t\":9,\"epoch\":1}}\n"].concat(),
            whole_lines(&whole) + 1,
        ),
        ([&whole[..], &whole].concat(), whole_lines(&whole) + 1),
        (
            whole
                .splitn(2, |byte| *byte == b'\n')
                .last()
                .unwrap()
                .to_vec(),
            1,
        ),
    ] {
        fs::write(&path, damaged).unwrap();
        let (_, ambient) = ManualClock::ambient();
        match Journal::open(edge.dir.path(), &ambient, BOOT) {
            Err(OpenError::Damaged { line: at, .. }) => assert_eq!(at, line),
            other => panic!("{other:?}"),
        }
        let begun = Slices::open_as(edge.dir.path(), ambient, BOOT).unwrap();
        assert!(begun.tasks().is_empty());
        let aside = edge.dir.path().join(DAMAGED_FILE);
        assert!(fs::metadata(aside).unwrap().len() > 0);
    }
}

fn whole_lines(content: &[u8]) -> usize {
    content.split_inclusive(|byte| *byte == b'\n').count()
}

#[tokio::test]
async fn a_lost_journal_is_another_one() {
    let control = Control::with("t", Desk::of(1000));
    let mut edge = Edge::new(&control);
    edge.keep();
    edge.reserve(10).await.unwrap();
    fs::remove_file(edge.dir.path().join(FILE)).unwrap();
    edge.restart(BOOT);
    assert!(edge.slices.tasks().is_empty());
    edge.keep();
    edge.reserve(10).await.unwrap();
    let heard = control.heard.lock().unwrap();
    let journals: std::collections::BTreeSet<u64> =
        heard.iter().map(|request| request.journal).collect();
    assert_eq!(journals.len(), 2);
}

#[tokio::test]
async fn nothing_is_done_where_the_disk_does_not_take_it() {
    let edge = Edge::new(&Control::with("t", Desk::of(1000)));
    edge.keep();
    let (a, t) = (agent("a"), task("t"));
    let free = edge.reserve(100).await.unwrap().reservation;
    let held = edge.reserve(10).await.unwrap().reservation;
    edge.slices.settle(&a, &t, free, 0).await.unwrap();
    let before = edge.image("t");
    edge.slices
        .journal
        .faults
        .is_full
        .store(true, Ordering::Relaxed);
    let problem = edge.reserve(10).await.unwrap_err();
    assert_eq!(problem.reason, Reason::Unavailable);
    let problem = edge.slices.settle(&a, &t, held, 5).await.unwrap_err();
    assert_eq!(problem.reason, Reason::Unavailable);
    let problem = edge.slices.spend(&a, &t, &request("1"), 5).await;
    assert_eq!(problem.unwrap_err().reason, Reason::Unavailable);
    assert_eq!(edge.image("t"), before);
    edge.slices
        .journal
        .faults
        .is_full
        .store(false, Ordering::Relaxed);
    edge.slices.settle(&a, &t, held, 5).await.unwrap();
}

#[tokio::test]
async fn a_mark_that_is_not_on_disk_does_not_count() {
    let edge = Edge::new(&Control::with("t", Desk::of(1600)));
    edge.keep();
    edge.reserve(10).await.unwrap();
    let faults = &edge.slices.journal.faults;
    faults.is_unsyncable.store(true, Ordering::Relaxed);
    let problem = edge.reserve(1000).await.unwrap_err();
    assert_eq!(problem.reason, Reason::Unavailable);
    let kept = purse(&edge).state().holding.present().unwrap();
    assert!(kept.mark < 1010 && kept.report.reserved == 10, "{kept:?}");
    // a disk that works again is trusted once all is written anew
    faults.is_unsyncable.store(false, Ordering::Relaxed);
    edge.slices.rewrite_now().unwrap();
    edge.reserve(1000).await.unwrap();
}

#[tokio::test]
async fn what_is_reserved_while_the_journal_is_written_anew_is_in_it() {
    let control = Control::with("t", Desk::of(1600));
    control.add("u", Desk::of(100));
    let mut edge = Edge::new(&control);
    edge.keep();
    let (a, t) = (agent("a"), task("t"));
    let first = edge.reserve(100).await.unwrap().reservation;
    let one = request("1");
    edge.slices
        .reserve(&a, &t, 5, TTL, Some(&one))
        .await
        .unwrap();
    edge.slices.spend(&a, &t, &request("2"), 5).await.unwrap();

    let turn = edge.slices.journal.turn().await;
    edge.slices.journal.begin_rewriting().unwrap();
    let before = edge.reserve(1).await.unwrap().reservation;
    purse(&edge).copy(&edge.slices.journal).unwrap();
    let after = edge.reserve(2).await.unwrap().reservation;
    edge.slices.settle(&a, &t, first, 90).await.unwrap();
    edge.slices.settle(&a, &t, before, 1).await.unwrap();
    edge.slices.journal.end_rewriting().unwrap();
    drop(turn);
    edge.slices.settle(&a, &t, after, 1).await.unwrap();
    edge.slices
        .reserve(&a, &task("u"), 9, TTL, None)
        .await
        .unwrap();
    let images = (edge.image("t"), edge.image("u"));
    edge.restart(BOOT);
    assert_eq!((edge.image("t"), edge.image("u")), images);
    edge.restart(OTHER_BOOT);
    let kept = purse(&edge).state().holding.present().unwrap();
    assert!(kept.report.spent >= 96 + 5);
}

/// Something that is done.
#[derive(Debug, Clone)]
enum Step {
    Reserve(u64, Option<u8>),
    Settle(usize, u64),
    Spend(u64, u8),
    Exchange,
    GiveBack(u64),
    Window,
    Pass(u64),
    Rewrite,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..300_u64, proptest::option::of(0..5_u8)).prop_map(|(n, id)| Step::Reserve(n, id)),
        4 => (any::<usize>(), 0..300_u64).prop_map(|(at, n)| Step::Settle(at, n)),
        2 => (1..50_u64, 0..9_u8).prop_map(|(n, id)| Step::Spend(n, id)),
        4 => Just(Step::Exchange),
        1 => (0..500_u64).prop_map(Step::GiveBack),
        1 => Just(Step::Window),
        1 => (0..70_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Rewrite),
        2 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..60)
}

async fn walk(edge: &mut Edge, steps: Vec<Step>) {
    let (a, t) = (agent("a"), task("t"));
    let mut reservations: Vec<ReservationId> = Vec::new();
    for step in steps {
        match step {
            Step::Reserve(amount, id) => {
                let id = id.map(|id| request(&format!("r{id}-{amount}")));
                // nobody is waited for
                edge.slices.pace_for_tests(true);
                let reserved = edge.slices.reserve(&a, &t, amount, TTL, id.as_ref()).await;
                edge.slices.pace_for_tests(false);
                reservations.extend(reserved.map(|reserved| reserved.reservation));
                // so that there is something to ask for
                edge.want(amount);
            }
            Step::Settle(at, spent) if !reservations.is_empty() => {
                let id = reservations[at % reservations.len()];
                let _ = edge.slices.settle(&a, &t, id, spent).await;
            }
            Step::Spend(amount, id) => {
                edge.slices.pace_for_tests(true);
                let id = request(&format!("s{id}"));
                let _ = edge.slices.spend(&a, &t, &id, amount).await;
                edge.slices.pace_for_tests(false);
            }
            Step::Settle(..) => {}
            Step::Exchange => {
                edge.slices.hurry(&t);
                edge.exchange().await;
            }
            Step::GiveBack(most) => edge.control.change("t", |desk| desk.give_back = most),
            Step::Window => edge.control.change("t", |desk| {
                desk.over = desk.slices.keys().next_back().copied().unwrap_or(0);
            }),
            Step::Pass(millis) => edge.clock.advance(std::time::Duration::from_millis(millis)),
            Step::Rewrite => {
                let _turn = edge.slices.journal.turn().await;
                edge.slices.rewrite_now().unwrap();
            }
            Step::Kill => {
                if edge
                    .slices
                    .known_purse(&t)
                    .is_some_and(|purse| purse.state().pen.is_named)
                {
                    let before = edge.image("t");
                    edge.restart(BOOT);
                    assert_eq!(edge.image("t"), before);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_journal_says_what_was_done(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut edge = Edge::new(&Control::with("t", Desk::of(5000)));
            walk(&mut edge, steps).await;
        });
    }
}
