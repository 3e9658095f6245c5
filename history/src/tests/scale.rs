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
