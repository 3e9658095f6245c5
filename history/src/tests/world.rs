//! A board that behaves, in a world where calls overlap, answers are lost and
//! calls take effect long after their callers have given up.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Act, Answer, Call, Compare, Condition, Do, Filter, History, Kind, LockHeld, Message, Operation,
    Outcome, Position, Refusal, Segment, Step, Told, WatchLog,
    model::{Board, Change},
};

const KEYS: [&str; 4] = ["a/1", "a/2", "b", "lock"];
const AGENTS: [&str; 2] = ["one", "two"];
const CLIENTS: usize = 5;

/// A row of random numbers: SplitMix64, so that a seed says it all.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(super) fn pick<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        let index = self.below(items.len() as u64);
        &items[usize::try_from(index).unwrap()]
    }
}

/// What has happened.
pub(super) struct World {
    pub(super) history: History,
    pub(super) logs: Vec<WatchLog>,
    pub(super) board: Board,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Begin(usize),
    /// The call takes effect.
    Happen(usize),
    /// Its answer arrives at this client, or the client gives up.
    End(usize, usize),
    Sweep,
}

/// So many calls.
pub(super) fn of(seed: u64, calls: usize) -> World {
    run(seed, calls, false)
}

/// One in which every answer arrives and nothing ends by itself, so that there
/// is one explanation at most.
pub(super) fn calm(seed: u64, calls: usize) -> World {
    run(seed, calls, true)
}

fn run(seed: u64, calls: usize, is_calm: bool) -> World {
    let mut run = Run {
        is_calm,
        dice: Dice::new(seed),
        agenda: BTreeMap::new(),
        operations: Vec::new(),
        told: Vec::new(),
        board: Board::default(),
        changes: Vec::new(),
        epoch: 1,
        now: 0,
        calls,
    };
    for client in 0..CLIENTS {
        run.plan(1, Event::Begin(client));
    }
    if !is_calm {
        run.plan(20, Event::Sweep);
    }
    while let Some(((now, _), event)) = run.agenda.pop_first() {
        run.now = now;
        run.step(event);
    }
    run.look();
    run.world()
}

struct Run {
    is_calm: bool,
    dice: Dice,
    agenda: BTreeMap<(u64, u64), Event>,
    operations: Vec<Operation>,
    /// What each would be told, once it has happened.
    told: Vec<Option<Outcome>>,
    board: Board,
    changes: Vec<(Position, Vec<Change>)>,
    epoch: u64,
    now: u64,
    calls: usize,
}

