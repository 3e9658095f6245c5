//! Processes that are killed, at any time.

use std::{collections::BTreeMap, fs};

use proptest::prelude::*;

use super::{BOOT, Edge, Way, call};

/// What happens to an edge.
#[derive(Debug, Clone)]
enum Step {
    /// Calls of a client.
    Note(u16, u8),
    /// Seconds pass.
    Pass(u64),
    /// What was noted is closed, and not sent.
    Cut,
    /// What was noted is sent.
    Ship(Way),
    /// The process is killed, so many bytes before the end of its last line, and another
    /// one runs.
    Kill(usize),
    /// And the machine boots.
    Boot,
}

fn step() -> impl Strategy<Value = Step> {
    let way = prop_oneof![
        Just(Way::Through),
        Just(Way::RequestLost),
        Just(Way::ReplyLost)
    ];
    prop_oneof![
        6 => (0..4_u16, 1..4_u8).prop_map(|(client, times)| Step::Note(client, times)),
        2 => (0..3_u64).prop_map(Step::Pass),
        1 => Just(Step::Cut),
        3 => way.prop_map(Step::Ship),
        3 => (0..40_usize).prop_map(Step::Kill),
        1 => Just(Step::Boot),
    ]
}

/// Cuts the last line of what is written; whose call it was, where it told of one.
fn cut_last_line(edge: &Edge, bytes: usize) -> Option<u16> {
    let path = edge.current();
    let content = fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    let last = lines.last()?;
    let cut = bytes.min(last.len());
    fs::write(&path, &content[..content.len() - cut]).unwrap();
    let values = lines
        .iter()
        .map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    let values: Vec<_> = values.collect();
    let add = values.last().filter(|_| cut > 0)?.get("add")?;
    assert_eq!(add[2], 1, "each call is written by itself");
    let kinds = values.iter().filter_map(|value| value.get("call"));
    let kind = kinds.into_iter().find(|kind| kind[0] == add[0]).unwrap();
    let client = kind[1]["client"].as_str().unwrap();
    client.rsplit('.').next().unwrap().parse().ok()
}

async fn run(steps: Vec<Step>) {
    let mut edge = Edge::new();
    let mut noted: BTreeMap<String, u64> = BTreeMap::new();
    let name = |client: u16| format!("192.0.0.{client}");
    let mut boots = 0;
    let mut boot = BOOT.to_owned();
    for step in steps {
        match step {
            Step::Note(client, times) => {
                for _ in 0..times {
                    edge.journal.note(call(client));
                }
                *noted.entry(name(client)).or_default() += u64::from(times);
            }
            Step::Pass(seconds) => edge.pass(seconds),
            Step::Cut => _ = edge.journal.cut().await,
            Step::Ship(way) => _ = edge.ship(way).await,
            Step::Kill(bytes) => {
                if let Some(client) = cut_last_line(&edge, bytes) {
                    let count = noted.get_mut(&name(client)).unwrap();
                    *count -= 1;
                }
                edge.restart(&boot);
            }
            Step::Boot => {
                boots += 1;
                boot = format!("boot-{boots}");
                edge.restart(&boot);
            }
        }
    }
    assert!(edge.ship(Way::Through).await);
    noted.retain(|_, count| *count > 0);
    assert_eq!(edge.log.by_client(), noted);
    assert_eq!(edge.files().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_each_call_is_told_once(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test]
async fn a_call_of_which_not_all_is_written_is_none_and_those_before_it_are_told() {
    for last in [2, 1] {
        let written = {
            let edge = Edge::new();
            edge.journal.note(call(1));
            let before = fs::read(edge.current()).unwrap().len();
            edge.journal.note(call(last));
            fs::read(edge.current()).unwrap().len() - before
        };
        for bytes in 0..=written {
            let mut edge = Edge::new();
            edge.journal.note(call(1));
            edge.journal.note(call(last));
            let path = edge.current();
            let content = fs::read(&path).unwrap();
            fs::write(&path, &content[..content.len() - bytes]).unwrap();
            edge.restart(BOOT);
            assert!(edge.ship(Way::Through).await);
            assert_eq!(edge.log.count(), if bytes == 0 { 2 } else { 1 }, "{bytes}");
        }
    }
}
