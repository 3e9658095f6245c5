//! Budgets after a restore of the database: what was settled since the backup is not spent
//! again, and nothing is given before machines have told it.

use std::sync::Arc;

use authguardian_proto::reason::Reason;
use control_plane::{
    backup,
    budgets::{
        Answer, AsOf, Awaited, Exchange, Heard, Memory, NoSlice, Refused, Report, State, Terms,
        Window,
    },
    clock::{Ambient, Clock, ManualClock},
};
use time::{Duration, OffsetDateTime};

use super::{Machine, needs, once, spent, task, terms, why};
use crate::{rig::Rig, wait::until_async};

const TABLES: [&str; 7] = [
    "budget",
    "budget_account",
    "budget_slice",
    "budget_movement",
    "budget_exchange",
    "budget_recall",
    "budget_hold_word",
];

impl Rig {
    /// Copies all that there is of budgets.
    async fn back_up_budgets(&self) {
        let mut statements = vec!["CREATE SCHEMA backup".to_owned()];
        statements
            .extend(TABLES.map(|table| format!("CREATE TABLE backup.{table} AS TABLE {table}")));
        self.run(statements).await;
    }

    /// Puts back what was copied, as if nothing had happened since.
    async fn put_budgets_back(&self) {
        let mut statements = vec![format!(
            "LOCK TABLE {} IN EXCLUSIVE MODE",
            TABLES.join(", ")
        )];
        for table in TABLES {
            statements.push(format!("ALTER TABLE {table} DISABLE TRIGGER USER"));
            statements.push(format!("DELETE FROM {table}"));
            statements.push(format!("INSERT INTO {table} SELECT * FROM backup.{table}"));
            statements.push(format!("ALTER TABLE {table} ENABLE TRIGGER USER"));
        }
        self.run(statements).await;
    }