impl Run {
    fn plan(&mut self, within: u64, event: Event) {
        let at = self.now + 1 + self.dice.below(within);
        let order = self.dice.next();
        self.agenda.insert((at, order), event);
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Begin(client) if self.operations.len() < self.calls => self.begin(client),
            Event::Begin(_) => {}
            Event::Happen(number) => self.happen(number),
            Event::End(client, number) => {
                self.end(number);
                self.plan(8, Event::Begin(client));
            }
            Event::Sweep => self.sweep(),
        }
    }

    fn begin(&mut self, client: usize) {
        let number = self.operations.len();
        let agent = (*self.dice.pick(&AGENTS)).to_owned();
        let mut call = self.call(&agent, number);
        if self.is_calm {
            lives_for_ever(&mut call);
        }
        self.operations.push(Operation {
            number,
            client: format!("client-{client}"),
            agent,
            call,
            start: self.time(),
            end: None,
            outcome: Outcome::Unknown,
            repeats: Vec::new(),
        });
        self.told.push(None);
        match self.dice.below(12) {
            _ if self.is_calm => self.answered(client, number),
            // lost on the way there
            0 => self.plan(30, Event::End(client, number)),
            // its caller gives up, it is done later
            1 => {
                self.plan(10, Event::End(client, number));
                self.plan(200, Event::Happen(number));
            }
            _ => self.answered(client, number),
        }
    }

    fn answered(&mut self, client: usize, number: usize) {
        let happens = self.now + 1 + self.dice.below(10);
        let ends = happens + 1 + self.dice.below(10);
        for (at, event) in [
            (happens, Event::Happen(number)),
            (ends, Event::End(client, number)),
        ] {
            let order = self.dice.next();
            self.agenda.insert((at, order), event);
        }
    }

    fn happen(&mut self, number: usize) {
        let over = self.dice.one_in(2).then(|| self.time());
        let operation = &self.operations[number];
        let effect = self.board.effect(operation, over);
        if !effect.changes.is_empty() {
            self.change(effect.changes);
        }
        let mut outcome = effect.outcome;
        if let Outcome::Done(answer) = &mut outcome {
            position_of(answer).epoch = self.epoch;
        }
        self.told[number] = Some(outcome);
    }

    fn end(&mut self, number: usize) {
        let now = self.time();
        let is_lost = !self.is_calm && self.dice.one_in(15);
        let Some(outcome) = self.told[number].clone().filter(|_| !is_lost) else {
            return;
        };
        let operation = &mut self.operations[number];
        operation.outcome = outcome;
        operation.end = Some(now);
        if self.dice.one_in(10) {
            operation.repeats.push(operation.outcome.clone());
        }
    }

    fn change(&mut self, changes: Vec<Change>) {
        if self.dice.one_in(40) {
            self.epoch += 1;
        }
        self.board.apply(&changes);
        let position = Position {
            epoch: self.epoch,
            revision: self.board.revision(),
        };
        self.changes.push((position, changes));
    }

    /// Ends what has outlived its time: one by one, or all at once.
    fn sweep(&mut self) {
        let now = Some(self.time());
        let old: Vec<String> = self
            .board
            .entries()
            .iter()
            .filter(|(_, held)| held.has_outlived(now))
            .map(|(key, _)| key.clone())
            .collect();
        let sets: Vec<Vec<String>> = if self.dice.one_in(2) {
            old.into_iter().map(|key| vec![key]).collect()
        } else {
            vec![old]
        };
        for set in sets.into_iter().filter(|set| !set.is_empty()) {
            let changes = self.board.expire(set.iter().map(String::as_str));
            self.change(changes);
        }
        if self.operations.len() < self.calls && !self.is_calm {
            self.plan(30, Event::Sweep);
        }
    }

    /// The last look at everything.
    fn look(&mut self) {
        self.now += 1_000;
        let number = self.operations.len();
        let call = Call::List {
            prefix: String::new(),
            after: None,
        };
        self.operations.push(Operation {
            number,
            client: "last".to_owned(),
            agent: AGENTS[0].to_owned(),
            call,
            start: self.time(),
            end: None,
            outcome: Outcome::Unknown,
            repeats: Vec::new(),
        });
        self.told.push(None);
        self.happen(number);
        self.now += 1;
        self.operations[number].outcome = self.told[number].clone().unwrap();
        self.operations[number].end = Some(self.time());
    }

    fn call(&mut self, agent: &str, number: usize) -> Call {
        let key = (*self.dice.pick(&KEYS[..3])).to_owned();
        match self.dice.below(14) {
            0..=2 => Call::Get {
                key: (*self.dice.pick(&KEYS)).to_owned(),
            },
            3..=5 => Call::Put {
                if_revision: self.revision(&key),
                if_lock: self.lock_held(agent),
                ttl: self
                    .dice
                    .one_in(4)
                    .then(|| Duration::from_micros(30 + self.dice.below(60))),
                value: number.to_string(),
                key,
            },
            6 => Call::Delete {
                if_revision: self.revision(&key),
                if_lock: None,
                key,
            },
            7..=8 => Call::List {
                prefix: (*self.dice.pick(&["", "a/", "b"])).to_owned(),
                after: self.dice.one_in(3).then(|| "a/1".to_owned()),
            },
            9..=10 => self.transaction(number),
            _ => Call::Lock {
                act: *self.dice.pick(&[Act::Acquire, Act::Renew, Act::Release]),
                key: KEYS[3].to_owned(),
                ttl: Duration::from_micros(40),
                fencing_revision: self.lock_held(agent).map(|lock| lock.fencing_revision),
            },
        }
    }

    fn transaction(&mut self, number: usize) -> Call {
        let condition = match self.dice.below(3) {
            0 => Condition::Exists(self.dice.one_in(2)),
            1 => Condition::Revision(self.revision(KEYS[0]).unwrap_or(0)),
            _ => Condition::Value(self.dice.below(number as u64 + 1).to_string()),
        };
        let step = |key: &str, what| Step {
            key: key.to_owned(),
            what,
        };
        Call::Transact {
            compare: vec![Compare {
                key: KEYS[0].to_owned(),
                condition,
            }],
            then: vec![
                step(KEYS[0], Do::Put(number.to_string())),
                step(KEYS[1], Do::Delete),
                step(KEYS[3], Do::Get),
            ],
            otherwise: vec![
                step(KEYS[1], Do::Put(number.to_string())),
                step(KEYS[2], Do::Put(number.to_string())),
            ],
        }
    }

    /// Often the one that the key has now.
    fn revision(&mut self, key: &str) -> Option<u64> {
        match self.dice.below(4) {
            0 => Some(self.board.get(key).map_or(0, |held| held.revision)),
            1 => Some(self.dice.below(self.board.revision() + 1)),
            _ => None,
        }
    }

    fn lock_held(&mut self, agent: &str) -> Option<LockHeld> {
        let held = self.board.get(KEYS[3])?;
        let is_own = held.writer == agent || self.dice.one_in(4);
        (is_own && self.dice.one_in(2)).then(|| LockHeld {
            key: KEYS[3].to_owned(),
            fencing_revision: held.created_revision,
        })
    }

    fn time(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn world(mut self) -> World {
        let filters = [
            Filter::Prefix(String::new()),
            Filter::Prefix("a/".to_owned()),
            Filter::Key("lock".to_owned()),
        ];
        let logs = filters
            .into_iter()
            .enumerate()
            .map(|(number, filter)| self.log(number, filter))
            .collect();
        let mut operations = self.operations;
        operations.sort_by_key(|operation| operation.start);
        World {
            history: History {
                operations,
                ..History::default()
            },
            logs,
            board: self.board,
        }
    }

    /// What one watcher is told, over connections that break now and then.
    fn log(&mut self, number: usize, filter: Filter) -> WatchLog {
        let previous = self.dice.one_in(2);
        let mut segments = vec![Segment {
            after: Some(Position::default()),
            messages: Vec::new(),
        }];
        for (position, changes) in &self.changes {
            let told: Vec<Told> = changes
                .iter()
                .filter(|change| filter.matches(&change.key))
                .map(|change| told(change, previous))
                .collect();
            let last = segments.last_mut().unwrap();
            if !told.is_empty() || self.dice.one_in(4) {
                last.messages.push(Message {
                    position: *position,
                    changes: told,
                });
            }
            let reached = last.messages.last().map(|message| message.position);
            if self.dice.one_in(10) {
                let after = reached.or(last.after);
                segments.push(Segment {
                    after,
                    messages: Vec::new(),
                });
            }
        }
        WatchLog {
            name: format!("watcher-{number}"),
            filter,
            previous,
            segments,
        }
    }
}

