//! What machines tell, and what they get.

use authguardian_proto::reason::Reason;
use control_plane::{
    budgets::{Answer, Ask, Exchange, Memory, NoSlice, Refused, Report, Terms},
    events::{Stream, SuspensionTarget},
    identity::{self, Serves},
};

use super::{needs, once, spent, task, terms};
use crate::{rig::Rig, wait::until_async};

#[tokio::test]
async fn what_is_told_twice_late_or_in_another_order_counts_once() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 1000).await;
    assert_eq!((slice.epoch, slice.granted), (1, 1000));

    rig.told(&mut machine, "t", spent(&slice, 400))
        .await
        .unwrap();
    rig.told(&mut machine, "t", spent(&slice, 400))
        .await
        .unwrap();
    let back = rig
        .told(&mut machine, "t", spent(&slice, 100))
        .await
        .unwrap();
    assert_eq!(back.reported, 400, "spending does not shrink");

    let account = rig.view("t").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.rest()),
        (400, 600, 9000)
    );
    rig.adds_up("t").await;
    assert_eq!(
        rig.moved("t").await,
        ["created 10000", "granted 1000", "reported 400"]
    );
}

#[tokio::test]
async fn an_exchange_that_is_older_than_one_that_was_taken_is_refused() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let machine = rig.machine("m").await;
    let exchange = |incarnation, sequence| Exchange {
        machine,
        incarnation,
        sequence,
        journal: 7,
        reports: vec![(task("t"), needs(10))],
        complete: false,
        memory: Memory::default(),
    };
    rig.app.budgets.exchange(exchange(2, 5)).await.unwrap();
    for late in [exchange(2, 5), exchange(2, 4), exchange(1, 9)] {
        let refused = rig.app.budgets.exchange(late).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::RevisionConflict);
    }
    rig.app.budgets.exchange(exchange(3, 1)).await.unwrap();
    assert_eq!(rig.view("t").await.account.outstanding, 20);
}

#[tokio::test]
async fn no_machine_gets_more_than_there_is_and_all_of_it_can_be_spent() {
    let rig = Rig::open().await;
    let beside = rig.beside().await;
    rig.budget("t", terms()).await;
    let racing = (0..16).map(|number| {
        let rig = if number % 2 == 0 { &rig } else { &beside };
        async move {
            let mut machine = rig.spender(&format!("m{number}")).await;
            let mut slice = rig.slice(&mut machine, "t", 7).await;
            let mut used = 0;
            loop {
                used += (slice.granted - used).min(7);
                let mut report = spent(&slice, used);
                report.ask.needed = 7;
                let more = rig.told(&mut machine, "t", report).await.unwrap();
                if more.granted == slice.granted {
                    return used;
                }
                slice = more;
            }
        }
    });
    let used: u64 = futures::future::join_all(racing).await.into_iter().sum();
    assert_eq!(used, 10_000);
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.overdraft),
        (10_000, 0, 0)
    );
    rig.adds_up("t").await;
}

#[tokio::test]
async fn whoever_wants_more_than_its_callers_need_gets_no_more_than_its_share() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let (mut one, mut other) = (rig.spender("one").await, rig.spender("other").await);
    let ask = |wanted| Report {
        ask: Ask { wanted, needed: 0 },
        ..Report::default()
    };
    let all = rig.told(&mut one, "t", ask(8000)).await.unwrap();
    assert_eq!(all.granted, 8000, "nobody else spends from it");
    let half = rig.told(&mut other, "t", ask(8000)).await.unwrap();
    assert_eq!(half.granted, 1000, "half of what was left");
}

#[tokio::test]
async fn what_lies_idle_is_asked_back_for_those_who_wait() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let (mut idle, mut waiting) = (rig.spender("idle").await, rig.spender("waiting").await);
    let all = rig.slice(&mut idle, "t", 10_000).await;
    let before = rig.revision(Stream::Budgets).await;
    let none = rig.slice(&mut waiting, "t", 300).await;
    assert_eq!(none.granted, 0);
    assert_eq!(
        rig.revision(Stream::Budgets).await,
        before + 1,
        "machines are told that it is wanted"
    );

    let asked = rig.told(&mut idle, "t", spent(&all, 200)).await.unwrap();
    assert_eq!(asked.give_back, 300);
    let returned = Report {
        returned: 300,
        ..spent(&asked, 200)
    };
    let done = rig.told(&mut idle, "t", returned).await.unwrap();
    assert_eq!(
        (done.give_back, done.returned),
        (0, 300),
        "what is free now is enough"
    );
    let mut again = spent(&none, 0);
    again.ask.needed = 300;
    let got = rig.told(&mut waiting, "t", again).await.unwrap();
    assert_eq!(got.granted, 300);
    rig.adds_up("t").await;
}