    async fn run(&self, statements: Vec<String>) {
        let mut tx = self.database.pool().begin().await.unwrap();
        for statement in statements {
            let query = sqlx::query(sqlx::AssertSqlSafe(statement));
            query.execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// The database is put back, and somebody says so.
    async fn restore_budgets(&self) {
        self.clock.advance(std::time::Duration::from_mins(1));
        self.put_budgets_back().await;
        let url = self.config.database.url.expose();
        // nothing was served since
        let fenced = backup::fence::in_place(url, &self.app.ambient, AsOf::Itself).await;
        assert!(fenced.unwrap().budgets_held > 0);
    }

    /// When a budget was made that is held, and of which time its state is.
    async fn ages(&self, name: &str) -> (OffsetDateTime, OffsetDateTime) {
        sqlx::query_as("SELECT created_at, held_as_of FROM budget WHERE task_id = $1 AND is_held")
            .bind(name)
            .fetch_one(self.database.pool())
            .await
            .unwrap()
    }

    /// Tells of one slice, or none, and of what the machine remembers.
    async fn remember(
        &self,
        machine: &mut Machine,
        name: &str,
        report: Option<Report>,
        memory: Memory,
    ) -> Heard {
        machine.sequence += 1;
        let exchange = Exchange {
            machine: machine.id,
            incarnation: 1,
            sequence: machine.sequence,
            journal: machine.journal,
            reports: report
                .map(|report| (task(name), report))
                .into_iter()
                .collect(),
            complete: false,
            memory,
        };
        self.app.budgets.exchange(exchange).await.unwrap()
    }

    /// A machine has told all that it remembers, which is everything.
    async fn tells_all(&self, machine: &mut Machine) {
        self.tells_all_since(machine, OffsetDateTime::UNIX_EPOCH)
            .await;
    }

    /// Likewise, and remembers no more than what was since.
    async fn tells_all_since(&self, machine: &mut Machine, since: OffsetDateTime) {
        let memory = Memory::default();
        let asked = self.remember(machine, "t", None, memory).await.recall;
        let memory = Memory {
            since: Some(since),
            recalled: Some(asked.expect("all is asked for").since),
        };
        let heard = self.remember(machine, "t", None, memory).await;
        assert_eq!(heard.recall, None, "it is asked for once");
    }

    async fn awaited(&self, name: &str) -> Vec<Awaited> {
        self.view(name).await.awaited
    }

    /// Waits until the job has ended the hold of a budget.
    async fn is_released(&self, name: &str) {
        until_async("the hold ends", async || {
            !self.view(name).await.budget.is_held()
        })
        .await;
    }

    /// The job has looked, and the hold goes on.
    async fn stays_held(&self, name: &str) {
        self.app.budgets.release_held().await.unwrap();
        assert!(self.view(name).await.budget.is_held());
    }

    async fn spends(&self, machine: &mut Machine, name: &str, amount: u64) -> Answer {
        let slice = self.slice(machine, name, amount).await;
        assert_eq!(slice.granted, amount);
        self.told(machine, name, spent(&slice, amount))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn what_was_settled_after_the_backup_cannot_be_spent_again() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let (mut a, mut b, mut c) = (
        rig.spender("a").await,
        rig.spender("b").await,
        rig.spender("c").await,
    );
    let first = rig.slice(&mut a, "t", 4000).await;
    rig.told(&mut a, "t", spent(&first, 1000)).await.unwrap();
    rig.back_up_budgets().await;
    rig.told(&mut a, "t", spent(&first, 4000)).await.unwrap();
    let second = rig.spends(&mut b, "t", 6000).await;

    rig.restore_budgets().await;
    let view = rig.view("t").await;
    assert!(view.budget.is_held());
    assert_eq!((view.account.reported, view.awaited.len()), (1000, 3));
    let none = rig.told(&mut c, "t", needs(1)).await.unwrap();
    assert_eq!((none.epoch, none.account.rest()), (0, 6000));
    // each tells what it knows, and is asked for all of it
    let known = rig.told(&mut a, "t", spent(&first, 4000)).await.unwrap();
    assert_eq!(
        (known.reported, known.is_over, known.lease.is_zero()),
        (4000, true, true)
    );
    rig.tells_all(&mut a).await;
    rig.tells_all(&mut c).await;
    rig.stays_held("t").await;
    let awaited: Vec<_> = rig
        .awaited("t")
        .await
        .iter()
        .map(|one| one.machine)
        .collect();
    assert_eq!(awaited, [b.id]);
    let past = Report {
        ends: true,
        ..spent(&second, 6000)
    };
    let told = rig.told(&mut b, "t", past).await.unwrap();
    assert_eq!(
        (told.granted, told.reported, told.is_over),
        (6000, 6000, true)
    );
    rig.tells_all(&mut b).await;
    rig.is_released("t").await;

    let account = rig.view("t").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.overdraft),
        (10_000, 0, 0)
    );
    let none = rig.slice(&mut c, "t", 1).await;
    assert_eq!((none.granted, none.account.rest()), (0, 0));
    let expected = [
        "created 10000",
        "granted 4000",
        "reported 1000",
        "reported 3000",
        "restored 6000",
        "reported 6000",
    ];
    assert_eq!(rig.moved("t").await, expected);
    rig.adds_up("t").await;
}

#[tokio::test]
async fn what_one_machine_had_from_another_fits_once_both_have_told() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let (mut a, mut b) = (rig.spender("a").await, rig.spender("b").await);
    let first = rig.slice(&mut a, "t", 6000).await;
    let second = rig.slice(&mut b, "t", 4000).await;
    rig.back_up_budgets().await;
    let back = Report {
        returned: 5000,
        ..spent(&first, 500)
    };
    rig.told(&mut a, "t", back).await.unwrap();
    let mut more = spent(&second, 4000);
    more.ask.needed = 5000;
    let more = rig.told(&mut b, "t", more).await.unwrap();
    assert_eq!(more.granted, 9000);

