//! Watchers that write down what they are told, and come again where their
//! connection breaks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use authguardian_history::{Filter, Kind, Message, Position, Segment, Told, WatchLog};
use authguardian_proto::blackboard::v1::{BoardChange, WatchResponse, board_change};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    grpc::{self, Grpc},
    rest::{Rest, entry, number, text},
};
use crate::wait::DEADLINE;

/// Before it comes again.
const PAUSE: Duration = Duration::from_millis(50);

/// A watcher at work.
pub(super) struct Watcher {
    log: Arc<Mutex<WatchLog>>,
    reached: watch::Receiver<u64>,
    watching: JoinHandle<()>,
}

impl Watcher {
    /// By gRPC, with what was there before.
    pub(super) fn by_grpc(grpc: Grpc, prefix: &str, after: Position) -> Self {
        let filter = Filter::Prefix(prefix.to_owned());
        let source = Source::Grpc(grpc, prefix.to_owned());
        Self::start("grpc".to_owned(), filter, true, source, after)
    }

    /// As server-sent events of an edge.
    pub(super) fn by_rest(rest: Rest, filter: Filter, previous: bool, after: Position) -> Self {
        let what = match &filter {
            Filter::Key(key) => format!("key={key}"),
            Filter::Prefix(prefix) => format!("prefix={prefix}"),
        };
        let query = format!("{what}&previous={previous}");
        let name = format!("rest {query}");
        Self::start(name, filter, previous, Source::Rest(rest, query), after)
    }

    fn start(
        name: String,
        filter: Filter,
        previous: bool,
        source: Source,
        after: Position,
    ) -> Self {
        let log = Arc::new(Mutex::new(WatchLog {
            name,
            filter,
            previous,
            segments: Vec::new(),
        }));
        let (reached, watched) = watch::channel(after.revision);
        let book = Book {
            log: log.clone(),
            began: after,
            reached,
        };
        let watching = tokio::spawn(async move {
            loop {
                source.listen(&book).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self {
            log,
            reached: watched,
            watching,
        }
    }

    /// Waits until it has been told up to here, and ends it.
    pub(super) async fn end_at(mut self, revision: u64) -> WatchLog {
        let reached = self.reached.wait_for(|reached| *reached >= revision);
        let reached = tokio::time::timeout(DEADLINE, reached).await.is_ok();
        self.watching.abort();
        let log = self
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let got_to = log.position();
        assert!(
            reached,
            "watcher {} was not told of revision {revision}, only up to {got_to:?}",
            log.name
        );
        log
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Where it listens.
enum Source {
    Grpc(Grpc, String),
    Rest(Rest, String),
}

impl Source {
    /// Until the connection breaks.
    async fn listen(&self, book: &Book) {
        match self {
            Self::Grpc(grpc, prefix) => {
                let Ok(mut stream) = grpc.watch(prefix, book.begin()).await else {
                    return;
                };
                while let Ok(Some(told)) = stream.message().await {
                    book.note(message(told));
                }
            }
            Self::Rest(rest, query) => {
                let Ok(mut response) = rest.events(query, book.begin()).await else {
                    return;
                };
                let mut reader = Reader::default();
                while let Ok(Some(chunk)) = response.chunk().await {
                    for message in reader.read(&chunk) {
                        book.note(message);
                    }
                }
            }
        }
    }
}

/// Where it writes.
struct Book {
    log: Arc<Mutex<WatchLog>>,
    began: Position,
    reached: watch::Sender<u64>,
}

impl Book {
    /// A new connection, and from where on.
    fn begin(&self) -> Position {
        let mut log = self.log.lock().unwrap();
        let after = log.position().unwrap_or(self.began);
        log.segments.push(Segment {
            after: Some(after),
            messages: Vec::new(),
        });
        after
    }

    fn note(&self, message: Message) {
        let revision = message.position.revision;
        let mut log = self.log.lock().unwrap();
        log.segments.last_mut().unwrap().messages.push(message);
        self.reached.send_replace(revision);
    }
}

fn message(told: WatchResponse) -> Message {
    Message {
        position: grpc::position(told.position),
        changes: told.changes.into_iter().map(change).collect(),
    }
}

fn change(told: BoardChange) -> Told {
    let kind = match told.kind() {
        board_change::Kind::Delete => Kind::Delete,
        board_change::Kind::Expire => Kind::Expire,
        board_change::Kind::Put | board_change::Kind::Unspecified => Kind::Put,
    };
    let entry = grpc::entry(told.entry.unwrap_or_default());
    Told {
        kind,
        key: entry.key.clone(),
        entry: (kind == Kind::Put).then_some(entry),
        previous: told.previous.map(grpc::entry),
        previous_revision: told.previous_revision,
    }
}

/// Reads server-sent events: those of one revision are one message, which is
/// over with the id.
#[derive(Default)]
struct Reader {
    text: Vec<u8>,
    name: String,
    data: String,
    id: Option<String>,
    changes: Vec<Told>,
}

impl Reader {
    fn read(&mut self, chunk: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        for byte in chunk {
            if *byte != b'\n' {
                self.text.push(*byte);
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut self.text)).unwrap();
            messages.extend(self.line(&line));
        }
        messages
    }

    fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            return self.block();
        }
        let (field, value) = line.split_once(':')?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => value.clone_into(&mut self.data),
            "id" => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }

    fn block(&mut self) -> Option<Message> {
        let (name, data) = (
            std::mem::take(&mut self.name),
            std::mem::take(&mut self.data),
        );
        let kind = match name.as_str() {
            "blackboard.put" => Some(Kind::Put),
            "blackboard.deleted" => Some(Kind::Delete),
            "blackboard.expired" => Some(Kind::Expire),
            _ => None,
        };
        if let Some(kind) = kind {
            self.changes.push(of_event(kind, &data));
        }
        let id = self.id.take()?;
        Some(Message {
            position: of_id(&id)?,
            changes: std::mem::take(&mut self.changes),
        })
    }
}

fn of_event(kind: Kind, data: &str) -> Told {
    let told: Value = serde_json::from_str(data).unwrap();
    Told {
        kind,
        key: text(&told["key"]).to_owned(),
        entry: (kind == Kind::Put).then(|| entry(&told)),
        previous: told["previous"]
            .is_object()
            .then(|| entry(&told["previous"])),
        previous_revision: Some(number(&told["previous_revision"])),
    }
}

/// `board:strong:<epoch>.<revision>`.
fn of_id(id: &str) -> Option<Position> {
    let (_, position) = id.strip_prefix("board:")?.split_once(':')?;
    let (epoch, revision) = position.split_once('.')?;
    Some(Position {
        epoch: epoch.parse().ok()?,
        revision: revision.parse().ok()?,
    })
}
