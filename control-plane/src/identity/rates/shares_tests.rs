//! What machines get; the bound itself is proved with real edges' buckets in
//! edge-agent/tests/it/limits.

use super::*;

const LIMIT: RateLimit = RateLimit {
    per_second: 100,
    burst: 200,
};

struct Table {
    shares: Shares,
    now_us: i64,
    whole_us: i64,
}

impl Table {
    fn new() -> Self {
        Self::lost_until(0)
    }

    fn lost_until(whole_us: i64) -> Self {
        let time = Time {
            now_us: 0,
            whole_us,
        };
        Self {
            shares: Shares::new(LIMIT, time),
            now_us: 0,
            whole_us,
        }
    }

    fn pass(&mut self, millis: i64) {
        self.now_us += millis * 1000;
    }

    fn renew(&mut self, machine: u128, told: Use) -> Share {
        let time = Time {
            now_us: self.now_us,
            whole_us: self.whole_us,
        };
        let machine = MachineId::from_uuid(uuid::Uuid::from_u128(machine));
        self.shares.renew(LIMIT, time, machine, told)
    }
}

fn wants(wanted: f64, held: f64) -> Use {
    Use {
        wanted,
        held,
        ..Use::default()
    }
}

fn about(left: f64, right: f64) -> bool {
    (left - right).abs() < 0.01
}

#[test]
fn a_machine_alone_has_all_of_the_limit() {
    let mut table = Table::new();
    let share = table.renew(1, wants(0.0, 0.0));
    assert!(about(share.per_second, 100.0), "{share:?}");
    assert_eq!((share.burst, share.lease, share.again), (200, LEASE, BEAT));
    assert!(about(share.tokens, 200.0));
    table.pass(1000);
    let again = table.renew(1, wants(500.0, share.per_second));
    assert!(about(again.tokens, 0.0), "nothing was free: {again:?}");
}

#[test]
fn shares_follow_what_is_wanted_and_never_exceed_the_limit_by_more_than_a_twentieth() {
    let mut table = Table::new();
    let first = table.renew(1, wants(0.0, 0.0)).per_second;
    let second = table.renew(2, wants(0.0, 0.0));
    assert!(
        about(second.per_second, 2.5),
        "half of the reserve: {second:?}"
    );
    assert!(about(second.tokens, 5.0), "its first calls: {second:?}");
    assert_eq!(second.again, SOON);

    // the first is asked to shrink; what it had counts until it says that it has shrunk
    table.pass(1000);
    let shrunk = table.renew(1, wants(300.0, first));
    assert!(
        shrunk.per_second < first && shrunk.again == CONFIRM,
        "{shrunk:?}"
    );
    let waiting = table.renew(2, wants(300.0, second.per_second));
    assert!(waiting.per_second < 5.0, "{waiting:?}");
    let confirmed = table.renew(1, wants(300.0, shrunk.per_second));
    // the other wants as much meanwhile, so it is to shrink further
    assert!(confirmed.per_second < shrunk.per_second && confirmed.again == CONFIRM);
    let grown = table.renew(2, wants(300.0, waiting.per_second));
    assert!(
        grown.per_second + shrunk.per_second <= 105.0,
        "{grown:?} {shrunk:?}"
    );

    // both want more than there is: half each
    let (mut one, mut two) = (confirmed.per_second, grown.per_second);
    for _ in 0..10 {
        table.pass(200);
        one = table.renew(1, wants(300.0, one)).per_second;
        two = table.renew(2, wants(300.0, two)).per_second;
    }
    assert!(about(one, 50.0) && about(two, 50.0), "{one} {two}");

    // one wants little: the other has the rest
    for _ in 0..10 {
        table.pass(200);
        one = table.renew(1, wants(2.0, one)).per_second;
        two = table.renew(2, wants(300.0, two)).per_second;
    }
    assert!(about(one, 4.5) && about(two, 95.5), "{one} {two}");
}

#[test]
fn a_silent_machine_keeps_its_share_until_its_lease_ends() {
    let mut table = Table::new();
    table.renew(1, wants(100.0, 0.0));
    table.pass(4999);
    assert!(table.renew(2, wants(100.0, 0.0)).per_second < 5.0);
    table.pass(1);
    let share = table.renew(2, wants(100.0, 2.5));
    assert!(about(share.per_second, 100.0), "{share:?}");
    assert!(
        share.tokens < 1.0,
        "what the silent one had may be spent: {share:?}"
    );
}

#[test]
fn a_share_that_is_given_back_is_there_for_others_with_what_was_left() {
    let mut table = Table::new();
    let share = table.renew(1, wants(100.0, 0.0));
    let back = Use {
        wanted: 0.0,
        held: share.per_second,
        tokens: 150.0,
        release: true,
    };
    assert!(table.renew(1, back).per_second < 0.001);
    let share = table.renew(2, wants(0.0, 0.0));
    assert!(
        about(share.per_second, 100.0) && about(share.tokens, 150.0),
        "{share:?}"
    );
}

#[test]
fn more_than_was_given_is_not_taken_back() {
    let mut table = Table::new();
    table.renew(1, wants(100.0, 0.0));
    table.renew(2, wants(100.0, 0.0));
    let lie = Use {
        held: 1e12,
        tokens: 1e12,
        release: true,
        ..Use::default()
    };
    table.renew(2, lie);
    let share = table.renew(3, wants(100.0, 0.0));
    assert!(share.per_second <= 5.0 && share.tokens <= 10.0, "{share:?}");
}

#[test]
fn after_a_lost_table_holders_keep_their_shares_and_others_are_newcomers_for_one_lease() {
    let lease_us = micros(LEASE);
    let mut table = Table::lost_until(lease_us);
    let newcomer = table.renew(2, wants(100.0, 0.0));
    assert!(about(newcomer.per_second, 2.5), "{newcomer:?}");
    assert!(newcomer.tokens <= 5.0, "{newcomer:?}");
    let holder = table.renew(1, wants(100.0, 90.0));
    assert!(
        holder.per_second <= 90.0 && holder.per_second > 40.0,
        "{holder:?}"
    );
    assert!(holder.tokens < 0.001, "{holder:?}");
    table.pass(5000);
    table.renew(1, wants(100.0, holder.per_second));
    let (mut one, mut two) = (holder.per_second, newcomer.per_second);
    for _ in 0..10 {
        table.pass(200);
        one = table.renew(1, wants(300.0, one)).per_second;
        two = table.renew(2, wants(300.0, two)).per_second;
    }
    assert!(about(one, 50.0) && about(two, 50.0), "{one} {two}");
}

#[test]
fn a_stored_table_reads_back() {
    let mut table = Table::new();
    table.renew(1, wants(3.0, 0.0));
    let text = serde_json::to_string(&table.shares).unwrap();
    let read: Shares = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
}