    rig.restore_budgets().await;
    let told = rig.told(&mut b, "t", spent(&more, 8000)).await.unwrap();
    assert_eq!(
        told.account.overdraft, 4000,
        "the other one has not given back yet"
    );
    let told = rig.told(&mut a, "t", back).await.unwrap();
    assert_eq!(told.returned, 5000);
    // it keeps what is set aside there
    let mut kept = Report {
        returned: 0,
        ..spent(&more, 8000)
    };
    (kept.granted, kept.reserved) = (9000, 1000);
    rig.told(&mut b, "t", kept).await.unwrap();
    rig.tells_all(&mut a).await;
    rig.tells_all(&mut b).await;
    rig.is_released("t").await;
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.reported, account.overdraft, account.outstanding),
        (8500, 0, 1500)
    );
    rig.adds_up("t").await;
    // what was set aside is settled as ever, and its slice ends
    let settled = Report {
        returned: 600,
        reserved: 0,
        ..kept
    };
    let settled = Report {
        spent: 8400,
        ..settled
    };
    let told = rig.told(&mut b, "t", settled).await.unwrap();
    assert_eq!((told.is_over, told.reported), (true, 8400));
    let back = Report {
        returned: 5500,
        ..back
    };
    rig.told(&mut a, "t", back).await.unwrap();
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.rest()),
        (8900, 0, 1100)
    );
    let next = rig.slice(&mut b, "t", 1100).await;
    assert_eq!((next.epoch, next.granted), (2, 1100));
    rig.adds_up("t").await;
}

#[tokio::test]
async fn what_does_not_fit_into_the_restored_total_is_overdraft() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    rig.back_up_budgets().await;
    let budgets = &rig.app.budgets;
    budgets.top_up(once("up"), task("t"), 500).await.unwrap();
    let slice = rig.spends(&mut machine, "t", 10_500).await;
    rig.restore_budgets().await;
    let told = rig
        .told(&mut machine, "t", spent(&slice, 10_500))
        .await
        .unwrap();
    assert_eq!((told.account.total, told.account.overdraft), (10_000, 500));
    rig.tells_all(&mut machine).await;
    rig.is_released("t").await;
    let none = rig.slice(&mut machine, "t", 1).await;
    assert_eq!(none.granted, 0);
    // the operator says once more what was forgotten
    budgets.top_up(once("again"), task("t"), 700).await.unwrap();
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.reported, account.overdraft, account.rest()),
        (10_500, 0, 200)
    );
    rig.adds_up("t").await;
}

#[tokio::test]
async fn a_machine_with_a_younger_journal_is_awaited_until_an_operator_settles() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let (mut a, mut b) = (rig.spender("a").await, rig.spender("b").await);
    rig.slice(&mut a, "t", 1000).await;
    rig.back_up_budgets().await;
    rig.restore_budgets().await;
    let lost_at = rig.clock.now() + Duration::SECOND;
    for machine in [&mut a, &mut b] {
        machine.journal = 8;
        rig.tells_all_since(machine, lost_at).await;
    }
    let awaited = rig.awaited("t").await;
    assert_eq!(awaited.len(), 2);
    assert!(
        awaited
            .iter()
            .all(|one| one.remembers_since == Some(lost_at))
    );
    rig.stays_held("t").await;

    let budgets = &rig.app.budgets;
    let settle = async |machine, spent| budgets.settle(once(""), task("t"), machine, spent).await;
    rig.leases_end().await;
    let settled = settle(a.id, Some(1700)).await.unwrap();
    assert_eq!(
        (settled.slice.epoch, settled.released),
        (1, 0),
        "it had more than is known"
    );
    let settled = settle(b.id, Some(300)).await.unwrap();
    assert_eq!(
        (settled.slice.epoch, settled.slice.slice.reported),
        (1, 300)
    );
    rig.is_released("t").await;
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.rest()),
        (2000, 0, 8000)
    );
    rig.adds_up("t").await;
    let again = settle(b.id, Some(300)).await;
    assert_eq!(why(again), Reason::ReservationNotFound);
    // what the lost disk's slice tells after all is overdraft
    let found = Report {
        epoch: 1,
        granted: 900,
        returned: 100,
        spent: 500,
        ..Report::default()
    };
    let told = rig.told(&mut b, "t", found).await.unwrap();
    assert_eq!((told.reported, told.account.overdraft), (500, 200));
    assert!(!rig.view("t").await.budget.is_held());
    let next = rig.told(&mut b, "t", needs(1)).await.unwrap();
    assert_eq!(next.epoch, 2);
    rig.adds_up("t").await;
}

