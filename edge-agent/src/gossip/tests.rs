use std::{sync::Arc, time::Duration};

use authguardian_proto::reason::Reason;

use super::*;
use crate::trust::{
    Statement, Trust,
    testing::{Authority, machine, spiffe},
};

/// The control plane's time in these tests; within the life of their certificates.
const NOW: i64 = 1_790_000_000;

fn records(texts: &[&str]) -> Vec<Arc<str>> {
    texts.iter().map(|&text| text.into()).collect()
}

/// One edge of several.
struct Edge {
    members: Members,
    trust: Arc<Trust>,
}

impl Edge {
    fn new(ca: &Authority, number: u128, max: usize) -> Self {
        let address = format!("127.0.0.{number}:3005").parse().unwrap();
        let own = Own::new(machine(number), 1000, address, ca.machine(number));
        Self {
            members: Members::new(own, max),
            trust: ca.trust(),
        }
    }

    fn speaking(ca: &Authority, number: u128, texts: &[&str]) -> Self {
        let mut edge = Self::new(ca, number, 16);
        edge.members.own_records(records(texts)).unwrap();
        edge.members.speak(NOW).unwrap();
        edge
    }

    fn take_at(&mut self, entry: Entry, now: i64, since_boot: u64) -> Result<bool, Fault> {
        let at = Duration::from_secs(since_boot);
        let check = |_, _: &Records| Ok(());
        let taken = self.members.take(entry, &self.trust, now, at, check);
        taken.map(|machine| machine.is_some())
    }

    fn take(&mut self, entry: Entry) -> Result<bool, Fault> {
        self.take_at(entry, NOW, 0)
    }

    /// What this one would tell somebody who knows nothing.
    fn all(&self) -> Vec<Entry> {
        self.members.news_for(&[])
    }

    fn own_entry(&self) -> Entry {
        self.all().remove(0)
    }

    /// Tells another what that one lacks.
    fn tell(&self, other: &mut Self) -> Vec<Result<bool, Fault>> {
        let news = self.members.news_for(&other.members.digest());
        news.into_iter().map(|entry| other.take(entry)).collect()
    }
}

#[test]
fn what_one_edge_says_reaches_a_third_word_for_word_and_only_once() {
    let ca = Authority::new();
    let first = Edge::speaking(&ca, 1, &["a", "b"]);
    let mut second = Edge::speaking(&ca, 2, &[]);
    let mut third = Edge::speaking(&ca, 3, &["c"]);
    assert_eq!(first.tell(&mut second), [Ok(true)]);
    assert_eq!(second.tell(&mut third).len(), 2);
    assert_eq!(third.members.machines(), [machine(1), machine(2)].into());
    let passed_on = third.all().into_iter();
    let mut passed_on = passed_on.filter(|entry| *entry == first.own_entry());
    assert!(passed_on.next().is_some());
    assert!(first.tell(&mut third).is_empty(), "it knows that");
}

#[test]
fn records_are_sent_only_where_they_are_not_known() {
    let ca = Authority::new();
    let mut first = Edge::speaking(&ca, 1, &["a"]);
    let mut second = Edge::speaking(&ca, 2, &[]);
    first.tell(&mut second);
    first.members.speak(NOW).unwrap();
    let news = first.members.news_for(&second.members.digest());
    assert_eq!(news[0].records, None);
    assert_eq!(second.take(news[0].clone()), Ok(true));

    first.members.own_records(records(&["a", "b"])).unwrap();
    first.members.speak(NOW).unwrap();
    let entry = Entry {
        records: None,
        ..first.own_entry()
    };
    assert_eq!(second.take(entry), Err(Fault::NoRecords));
    assert_eq!(first.tell(&mut second), [Ok(true)]);
}

#[test]
fn a_machine_lives_by_its_own_word_and_by_nothing_that_was_said_before() {
    let ca = Authority::new();
    let mut first = Edge::speaking(&ca, 1, &[]);
    let mut second = Edge::new(&ca, 2, 16);
    let earlier = first.own_entry();
    first.members.speak(NOW).unwrap();
    assert_eq!(second.take(first.own_entry()), Ok(true));
    assert_eq!(second.take(first.own_entry()), Ok(false), "a repeat");
    assert_eq!(second.take(earlier.clone()), Ok(false), "an earlier word");
    // one that never heard of it takes nothing from long ago, nor of the future
    let mut third = Edge::new(&ca, 3, 16);
    for now in [NOW + 61, NOW - 61] {
        assert_eq!(third.take_at(earlier.clone(), now, 0), Err(Fault::Stale));
    }
    assert!(third.members.machines().is_empty());
}

