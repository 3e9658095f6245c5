//! Replicas that heard of the same writes say the same, in whatever order they heard.

use proptest::prelude::*;

use super::{Limits, Model, Rig, contents, copied, put};
use tempfile::TempDir;

const REPLICAS: usize = 3;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    Put {
        at: usize,
        key: usize,
    },
    Delete {
        at: usize,
        key: usize,
    },
    /// Hands over a few writes.
    Push {
        at: usize,
    },
    /// The same, and the answer is lost.
    PushUnheard {
        at: usize,
    },
    Pull {
        at: usize,
    },
    /// Closes and opens it again; whether it speaks to the control plane before it writes.
    Restart {
        at: usize,
        greets: bool,
    },
    /// Keeps a copy of its file.
    Keep {
        at: usize,
    },
    /// Puts the copy back.
    PutBack {
        at: usize,
        greets: bool,
    },
    /// The control plane forgets where replicas were: they pull all.
    Floor,
    /// All sync, and tombstones are forgotten.
    Collect,
    Millis {
        more: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || 0..REPLICAS;
    let key = || 0..KEYS.len();
    let step = prop_oneof![
        6 => (at(), key()).prop_map(|(at, key)| Step::Put { at, key }),
        3 => (at(), key()).prop_map(|(at, key)| Step::Delete { at, key }),
        4 => at().prop_map(|at| Step::Push { at }),
        1 => at().prop_map(|at| Step::PushUnheard { at }),
        4 => at().prop_map(|at| Step::Pull { at }),
        1 => (at(), any::<bool>()).prop_map(|(at, greets)| Step::Restart { at, greets }),
        1 => at().prop_map(|at| Step::Keep { at }),
        1 => (at(), any::<bool>()).prop_map(|(at, greets)| Step::PutBack { at, greets }),
        1 => Just(Step::Floor),
        1 => Just(Step::Collect),
        1 => (0..3_u64).prop_map(|more| Step::Millis { more }),
    ];
    proptest::collection::vec(step, 1..40)
}

struct World {
    model: Model,
    rigs: Vec<Rig>,
    kept: Vec<Option<TempDir>>,
    written: usize,
}

impl World {
    async fn new() -> Self {
        let mut model = Model::default();
        let mut rigs = Vec::new();
        for number in 1..=REPLICAS as u128 {
            let rig = Rig::empty(number, Limits::default());
            rig.pull(&model).await;
            rig.greet(&mut model).await;
            rigs.push(rig);
        }
        let kept = rigs.iter().map(|_| None).collect();
        Self {
            model,
            rigs,
            kept,
            written: 0,
        }
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Put { at, key } => {
                self.written += 1;
                let put = put(KEYS[key], &self.written.to_string());
                let done = self.rigs[at].replica.put(put).await.unwrap();
                let value = self.rigs[at].value(KEYS[key]).unwrap();
                assert_eq!(
                    (value.siblings, &*value.value),
                    (1, &*self.written.to_string())
                );
                assert_eq!(value.clock, done.clock);
            }
            Step::Delete { at, key } => {
                self.rigs[at].delete(KEYS[key]).await;
                assert_eq!(self.rigs[at].value(KEYS[key]), None);
            }
            Step::Push { at } => self.rigs[at].push(&mut self.model, 2).await,
            Step::PushUnheard { at } => {
                let writes = self.rigs[at].replica.outgoing(3).unwrap();
                if let Some(first) = writes.first() {
                    let (machine, incarnation) = (self.rigs[at].machine, first.incarnation);
                    let pushed = writes.into_iter().map(|write| write.pushed).collect();
                    self.model.push(machine, incarnation, pushed);
                }
            }
            Step::Pull { at } => self.rigs[at].pull(&self.model).await,
            Step::Restart { at, greets } => {
                self.rigs[at].reopen().await;
                if greets {
                    self.rigs[at].greet(&mut self.model).await;
                }
            }
            Step::Keep { at } => self.kept[at] = Some(copied(self.rigs[at].dir.path())),
            Step::PutBack { at, greets } => {
                if let Some(kept) = self.kept[at].take() {
                    // what was not handed over is lost with the disk
                    self.rigs[at].put_back(&kept).await;
                    if greets {
                        self.rigs[at].greet(&mut self.model).await;
                    }
                }
            }
            Step::Floor => self.model.floor = self.model.position().revision + 1,
            Step::Collect => {
                // copies would bring back what was forgotten: the control plane counts on
                // replicas that it has leased a place to
                self.kept.fill_with(|| None);
                self.settle().await;
                self.model.collect();
                for rig in &self.rigs {
                    rig.pull(&self.model).await;
                }
            }
            Step::Millis { more } => {
                for rig in &self.rigs {
                    rig.clock.advance(std::time::Duration::from_millis(more));
                }
            }
        }
    }

    async fn settle(&mut self) {
        for rig in &self.rigs {
            rig.greet(&mut self.model).await;
            rig.sync(&mut self.model).await;
        }
        for rig in &self.rigs {
            rig.pull(&self.model).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn replicas_and_control_plane_say_the_same_in_the_end(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.take(step).await;
            }
            world.settle().await;
            let expected = world.model.contents();
            for rig in &world.rigs {
                let told = contents(&rig.replica).into_iter();
                let told = told.map(|(key, value)| {
                    (key, value.value.to_string(), value.siblings, value.clock)
                });
                assert_eq!(told.collect::<Vec<_>>(), expected);
                rig.check();
            }
        });
    }
}

impl Rig {
    /// What is kept beside keys is what the keys say.
    pub(super) fn check(&self) {
        let state = self.replica.board(&super::board()).unwrap();
        let entries = contents(&self.replica);
        let bytes = entries
            .iter()
            .map(|(key, value)| key.as_str().len() + value.value.len());
        assert_eq!(state.counts.keys, entries.len() as u64);
        assert_eq!(state.counts.bytes, bytes.sum::<usize>() as u64);
        let range = super::Range {
            limit: 1_000,
            ..super::Range::default()
        };
        let conflicts = self.replica.conflicts(&super::board(), &range).unwrap();
        let conflicts: Vec<_> = conflicts.entries.into_iter().map(|(key, _)| key).collect();
        let expected = entries.iter().filter(|(_, value)| value.siblings > 1);
        assert_eq!(
            conflicts,
            expected.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        );
    }
}