#[tokio::test]
async fn an_operator_ends_a_hold_and_what_comes_later_is_counted() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let (mut a, mut b) = (rig.spender("a").await, rig.spender("b").await);
    rig.back_up_budgets().await;
    let slice = rig.spends(&mut a, "t", 3000).await;
    rig.restore_budgets().await;
    let thawed = rig
        .app
        .budgets
        .freeze(once("thaw"), task("t"), false)
        .await
        .unwrap();
    assert_eq!((thawed.state, thawed.is_held()), (State::Active, false));
    let got = rig.slice(&mut b, "t", 8000).await;
    assert_eq!(got.granted, 8000);
    let late = rig.told(&mut a, "t", spent(&slice, 3000)).await.unwrap();
    assert_eq!(
        (late.account.reported, late.account.overdraft),
        (3000, 1000)
    );
    assert!(
        !rig.view("t").await.budget.is_held(),
        "it was known that the database is older"
    );
    rig.adds_up("t").await;
}

#[tokio::test]
async fn a_machine_that_knows_more_shows_that_the_database_was_restored() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    rig.budget("other", terms()).await;
    let (mut a, mut b) = (rig.spender("a").await, rig.spender("b").await);
    let open = rig.slice(&mut b, "t", 100).await;
    rig.back_up_budgets().await;
    let slice = rig.spends(&mut a, "t", 3000).await;
    rig.put_budgets_back().await;

    let told = rig.told(&mut a, "t", spent(&slice, 3000)).await.unwrap();
    assert_eq!((told.reported, told.is_over), (3000, true));
    assert!(rig.view("t").await.budget.is_held());
    assert!(!rig.view("other").await.budget.is_held());
    let audited: Vec<String> =
        sqlx::query_scalar("SELECT subject FROM audit_trail WHERE action = 'budget.hold'")
            .fetch_all(rig.database.pool())
            .await
            .unwrap();
    assert_eq!(audited, [format!("t {}", a.id)]);
    let mut more = spent(&open, 50);
    more.ask.needed = 100;
    let held = rig.told(&mut b, "t", more).await.unwrap();
    assert_eq!(
        (held.granted, held.is_over),
        (100, true),
        "also others give back"
    );
    let early = rig
        .app
        .budgets
        .settle(once(""), task("t"), b.id, None)
        .await;
    assert_eq!(
        why(early),
        Reason::RevisionConflict,
        "it may have been given a lease"
    );
    rig.tells_all(&mut a).await;
    rig.tells_all(&mut b).await;
    rig.is_released("t").await;
    assert_eq!(rig.view("t").await.account.reported, 3050);
    rig.adds_up("t").await;

    // and once more: it has told all, and knows more again
    let grown = Report {
        granted: 500,
        ..spent(&open, 60)
    };
    rig.told(&mut b, "t", grown).await.unwrap();
    assert!(
        !rig.view("t").await.budget.is_held(),
        "what is of before is believed"
    );
    let unknown = Report {
        epoch: 7,
        granted: 500,
        spent: 400,
        ..Report::default()
    };
    rig.told(&mut b, "t", unknown).await.unwrap();
    assert!(rig.view("t").await.budget.is_held());
}