#[test]
fn nobody_speaks_for_another_machine() {
    let ca = Authority::new();
    let first = Edge::speaking(&ca, 1, &[]);
    let mut second = Edge::new(&ca, 2, 16);
    let life = first
        .own_entry()
        .life
        .said()
        .replace("\"counter\":1", "\"counter\":9");

    // a changed word, under the signature of before
    let json = serde_json::to_value(first.own_entry()).unwrap();
    let mut changed = json.clone();
    changed["life"]["said"] = life.clone().into();
    let changed: Entry = serde_json::from_value(changed).unwrap();
    assert_eq!(second.take(changed), Err(Fault::Forged));

    // under the signature of another member, and of another CA
    let foreign = Authority::new();
    for key in [ca.certify(&[spiffe(7)]), foreign.certify(&[spiffe(1)])] {
        let posing = Entry {
            life: Statement::sign(life.clone(), &key).unwrap(),
            records: Some(Vec::new()),
        };
        assert_eq!(second.take(posing), Err(Fault::Forged));
    }

    let no_life = Entry {
        life: Statement::sign("hello".to_owned(), &ca.certify(&[spiffe(1)])).unwrap(),
        records: Some(Vec::new()),
    };
    assert_eq!(second.take(no_life), Err(Fault::Forged));
    assert!(second.members.machines().is_empty());
}

#[test]
fn whoever_passes_records_on_can_neither_add_nor_leave_out_any() {
    let ca = Authority::new();
    let first = Edge::speaking(&ca, 1, &["a", "b"]);
    let mut second = Edge::new(&ca, 2, 16);
    for texts in [&["a"][..], &["a", "b", "c"], &["a", "x"], &[]] {
        let entry = Entry {
            records: Some(records(texts)),
            ..first.own_entry()
        };
        assert_eq!(second.take(entry), Err(Fault::OtherRecords), "{texts:?}");
    }
    let entry = first.own_entry();
    let check = |_, _: &Records| Err(Fault::BadRecord);
    let taken = second
        .members
        .take(entry, &second.trust, NOW, Duration::ZERO, check);
    assert_eq!(taken, Err(Fault::BadRecord));
    assert!(second.all().is_empty(), "what was refused is not passed on");
}

#[test]
fn there_is_room_for_so_many_machines_and_so_many_bytes() {
    let ca = Authority::new();
    let mut small = Edge::new(&ca, 9, 2);
    let said: Vec<_> = (1..=3)
        .map(|number| small.take(Edge::speaking(&ca, number, &[]).own_entry()))
        .collect();
    assert_eq!(said, [Ok(true), Ok(true), Err(Fault::Full)]);
    let long = vec![Arc::from("x".repeat(MAX_RECORDS_BYTES + 1))];
    assert_eq!(Records::new(long), Err(Fault::Full));
}

#[test]
fn a_machine_that_was_banned_is_dropped_and_not_taken_again() {
    let ca = Authority::new();
    let mut first = Edge::speaking(&ca, 1, &[]);
    let mut second = Edge::new(&ca, 2, 16);
    second.take(first.own_entry()).unwrap();
    second.trust.refuse(machine(1), Reason::MachineBanned);
    let long = Duration::from_hours(1);
    second.members.forget(&second.trust, Duration::ZERO, long);
    assert!(second.members.machines().is_empty());
    first.members.speak(NOW).unwrap();
    assert_eq!(second.take(first.own_entry()), Err(Fault::Refused));
}

#[test]
fn a_silent_machine_is_talked_to_less_and_forgotten_when_its_words_are_stale() {
    let ca = Authority::new();
    let mut second = Edge::new(&ca, 2, 16);
    second
        .take(Edge::speaking(&ca, 1, &[]).own_entry())
        .unwrap();
    let seconds = Duration::from_secs;
    let (recent, silent) = second.members.addresses(seconds(14), seconds(15));
    assert_eq!((recent.len(), silent.len()), (1, 0));
    let (recent, silent) = second.members.addresses(seconds(15), seconds(15));
    assert_eq!((recent.len(), silent.len()), (0, 1));
    second
        .members
        .forget(&second.trust, seconds(119), seconds(1));
    assert_eq!(second.members.machines().len(), 1);
    second
        .members
        .forget(&second.trust, seconds(120), seconds(1));
    assert!(second.members.machines().is_empty());
}

#[test]
fn an_edge_outlives_what_an_earlier_process_of_it_has_said() {
    let ca = Authority::new();
    let mut before = Edge::speaking(&ca, 1, &[]);
    for _ in 0..5 {
        before.members.speak(NOW).unwrap();
    }
    // its clock was set back since
    let address = "127.0.0.1:3005".parse().unwrap();
    let own = Own::new(machine(1), 7, address, ca.machine(1));
    let mut after = Edge {
        members: Members::new(own, 16),
        trust: ca.trust(),
    };
    let mut other = Edge::new(&ca, 2, 16);
    other.take(before.own_entry()).unwrap();
    assert_eq!(other.tell(&mut after), [Ok(false)]);
    after.members.speak(NOW).unwrap();
    assert_eq!(after.tell(&mut other), [Ok(true)]);
}

#[test]
fn a_message_has_room_for_what_is_most_needed_and_the_rest_comes_later() {
    let ca = Authority::new();
    let mut full = Edge::new(&ca, 9, 16);
    for number in 1..=4 {
        let text = format!("{number}").repeat(MAX_RECORDS_BYTES / 2);
        full.take(Edge::speaking(&ca, number, &[&text]).own_entry())
            .unwrap();
    }
    let mut other = Edge::new(&ca, 8, 16);
    let mut rounds = 0;
    while other.members.machines().len() < 4 {
        let told = full.tell(&mut other);
        assert!(!told.is_empty() && told.iter().all(|taken| *taken == Ok(true)));
        rounds += 1;
    }
    assert!(rounds > 1);
}
