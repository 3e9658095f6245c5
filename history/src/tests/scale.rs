//! Long histories take a time in proportion to their length.

use super::story::Story;
use crate::check;

#[test]
fn a_hundred_thousand_calls_are_checked_state_by_state() {
    let mut story = Story::default();
    let (mut revision, mut before) = (0, [0; 10]);
    for number in 0_u64..100_000 {
        let key = format!("k{}", number % 10);
        let start = number / 8;
        let slot = &mut before[usize::try_from(number % 10).unwrap()];
        revision += 1;
        story = story.put((start, start + 2), &key, "1", (*slot, revision));
        *slot = revision;
    }
    let report = check::linearizable(&story.history()).unwrap();
    assert_eq!((report.revisions, report.states), (100_000, 100_000));
}

#[test]
fn a_hundred_thousand_calls_of_sessions_are_checked_in_one_pass() {
    let mut story = Story::default();
    for number in 0_u64..50_000 {
        let (key, start) = (format!("k{}", number % 10), 4 * number);
        let session = ["s", "t", "u"][usize::try_from(number % 3).unwrap()];
        let revision = number + 1;
        story = story
            .session(session)
            .put((start, start + 1), &key, "1", (0, revision))
            .get((start + 2, start + 3), &key, "1", (revision, revision));
    }
    let report = check::sessions(&story.history()).unwrap();
    assert_eq!((report.reads, report.writes), (50_000, 50_000));
}