#[tokio::test]
async fn machines_are_not_told_of_what_they_may_have_spent() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    rig.slice(&mut machine, "t", 100).await;
    rig.back_up_budgets().await;
    rig.restore_budgets().await;
    machine.sequence += 1;
    let exchange = Exchange {
        machine: machine.id,
        incarnation: 1,
        sequence: machine.sequence,
        journal: machine.journal,
        reports: Vec::new(),
        complete: true,
        memory: Memory::default(),
    };
    let heard = rig.app.budgets.exchange(exchange).await.unwrap();
    assert!(heard.slices.is_empty());
    let none = rig.told(&mut machine, "t", needs(5)).await.unwrap();
    assert_eq!(none.epoch, 0);
    rig.tells_all(&mut machine).await;
    rig.is_released("t").await;
    let next = rig.slice(&mut machine, "t", 5).await;
    assert_eq!(
        next.epoch, 2,
        "what it says nothing of is not given out as new"
    );
    assert_eq!(rig.view("t").await.account.outstanding, 105);
}

#[tokio::test]
async fn a_top_up_of_a_child_that_was_forgotten_is_taken_from_its_parent_once_more() {
    let rig = Rig::open().await;
    rig.budget("parent", terms()).await;
    let child = Terms {
        total: 2000,
        parent: Some(task("parent")),
        ..terms()
    };
    rig.budget("child", child).await;
    let mut machine = rig.spender("m").await;
    rig.back_up_budgets().await;
    rig.app
        .budgets
        .top_up(once(""), task("child"), 3000)
        .await
        .unwrap();
    let slice = rig.spends(&mut machine, "child", 5000).await;
    rig.restore_budgets().await;
    rig.told(&mut machine, "child", spent(&slice, 5000))
        .await
        .unwrap();
    rig.stays_held("parent").await;
    rig.tells_all(&mut machine).await;
    rig.is_released("child").await;
    rig.is_released("parent").await;
    let (child, parent) = (rig.view("child").await, rig.view("parent").await);
    assert_eq!((child.account.total, child.account.overdraft), (5000, 0));
    assert_eq!(child.budget.terms.total, 5000);
    assert_eq!(
        (parent.account.outstanding, parent.account.rest()),
        (5000, 5000)
    );
    rig.adds_up("child").await;
}

#[tokio::test]
async fn a_held_child_that_is_closed_counts_once_all_have_told() {
    let rig = Rig::open().await;
    rig.budget("parent", terms()).await;
    let child = Terms {
        total: 2000,
        parent: Some(task("parent")),
        ..terms()
    };
    rig.budget("child", child).await;
    let mut machine = rig.spender("m").await;
    rig.back_up_budgets().await;
    let slice = rig.spends(&mut machine, "child", 1500).await;
    rig.restore_budgets().await;
    rig.app
        .budgets
        .close(once(""), task("child"))
        .await
        .unwrap();
    rig.app.budgets.count_children().await.unwrap();
    assert_eq!(
        rig.view("parent").await.account.outstanding,
        2000,
        "nothing is free yet"
    );
    rig.told(&mut machine, "child", spent(&slice, 1500))
        .await
        .unwrap();
    rig.tells_all(&mut machine).await;
    rig.is_released("parent").await;
    let account = rig.view("parent").await.account;
    assert_eq!(
        (account.reported, account.outstanding, account.rest()),
        (1500, 0, 8500)
    );
}

#[tokio::test]
async fn nothing_is_carried_over_of_a_held_budget() {
    let rig = Rig::open().await;
    let daily = Terms {
        window: Window::Day,
        carries_over: true,
        ..terms()
    };
    rig.budget("t", daily).await;
    let mut machine = rig.spender("m").await;
    rig.back_up_budgets().await;
    let slice = rig.spends(&mut machine, "t", 10_000).await;
    rig.restore_budgets().await;
    // the day has gone by
    let window = rig.view("t").await.window.unwrap();
    let yesterday = window.begins_at - Duration::DAY;
    let moved = format!(
        "UPDATE budget_movement SET begins_at = begins_at - interval '1 day' WHERE begins_at = '{window}';",
        window = window.begins_at
    );
    rig.run(vec![
        "ALTER TABLE budget_movement DISABLE TRIGGER USER".to_owned(),
        moved,
        "ALTER TABLE budget_movement ENABLE TRIGGER USER".to_owned(),
        "UPDATE budget_account SET begins_at = begins_at - interval '1 day', ends_at = ends_at - interval '1 day'".to_owned(),
    ])
    .await;
    rig.app.budgets.carry_over().await.unwrap();
    assert_eq!(rig.view("t").await.account.total, 10_000);
    let past = Report {
        window: Some(yesterday),
        ..spent(&slice, 10_000)
    };
    rig.told(&mut machine, "t", past).await.unwrap();
    rig.tells_all(&mut machine).await;
    rig.is_released("t").await;
    rig.app.budgets.carry_over().await.unwrap();
    let account = rig.view("t").await.account;
    assert_eq!(
        (account.total, account.reported),
        (10_000, 0),
        "all of it was spent then"
    );
    let expected = ["created 10000", "restored 10000", "reported 10000"];
    assert_eq!(rig.moved("t").await, expected);
}