fn lives_for_ever(call: &mut Call) {
    match call {
        Call::Put { ttl, .. } => *ttl = None,
        Call::Lock { ttl, .. } => *ttl = Duration::from_hours(1),
        _ => {}
    }
}

fn told(change: &Change, previous: bool) -> Told {
    let entry =
        |held: &Option<crate::model::Held>| held.as_ref().map(|held| held.told(&change.key));
    Told {
        kind: change.kind,
        key: change.key.clone(),
        entry: entry(&change.after),
        previous: entry(&change.before).filter(|_| previous),
        previous_revision: Some(change.before.as_ref().map_or(0, |held| held.revision)),
    }
}

pub(super) fn position_of(answer: &mut Answer) -> &mut Position {
    match answer {
        Answer::Found { position, .. }
        | Answer::Absent { position }
        | Answer::Written { position, .. }
        | Answer::Deleted { position, .. }
        | Answer::Listed { position, .. }
        | Answer::Transacted { position, .. }
        | Answer::Locked { position, .. } => position,
    }
}

/// Whether a client was told that a condition did not hold, or the like.
pub(super) fn is_refused(operation: &Operation) -> bool {
    matches!(
        operation.outcome,
        Outcome::Refused(Refusal::Conflict | Refusal::NotFound)
    )
}

/// Of what kinds the changes were.
pub(super) fn kinds(world: &World) -> Vec<Kind> {
    let messages = world.logs.iter().flat_map(|log| &log.segments);
    let changes = messages.flat_map(|segment| &segment.messages);
    changes
        .flat_map(|message| &message.changes)
        .map(|told| told.kind)
        .collect()
}