#[tokio::test]
async fn where_all_wait_the_machine_that_used_least_gets_what_is_of_use_to_nobody() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let (mut first, mut second) = (rig.spender("first").await, rig.spender("second").await);
    let little = rig.slice(&mut first, "t", 4000).await;
    let much = rig.slice(&mut second, "t", 6000).await;
    // three and four are left, and both wait for seven
    let needing = |slice: &Answer, spent: u64, returned, needed| Report {
        returned,
        ask: Ask { wanted: 0, needed },
        ..super::spent(slice, spent)
    };
    let alone = needing(&much, 5996, 0, 3);
    let alone = rig.told(&mut second, "t", alone).await.unwrap();
    assert_eq!(alone.give_back, 0, "nobody else waits");
    let waits = needing(&little, 3997, 0, 4);
    let waits = rig.told(&mut first, "t", waits).await.unwrap();
    assert_eq!(
        (waits.granted, waits.give_back),
        (4000, 0),
        "it comes first"
    );
    let asked = needing(&much, 5996, 0, 3);
    let asked = rig.told(&mut second, "t", asked).await.unwrap();
    assert_eq!(asked.give_back, 4);
    // and does not get back what it has just returned
    let returned = needing(&asked, 5996, 4, 7);
    let returned = rig.told(&mut second, "t", returned).await.unwrap();
    assert_eq!((returned.granted, returned.returned), (6000, 4));
    let got = needing(&waits, 3997, 0, 4);
    let got = rig.told(&mut first, "t", got).await.unwrap();
    assert_eq!(got.granted, 4004);
    rig.adds_up("t").await;
}

#[tokio::test]
async fn what_was_spent_beyond_a_slice_is_overdraft_and_stops_what_comes_after() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 10_000).await;
    let over = rig
        .told(&mut machine, "t", spent(&slice, 10_500))
        .await
        .unwrap();
    assert_eq!(over.account.overdraft, 500);
    assert!(over.lease.is_zero());
    let mut other = rig.spender("other").await;
    let none = rig.slice(&mut other, "t", 1).await;
    assert_eq!((none.granted, none.lease.is_zero()), (0, true));
    rig.adds_up("t").await;

    rig.app
        .budgets
        .top_up(once("top"), task("t"), 600)
        .await
        .unwrap();
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.total, account.overdraft, account.rest()),
        (10_600, 0, 100)
    );
    rig.adds_up("t").await;
}

#[tokio::test]
async fn numbers_that_contradict_each_other_are_refused_alone() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    rig.budget("good", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 100).await;
    let more_than_given = Report {
        returned: 101,
        ..spent(&slice, 0)
    };
    let unknown = Report {
        epoch: 9,
        ..Report::default()
    };
    let reports = vec![
        ("t", more_than_given),
        ("good", needs(5)),
        ("none", needs(5)),
        ("good", unknown),
    ];
    let told = rig.tell(&mut machine, reports).await.unwrap();
    let refused: Vec<_> = told
        .iter()
        .map(|told| told.slice.as_ref().err().copied())
        .collect();
    let expected = [
        Some(NoSlice::Refused(Refused::Contradiction)),
        None,
        Some(NoSlice::NoBudget),
        // of which nothing was spent
        None,
    ];
    assert_eq!(refused, expected);
    assert_eq!(rig.view("t").await.account.outstanding, 100);
    assert_eq!(rig.view("good").await.account.outstanding, 5);
}