#[tokio::test]
async fn machines_that_cannot_have_spent_are_not_awaited() {
    let rig = Rig::open().await;
    let of = Terms {
        spenders: vec!["scout".to_owned()],
        ..terms()
    };
    rig.budget("t", of).await;
    let serves = |agent: &str| control_plane::identity::Terms {
        agents: control_plane::identity::Serves::only(vec![agent.parse().unwrap()]).unwrap(),
        ..control_plane::identity::Terms::default()
    };
    let mut scout = rig.spender_for("scout", serves("scout")).await;
    rig.spender_for("other", serves("other")).await;
    let (banned, mut holding) = (rig.spender("banned").await, rig.spender("holding").await);
    rig.slice(&mut holding, "t", 10).await;
    rig.back_up_budgets().await;
    let ban = format!(
        "UPDATE machine SET state = 'banned' WHERE id IN ('{}', '{}')",
        banned.id.as_uuid(),
        holding.id.as_uuid()
    );
    rig.run(vec![ban]).await;
    rig.restore_budgets().await;
    rig.clock.advance(std::time::Duration::from_secs(1));
    rig.spender_for("later", serves("scout")).await;
    let mut awaited: Vec<_> = rig
        .awaited("t")
        .await
        .iter()
        .map(|one| one.machine)
        .collect();
    awaited.sort();
    let mut expected = [scout.id, holding.id];
    expected.sort();
    assert_eq!(awaited, expected);
    rig.tells_all(&mut scout).await;
    rig.stays_held("t").await;
    rig.leases_end().await;
    let settled = rig
        .app
        .budgets
        .settle(once(""), task("t"), holding.id, None)
        .await;
    assert_eq!(settled.unwrap().released, 10);
    rig.is_released("t").await;
}

#[tokio::test]
async fn a_slice_that_history_may_have_forgotten_is_no_sign_of_a_restore() {
    let rig = Rig::open().await;
    rig.budget(
        "t",
        Terms {
            window: Window::Month,
            ..terms()
        },
    )
    .await;
    let mut machine = rig.spender("m").await;
    let slice = rig.slice(&mut machine, "t", 10).await;
    rig.run(vec!["UPDATE budget_slice SET epoch = 5".to_owned()])
        .await;
    let old = rig.told(&mut machine, "t", spent(&slice, 5)).await;
    assert_eq!(old, Err(NoSlice::Refused(Refused::Unknown)));
    assert!(!rig.view("t").await.budget.is_held());
}

#[tokio::test]
async fn numbers_that_cannot_be_are_refused_of_restored_slices_too() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    let mut machine = rig.spender("m").await;
    rig.back_up_budgets().await;
    rig.restore_budgets().await;
    let report = Report {
        epoch: 1,
        granted: 10,
        ..Report::default()
    };
    for bad in [
        Report {
            returned: 11,
            ..report
        },
        Report {
            spent: 1 << 63,
            ..report
        },
        Report {
            granted: 1 << 63,
            ..report
        },
    ] {
        let refused = rig.told(&mut machine, "t", bad).await;
        assert_eq!(
            refused,
            Err(NoSlice::Refused(Refused::Contradiction)),
            "{bad:?}"
        );
    }
    assert_eq!(rig.moved("t").await, ["created 10000"]);
}

