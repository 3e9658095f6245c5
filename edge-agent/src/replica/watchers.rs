//! Who watches what, and what waits for whom.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use authguardian_proto::{board::Key, common::v1::Position, ids::BoardName};
use tokio::sync::mpsc;

use super::watch::{Change, Filter, News};

/// Most bytes of values that wait for a reader.
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;

/// What the two ends of a watch share.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Bytes of values that wait.
    waiting: AtomicUsize,
    /// Whether the reader was too slow.
    is_slow: AtomicBool,
}

impl Line {
    /// Whether the reader was too slow.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Acquire)
    }

    /// A message does not wait any more.
    pub(super) fn took(&self, news: &News) {
        let bytes = news.changes.iter().map(|change| change.bytes()).sum();
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// All watches, by what they are told of.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Registry>);

#[derive(Debug, Default)]
struct Registry {
    last_id: u64,
    boards: HashMap<BoardName, OnBoard>,
}

#[derive(Debug, Default)]
struct OnBoard {
    keys: HashMap<Key, Vec<Listener>>,
    prefixes: Vec<(Box<str>, Listener)>,
}

#[derive(Debug, Clone)]
struct Listener {
    id: u64,
    sender: mpsc::Sender<News>,
    line: Arc<Line>,
}

impl Watchers {
    /// Most messages that wait for a reader; one that has more is told that it is too slow.
    pub(super) const MAX_WAITING: usize = 1_024;

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a watch. Returns its number.
    pub(super) fn add(
        &self,
        board: &BoardName,
        filter: &Filter,
        sender: mpsc::Sender<News>,
        line: Arc<Line>,
    ) -> u64 {
        let mut registry = self.registry();
        registry.last_id += 1;
        let id = registry.last_id;
        let listener = Listener { id, sender, line };
        let on_board = registry.boards.entry(board.clone()).or_default();
        match filter {
            Filter::Key(key) => {
                let of_key = on_board.keys.entry(key.clone()).or_default();
                of_key.push(listener);
            }
            Filter::Prefix(prefix) => on_board.prefixes.push((prefix.clone(), listener)),
        }
        id
    }

    /// Removes a watch.
    pub(super) fn remove(&self, board: &BoardName, id: u64) {
        let mut registry = self.registry();
        if let Some(on_board) = registry.boards.get_mut(board) {
            on_board.remove(id);
            if on_board.is_empty() {
                registry.boards.remove(board);
            }
        }
    }

    /// Tells those that watch what changed.
    pub(super) fn tell(&self, told: &[(BoardName, Arc<Change>)], up_to: Position) {
        let mut registry = self.registry();
        let mut rest: VecDeque<&(BoardName, Arc<Change>)> = told.iter().collect();
        while let Some((name, _)) = rest.front() {
            let of_board = |one: &&(BoardName, Arc<Change>)| one.0 == *name;
            let (changes, others) = rest.iter().copied().partition::<VecDeque<_>, _>(of_board);
            if let Some(on_board) = registry.boards.get_mut(name) {
                for id in on_board.tell(&changes, up_to) {
                    on_board.remove(id);
                }
            }
            rest = others;
        }
    }

    /// Ends the watches of boards that are here no more.
    pub(super) fn end(&self, boards: &[BoardName]) {
        let mut registry = self.registry();
        for board in boards {
            registry.boards.remove(board);
        }
    }

    /// Ends all as if they had been too slow: they go on after what they were told.
    pub(super) fn lag(&self) {
        let mut registry = self.registry();
        for on_board in std::mem::take(&mut registry.boards).into_values() {
            let by_key = on_board.keys.into_values().flatten();
            let by_prefix = on_board.prefixes.into_iter().map(|(_, listener)| listener);
            for listener in by_key.chain(by_prefix) {
                listener.line.is_slow.store(true, Ordering::Release);
            }
        }
    }

    /// Ends all.
    pub(super) fn close(&self) {
        self.registry().boards.clear();
    }
}

impl OnBoard {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty()
    }

    fn remove(&mut self, id: u64) {
        self.keys.retain(|_, listeners| {
            listeners.retain(|listener| listener.id != id);
            !listeners.is_empty()
        });
        self.prefixes.retain(|(_, listener)| listener.id != id);
    }

    /// Returns those that were too slow, or do not listen any more.
    fn tell(&self, changes: &VecDeque<&(BoardName, Arc<Change>)>, up_to: Position) -> Vec<u64> {
        let mut messages: HashMap<u64, (&Listener, Vec<Arc<Change>>)> = HashMap::new();
        for (_, change) in changes {
            let by_key = self.keys.get(&change.key).into_iter().flatten();
            let by_prefix = self.prefixes.iter();
            let by_prefix =
                by_prefix.filter(|(prefix, _)| change.key.as_str().starts_with(&**prefix));
            for listener in by_key.chain(by_prefix.map(|(_, listener)| listener)) {
                let message = messages.entry(listener.id);
                let message = message.or_insert_with(|| (listener, Vec::new()));
                message.1.push(change.clone());
            }
        }
        let sent = messages.into_values().map(|(listener, changes)| {
            let is_told = listener.tell(News { changes, up_to });
            (!is_told).then_some(listener.id)
        });
        sent.flatten().collect()
    }
}

impl Listener {
    fn tell(&self, news: News) -> bool {
        let bytes: usize = news.changes.iter().map(|change| change.bytes()).sum();
        let waiting = self.line.waiting.fetch_add(bytes, Ordering::Relaxed);
        // one that waits for nothing is told whatever it is
        let is_told = (waiting == 0 || waiting + bytes <= MAX_WAITING_BYTES)
            && self.sender.try_send(news).is_ok();
        if !is_told {
            self.line.is_slow.store(true, Ordering::Release);
        }
        is_told
    }
}