#[tokio::test]
async fn another_journal_begins_another_slice_and_what_the_lost_one_held_stays_spent() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let lost = rig.slice(&mut machine, "t", 1000).await;
    rig.told(&mut machine, "t", spent(&lost, 400))
        .await
        .unwrap();
    machine.journal = 8;
    let old = rig.told(&mut machine, "t", spent(&lost, 500)).await;
    assert_eq!(old, Err(NoSlice::Refused(Refused::Contradiction)));
    let new = rig.slice(&mut machine, "t", 100).await;
    assert_eq!((new.epoch, new.granted), (2, 100));
    let view = rig.view("t").await;
    assert_eq!(
        (
            view.account.reported,
            view.account.outstanding,
            view.suspense()
        ),
        (400, 700, 600)
    );
    rig.adds_up("t").await;

    // operators may say what it was, however long the machine lives on with another disk
    let settle = || {
        let budgets = &rig.app.budgets;
        budgets.settle(once(""), task("t"), machine.id, Some(900))
    };
    assert_eq!(
        settle().await.unwrap_err().reason(),
        Reason::RevisionConflict
    );
    let lost = "UPDATE budget_slice SET leased_until = clock_timestamp() WHERE epoch = 1";
    sqlx::query(lost)
        .execute(rig.database.pool())
        .await
        .unwrap();
    let settled = settle().await.unwrap();
    assert_eq!((settled.slice.epoch, settled.released), (1, 100));
    let view = rig.view("t").await;
    assert_eq!(
        (view.account.reported, view.account.outstanding),
        (900, 100)
    );
    rig.adds_up("t").await;
}

#[tokio::test]
async fn a_machine_that_has_forgotten_a_slice_is_told_of_it() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    rig.budget("u", terms()).await;
    let mut machine = rig.spender("m").await;
    rig.slice(&mut machine, "t", 1000).await;
    let known = rig.slice(&mut machine, "u", 1000).await;
    let exchange = |reports, complete| Exchange {
        machine: machine.id,
        incarnation: 2,
        sequence: i64::from(complete) + 1,
        journal: 7,
        reports,
        complete,
        memory: Memory::default(),
    };
    let known = vec![(task("u"), spent(&known, 0))];
    let told = rig
        .app
        .budgets
        .exchange(exchange(known.clone(), false))
        .await
        .unwrap()
        .slices;
    assert_eq!(told.len(), 1);
    let told = rig
        .app
        .budgets
        .exchange(exchange(known, true))
        .await
        .unwrap()
        .slices;
    assert_eq!(told.len(), 2);
    assert_eq!(told[1].task, task("t"));
    let (_, slice) = told[1].slice.as_ref().unwrap();
    assert_eq!((slice.epoch, slice.granted), (1, 1000));
}

#[tokio::test]
async fn a_slice_whose_machine_is_silent_counts_as_spent_until_it_is_heard() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 1000).await;
    assert_eq!(rig.view("t").await.suspense(), 0);
    rig.leases_end().await;
    // by the job, of whichever control plane
    until_async("the slice is fenced", async || {
        rig.view("t").await.suspense() == 1000
    })
    .await;
    let audited: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit_trail WHERE action = 'budget.fence'")
            .fetch_one(rig.database.pool())
            .await
            .unwrap();
    assert_eq!(audited, 1);
    let back = rig
        .told(&mut machine, "t", spent(&slice, 700))
        .await
        .unwrap();
    assert!(back.lease.is_positive());
    let view = rig.view("t").await;
    assert_eq!(
        (
            view.suspense(),
            view.account.reported,
            view.account.outstanding
        ),
        (0, 700, 300)
    );
}

#[tokio::test]
async fn a_machine_that_ends_gives_back_and_begins_another_slice_later() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 1000).await;
    let end = Report {
        returned: 600,
        ends: true,
        ..spent(&slice, 400)
    };
    rig.told(&mut machine, "t", end).await.unwrap();
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.rest()),
        (400, 0, 9600)
    );
    let next = rig.slice(&mut machine, "t", 10).await;
    assert_eq!((next.epoch, next.granted), (2, 10));
    rig.adds_up("t").await;
}