#[tokio::test]
async fn a_child_that_was_forgotten_is_made_again_while_its_parent_is_held() {
    let rig = Rig::open().await;
    rig.budget("parent", terms()).await;
    let mut machine = rig.spender("m").await;
    let mut other = rig.spender("other").await;
    rig.back_up_budgets().await;
    let child = Terms {
        total: 2000,
        parent: Some(task("parent")),
        ..terms()
    };
    rig.budget("child", child.clone()).await;
    let slice = rig.spends(&mut machine, "child", 1500).await;
    rig.restore_budgets().await;
    let gone = rig.told(&mut machine, "child", spent(&slice, 1500)).await;
    assert_eq!(gone, Err(NoSlice::NoBudget));
    rig.tells_all(&mut machine).await;
    rig.budget("child", child).await;
    assert!(rig.view("child").await.budget.is_held());
    rig.tells_all(&mut other).await;
    rig.stays_held("parent").await;
    // all is asked for once more
    let past = Report {
        ends: true,
        ..spent(&slice, 1500)
    };
    rig.told(&mut machine, "child", past).await.unwrap();
    rig.tells_all(&mut machine).await;
    rig.is_released("child").await;
    rig.is_released("parent").await;
    let account = rig.view("child").await.account;
    assert_eq!(
        (account.reported, account.overdraft, account.rest()),
        (1500, 0, 500)
    );
    assert_eq!(rig.view("parent").await.account.rest(), 8000);
    rig.adds_up("child").await;
}

#[tokio::test]
async fn what_a_database_may_have_forgotten_is_as_old_as_somebody_says_and_never_younger() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    // budgets live by the database's clock, which this one is not to be behind
    rig.clock.advance(std::time::Duration::from_hours(24 * 60));
    sqlx::query("UPDATE budget SET created_at = created_at - interval '1 hour'")
        .execute(rig.database.pool())
        .await
        .unwrap();
    let moved = rig.app.budgets.top_up(once("up"), task("t"), 5).await;
    moved.unwrap();
    let url = rig.config.database.url.expose();
    let fence = async |as_of| {
        rig.clock.advance(std::time::Duration::from_mins(1));
        let fenced = backup::fence::in_place(url, &rig.app.ambient, as_of).await;
        assert_eq!(fenced.unwrap().budgets_held, 1);
        rig.ages("t").await
    };
    let (created_at, itself) = fence(AsOf::Itself).await;
    assert!(itself >= created_at + time::Duration::hours(1));
    // what it had forgotten before, it has still forgotten
    assert_eq!(fence(AsOf::Itself).await.1, itself);
    let said = itself - time::Duration::minutes(30);
    assert_eq!(fence(AsOf::At(said)).await.1, said);
    assert_eq!(fence(AsOf::At(itself)).await.1, said);
    assert_eq!(fence(AsOf::Unknown).await.1, created_at);
    // what has a budget is no older than it
    let before = created_at - time::Duration::hours(1);
    assert_eq!(fence(AsOf::At(before)).await.1, created_at);
}

#[tokio::test]
async fn nobody_can_say_that_a_state_is_younger_than_it_says_itself() {
    let rig = Rig::open().await;
    rig.budget("t", terms()).await;
    // the clock of whoever fences: that of the control plane is in its database before long
    let ambient = Ambient {
        clock: Arc::new(ManualClock::at(rig.clock.now() + time::Duration::days(60))),
        ..rig.app.ambient.clone()
    };
    let url = rig.config.database.url.expose();
    let later = ambient.clock.now() - time::Duration::hours(1);
    let fenced = backup::fence::in_place(url, &ambient, AsOf::At(later)).await;
    assert_eq!(fenced.unwrap().budgets_held, 1);
    let (_, as_of) = rig.ages("t").await;
    assert!(as_of < later, "{as_of}");
}
