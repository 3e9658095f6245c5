//! Clients and watchers at work on one board.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use authguardian_history::{Answer, Call, Entry, History, Outcome, Position, Recorder};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    client::{Unresolved, Worker},
    dice::Dice,
    progress::Progress,
    told::AllTold,
    watcher::Watcher,
    way::Way,
};
use crate::wait::{DEADLINE, until_async};

/// Clients of each way to the board.
const CLIENTS: usize = 2;

/// While there is no primary.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// Between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Which all watchers watch.
pub(super) const WATCHED_BY_ALL: &str = "k/0";

/// By how much the servers' clock may be off against this one.
const CLOCK_ERROR: Duration = Duration::from_millis(20);

/// Clients and watchers at work.
pub(super) struct Load {
    began: Position,
    recorder: Recorder,
    pub(super) progress: Progress,
    stop: CancellationToken,
    clients: JoinSet<Vec<Unresolved>>,
    probes: Probes,
    watchers: Vec<Watcher>,
    name: String,
}
/// Calls that are made one after another without waiting for answers.
type Probes = Arc<Mutex<JoinSet<Option<Unresolved>>>>;

impl Load {
    pub(super) fn start(
        ways: &[Way],
        watchers: Vec<Watcher>,
        name: &str,
        began: Position,
        dice: &mut Dice,
    ) -> Self {
        let (recorder, progress) = (Recorder::new(now), Progress::default());
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        for (number, way) in ways.iter().enumerate() {
            for client in 0..CLIENTS {
                let worker = Worker::new(
                    format!("{name}-{number}-{client}"),
                    way.clone(),
                    recorder.clone(),
                    progress.clone(),
                    Dice::new(dice.next()),
                    stop.clone(),
                );
                clients.spawn(worker.work());
            }
        }
        Self {
            began,
            recorder,
            progress,
            stop,
            clients,
            probes: Probes::default(),
            watchers,
            name: name.to_owned(),
        }
    }

    /// Lets every way be tried again and again until it is cancelled, whether
    /// the call before has been answered or not.
    pub(super) fn probe(&self, ways: Vec<Way>) -> CancellationToken {
        let stop = CancellationToken::new();
        let (probes, stopped) = (self.probes.clone(), stop.clone());
        let (recorder, progress) = (self.recorder.clone(), self.progress.clone());
        let name = self.name.clone();
        tokio::spawn(async move {
            let mut often = tokio::time::interval(PROBE_EVERY);
            for number in 0.. {
                tokio::select! {
                    _ = often.tick() => {}
                    () = stopped.cancelled() => return,
                }
                let way = ways[number % ways.len()].clone();
                let request_id = format!("{name}-probe-{number}");
                let probe = probe(way, request_id, recorder.clone(), progress.clone());
                probes.lock().unwrap().spawn(probe);
            }
        });
        stop
    }

    /// Ends all of it, and asks for what nobody was told.
    pub(super) async fn end(self, main: &Way) -> AllTold {
        self.stop.cancel();
        let mut unresolved: Vec<Unresolved> = self
            .clients
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect();
        let mut probes = std::mem::take(&mut *self.probes.lock().unwrap());
        while let Some(probe) = probes.join_next().await {
            unresolved.extend(probe.unwrap());
        }
        let resolved = unresolved.len();
        let (recorder, progress) = (&self.recorder, &self.progress);
        let resolving = unresolved
            .into_iter()
            .map(|unresolved| unresolved.resolve(recorder, progress));
        futures::future::join_all(resolving).await;

        let last = last_look(main, recorder, &self.name).await;
        let mut logs = Vec::new();
        for watcher in self.watchers {
            logs.push(watcher.end_at(last.0.revision).await);
        }
        AllTold {
            history: History {
                began: self.began,
                clock_error: CLOCK_ERROR,
                ..self.recorder.history()
            },
            logs,
            last,
            progress: self.progress,
            resolved,
        }
    }
}

async fn probe(
    way: Way,
    request_id: String,
    recorder: Recorder,
    progress: Progress,
) -> Option<Unresolved> {
    let call = Call::Put {
        key: "probe".to_owned(),
        value: "1".to_owned(),
        if_revision: None,
        if_lock: None,
        ttl: None,
    };
    let start = recorder.now();
    let pending = recorder.begin("probe", way.agent(), call.clone());
    match way.ask(&call, &request_id).await {
        Outcome::Done(answer) => {
            progress.hears(start, recorder.now(), true, &answer);
            recorder.end(&pending, Outcome::Done(answer));
            None
        }
        Outcome::Refused(refusal) => {
            recorder.end(&pending, Outcome::Refused(refusal));
            None
        }
        Outcome::Unknown => {
            progress.misses();
            Some(Unresolved {
                way,
                call,
                request_id,
                pending,
            })
        }
    }
}

/// A last write that every watcher watches, and a last list.
async fn last_look(way: &Way, recorder: &Recorder, name: &str) -> (Position, Vec<Entry>) {
    let call = Call::Put {
        key: WATCHED_BY_ALL.to_owned(),
        value: "\"last\"".to_owned(),
        if_revision: None,
        if_lock: None,
        ttl: None,
    };
    for (call, request_id) in [(call, format!("{name}-last")), (list(), String::new())] {
        let told = std::cell::RefCell::new(None);
        let pending = recorder.begin("last", way.agent(), call.clone());
        until_async("the last call is answered", async || {
            let outcome = way.ask(&call, &request_id).await;
            let is_done = matches!(outcome, Outcome::Done(_));
            *told.borrow_mut() = Some(outcome);
            is_done
        })
        .await;
        let outcome = told.into_inner().unwrap();
        recorder.end(&pending, outcome.clone());
        if let Outcome::Done(Answer::Listed {
            entries, position, ..
        }) = outcome
        {
            return (position, entries);
        }
    }
    unreachable!("the second is a list")
}
/// Empties the board, and tells where it stands then.
pub(super) async fn cleared(way: &Way) -> Position {
    let last = Mutex::new(None);
    let empty = async {
        loop {
            let outcome = way.ask(&list(), "").await;
            *last.lock().unwrap() = Some(outcome.clone());
            if let Outcome::Done(Answer::Listed {
                entries, position, ..
            }) = outcome
            {
                if entries.is_empty() {
                    return position;
                }
                delete(way, &entries).await;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let empty = tokio::time::timeout(DEADLINE, empty).await;
    empty.unwrap_or_else(|_| panic!("the board is not empty, but {last:?}"))
}

/// Locks end by themselves.
async fn delete(way: &Way, entries: &[Entry]) {
    for entry in entries.iter().filter(|entry| !entry.is_lock) {
        let call = Call::Delete {
            key: entry.key.clone(),
            if_revision: None,
            if_lock: None,
        };
        way.ask(&call, &format!("clear-{}-{}", entry.revision, entry.key))
            .await;
    }
}

fn list() -> Call {
    Call::List {
        prefix: String::new(),
        after: None,
    }
}

/// One clock for all clients, which no sleep of the machine stops.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}