#[tokio::test]
async fn thresholds_are_told_once_and_again_after_a_top_up() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 10_000).await;
    let told = async || {
        let told: Vec<String> = sqlx::query_scalar(
            "SELECT body->>'percent' FROM change WHERE stream = 'budgets' AND body->>'what' = 'threshold' ORDER BY revision",
        )
        .fetch_all(rig.database.pool())
        .await
        .unwrap();
        told.join(" ")
    };
    rig.told(&mut machine, "t", spent(&slice, 4_999))
        .await
        .unwrap();
    assert_eq!(told().await, "");
    rig.told(&mut machine, "t", spent(&slice, 9_000))
        .await
        .unwrap();
    rig.told(&mut machine, "t", spent(&slice, 9_500))
        .await
        .unwrap();
    assert_eq!(told().await, "50 80");
    rig.told(&mut machine, "t", spent(&slice, 10_000))
        .await
        .unwrap();
    assert_eq!(told().await, "50 80 100");
    rig.app
        .budgets
        .top_up(once("top"), task("t"), 10_000)
        .await
        .unwrap();
    let slice = rig
        .told(&mut machine, "t", spent(&slice, 10_000))
        .await
        .unwrap();
    rig.told(&mut machine, "t", spent(&slice, 16_000))
        .await
        .unwrap();
    assert_eq!(told().await, "50 80 100 80");
}

#[tokio::test]
async fn a_machine_where_nobody_may_spend_gets_nothing_and_tells_what_it_spent() {
    let rig = Rig::open().await;
    let only = Terms {
        spenders: vec!["scout".to_owned()],
        ..terms()
    };
    rig.budget("t", only).await;
    rig.budget("all", terms()).await;
    let serves = |agent: &str| identity::Terms {
        agents: Serves::Only(vec![agent.parse().unwrap()]),
        ..identity::Terms::default()
    };
    let mut other = rig.spender_for("other", serves("analyst")).await;
    let none = rig.told(&mut other, "t", needs(5)).await;
    assert_eq!(none, Err(NoSlice::Barred));
    assert_eq!(rig.slice(&mut other, "all", 5).await.granted, 5);

    let mut machine = rig.spender_for("m", serves("scout")).await;
    let slice = rig.slice(&mut machine, "t", 100).await;
    assert_eq!(slice.granted, 100);
    let suspend = SuspensionTarget::Machine(machine.id);
    rig.app
        .grants
        .suspend(once("s"), suspend, "a test")
        .await
        .unwrap();
    let mut more = spent(&slice, 60);
    more.ask.needed = 100;
    let told = rig.told(&mut machine, "t", more).await.unwrap();
    assert_eq!(
        (told.granted, told.reported, told.lease.is_zero()),
        (100, 60, true)
    );
}

#[tokio::test]
async fn machines_are_told_again_while_callers_wait_and_not_at_each_asking() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let (mut idle, mut waiting) = (rig.spender("idle").await, rig.spender("waiting").await);
    rig.slice(&mut idle, "t", 10_000).await;
    let none = rig.slice(&mut waiting, "t", 300).await;
    let before = rig.revision(Stream::Budgets).await;
    let mut again = spent(&none, 0);
    again.ask.needed = 300;
    let mut told = 0;
    for _ in 0..12 {
        rig.clock.advance(std::time::Duration::from_millis(50));
        rig.told(&mut waiting, "t", again).await.unwrap();
        told = rig.revision(Stream::Budgets).await - before;
    }
    assert!((2..=3).contains(&told), "{told} times in 600 ms");
}

#[tokio::test]
async fn what_was_spent_beyond_a_slice_is_covered_from_what_is_left() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 100).await;
    let over = rig
        .told(&mut machine, "t", spent(&slice, 150))
        .await
        .unwrap();
    assert_eq!((over.granted, over.account.overdraft), (150, 0));
    assert!(over.lease.is_positive());
    let expected = ["created 10000", "granted 100", "reported 150", "covered 50"];
    assert_eq!(rig.moved("t").await, expected);
    rig.adds_up("t").await;
}

#[tokio::test]
async fn numbers_of_which_one_cannot_be_taken_are_not_taken_in_part() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 100).await;
    let report = Report {
        returned: 40,
        ..spent(&slice, 1 << 63)
    };
    let refused = rig.told(&mut machine, "t", report).await;
    assert_eq!(refused, Err(NoSlice::Refused(Refused::Contradiction)));
    let account = rig.view("t").await.account;
    assert_eq!((account.reported, account.outstanding), (0, 100));
}
