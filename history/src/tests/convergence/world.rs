//! Clients of replicas that are cut off from each other, lose answers, are put
//! back to older disks and forget tombstones.

use std::{collections::BTreeSet, time::Duration};

use super::replicas::{Fault, Node};
use crate::{
    eventual::{Dot, Fate, Merged, Stamp, Version, Write},
    tests::world::Dice,
};

const KEYS: [&str; 4] = ["a/1", "a/2", "b", "c"];
const REPLICAS: u64 = 3;

struct Run {
    is_calm: bool,
    dice: Dice,
    fault: Option<Fault>,
    nodes: Vec<Node>,
    writes: Vec<Write>,
    collected: BTreeSet<Dot>,
    /// Which replica hears of nobody and is heard of by nobody.
    cut_off: Option<usize>,
    now: u64,
}

/// So many moves of replicas that behave, or have a fault.
pub(super) fn of(seed: u64, moves: usize, fault: Option<Fault>) -> Merged {
    run(seed, moves, fault, false)
}

/// One in which everybody is told everything and nothing ends by itself, so that
/// nothing is left unproven.
pub(super) fn calm(seed: u64, moves: usize, fault: Option<Fault>) -> Merged {
    run(seed, moves, fault, true)
}

fn run(seed: u64, moves: usize, fault: Option<Fault>, is_calm: bool) -> Merged {
    let node = |number| Node {
        fault,
        name: format!("edge-{number}"),
        life: 1,
        ..Node::default()
    };
    let mut run = Run {
        is_calm,
        dice: Dice::new(seed),
        fault,
        nodes: (0..REPLICAS).map(node).collect(),
        writes: Vec::new(),
        collected: BTreeSet::new(),
        cut_off: None,
        now: 1,
    };
    for _ in 0..moves {
        run.now += run.dice.below(3);
        run.step();
    }
    run.end()
}

impl Run {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn node(&mut self) -> usize {
        usize::try_from(self.dice.below(REPLICAS)).unwrap()
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..=9 => self.write(),
            10..=14 => {
                let (one, other) = (self.node(), self.node());
                let is_cut = [one, other].map(Some).contains(&self.cut_off);
                if !is_cut {
                    self.hear(one, other);
                }
            }
            15 => self.cut_off = None,
            16 => self.cut_off = Some(self.node()),
            17 => self.start_again(),
            18 => self.forget_tombstones(),
            _ => {}
        }
    }

    fn hear(&mut self, one: usize, other: usize) {
        let told = self.nodes[other].clone();
        self.nodes[one].hear(&told);
    }

    fn write(&mut self) {
        let at = self.node();
        let key = *self.dice.pick(&KEYS);
        let value = (!self.dice.one_in(4)).then(|| self.writes.len().to_string());
        let may_end = value.is_some() && self.dice.one_in(12) && !self.is_calm;
        // wall clocks are not the same
        let wall = self.now + self.dice.below(20);
        let kind = match self.dice.below(16) {
            1..=2 if self.is_calm => 3,
            kind => kind,
        };
        let is_refused = kind == 0;
        let is_lost = kind == 1;
        let is_done = !is_lost && (!is_refused || self.has(Fault::DoesWhatItRefuses));
        let version = is_done.then(|| self.nodes[at].write(key, value.clone(), wall));
        let fate = match kind {
            0 => Fate::Refused,
            1..=2 => Fate::Unknown,
            _ => Fate::Acknowledged,
        };
        let is_untold = self.dice.one_in(5) && !self.is_calm;
        let is_told = fate == Fate::Acknowledged && !is_untold;
        let stamp = |version: Version| Stamp {
            dot: version.dot,
            clock: version.clock,
        };
        self.now += 1;
        let time = |micros| Duration::from_micros(micros);
        self.writes.push(Write {
            client: format!("client of {}", self.nodes[at].name),
            key: key.to_owned(),
            value,
            fate,
            stamp: version.filter(|_| is_told).map(stamp),
            start: time(self.now - 1),
            end: (fate != Fate::Unknown).then(|| time(self.now)),
            may_end,
        });
    }

    /// With the disk of before what it has not told the next one; in a new life,
    /// so that nothing is lost only where it had told all.
    fn start_again(&mut self) {
        let at = self.node();
        let next = (at + 1) % self.nodes.len();
        if !self.has(Fault::ForgetsAtStart) {
            self.hear(next, at);
        }
        let known = self.nodes[next].clone();
        let node = &mut self.nodes[at];
        for (key, versions) in &mut node.keys {
            versions.retain(|version| known.has_seen(key, version) && version.time % 2 == 0);
        }
        if self.fault == Some(Fault::ReusesDots) {
            node.counter = node.counter.saturating_sub(2);
        } else {
            node.life += 1;
            node.counter = 0;
        }
        // nothing is written before it has what the others have
        self.hear(at, next);
    }

    /// Those that all have.
    fn forget_tombstones(&mut self) {
        let dots: Vec<BTreeSet<Dot>> = self.nodes.iter().map(Node::dots).collect();
        let keys = self.nodes.iter().flat_map(|node| node.keys.values());
        let tombstones: BTreeSet<Dot> = keys
            .flatten()
            .filter(|version| version.value.is_none())
            .map(|version| version.dot.clone())
            .collect();
        let is_early = self.has(Fault::ForgetsEarly);
        for dot in tombstones {
            if is_early || dots.iter().all(|dots| dots.contains(&dot)) {
                for node in &mut self.nodes {
                    node.forget(&dot);
                }
                self.collected.insert(dot);
            }
        }
    }

    /// All hear of everything, and what may end by itself does or not.
    fn end(mut self) -> Merged {
        self.forget_tombstones();
        let last = if self.has(Fault::LeavesOneOut) { 1 } else { 2 };
        for (one, other) in [(0, 1), (0, 2), (1, 0), (2, 0)] {
            if one <= last {
                self.hear(one, other);
            }
        }
        let ending = self.writes.iter().filter(|write| write.may_end);
        let ending: BTreeSet<Option<String>> = ending.map(|write| write.value.clone()).collect();
        if self.dice.one_in(2) {
            for versions in self
                .nodes
                .iter_mut()
                .flat_map(|node| node.keys.values_mut())
            {
                versions.retain(|version| !ending.contains(&version.value));
            }
        }
        Merged {
            writes: self.writes,
            replicas: self.nodes.iter().map(Node::told).collect(),
            collected: self.collected,
        }
    }
}
