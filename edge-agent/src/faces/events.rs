//! `GET /events`: what happens to the caller's grants, or on a board, as
//! server-sent events (WHATWG HTML, "Server-sent events").

use std::{convert::Infallible, fmt::Write, pin::Pin, sync::Arc, time::Duration};

use authguardian_proto::{
    ids::ParseIdError,
    reason::{Problem, Reason},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    response::Response,
};
use futures::{Stream, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use serde_json::json;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::{
    bound::{Bound, Place},
    problem,
};
use crate::core::{
    BoardEventsWanted, Caller, Core, EventId, EventName, EventsWanted, Heard, HeardOfBoard,
};

mod board;

/// Between blocks that say nothing but how far the stream has come.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How soon a client is asked to come again.
const RETRY: Duration = Duration::from_secs(2);

const LAST_EVENT_ID: &str = "Last-Event-ID";
const PARAMETERS: &str = "expected `events`, `agent_id` or `last_event_id`, and for a board `board`, `key`, `prefix` or `previous`";
/// Those that only streams of a board have.
const OF_BOARDS: [&str; 4] = ["board", "key", "prefix", "previous"];

/// The face.
#[derive(Clone)]
pub(super) struct Face {
    pub(super) core: Arc<Core>,
    /// Where streams are counted, with MCP sessions.
    pub(super) sessions: Arc<Bound>,
    /// Ends the streams.
    pub(super) stop: CancellationToken,
}

/// `GET /events`.
pub(super) async fn serve(
    State(face): State<Face>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let begun = async {
        let wanted = wanted(&uri, &headers)?;
        let place = face.sessions.enter_to_stay(caller.api_key_id())?;
        let heard = match wanted {
            Wanted::OfCaller(wanted) => {
                let heard = face.core.events(&caller, wanted).await?;
                heard.map(Word::from).boxed()
            }
            Wanted::OfBoard(wanted) => {
                let heard = face.core.board_events(&caller, wanted).await?;
                heard.map(Word::from).boxed()
            }
        };
        Ok((place, heard))
    };
    match begun.await {
        Ok((place, heard)) => respond(Body::from_stream(face.stream(caller, place, heard))),
        Err(problem) => problem::respond(&problem),
    }
}

fn respond(body: Body) -> Response {
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // a proxy that collects answers would hold events back
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

impl Face {
    fn stream(
        self,
        caller: Caller,
        place: Place,
        heard: BoxStream<'static, Word>,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        let ambient = self.core.ambient().clone();
        let (keep_alive, retry) = (ambient.jittered(KEEP_ALIVE), ambient.jittered(RETRY));
        let told = Told {
            heard,
            over: Box::pin(self.over(caller)),
            keep_alive,
            alive: Box::pin(tokio::time::sleep(keep_alive)),
            up_to: None,
            _place: place,
        };
        let hint = format!("retry: {}\n\n", retry.as_millis());
        stream::once(async { Bytes::from(hint) })
            .chain(stream::unfold(Some(told), |told| async {
                let mut told = told?;
                let (block, goes_on) = told.next().await?;
                Some((block, goes_on.then_some(told)))
            }))
            .map(Ok)
    }

    /// Why the stream ends before its client leaves.
    async fn over(self, caller: Caller) -> (Reason, &'static str) {
        tokio::select! {
            () = self.core.credential_ended(&caller) => (
                Reason::Unauthenticated,
                "the credential that this stream was begun with has ended; begin again with one that counts",
            ),
            () = self.stop.cancelled() => (
                Reason::Unavailable,
                "this edge stops; begin again in a while",
            ),
        }
    }
}

/// What a client asks to be told of.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    OfCaller(EventsWanted),
    OfBoard(BoardEventsWanted),
}

/// What is heard of whatever a stream is of.
enum Word {
    /// The next events as text, if there are any, and up to where all is told.
    Events { text: String, up_to: String },
    /// Events were missed for good; it goes on from here.
    Compacted { detail: &'static str, up_to: String },
    /// The client read too slowly; it is over.
    Lagged { up_to: String },
    /// It is over for another reason.
    Over(Problem),
}

impl From<Heard> for Word {
    fn from(heard: Heard) -> Self {
        match heard {
            Heard::Events { events, up_to } => {
                let mut text = String::new();
                for event in &events {
                    let id = event.position.map(|position| EventId(position).to_string());
                    write_event(&mut text, event.name.as_str(), &event.data, id.as_deref());
                }
                let up_to = EventId(up_to).to_string();
                Self::Events { text, up_to }
            }
            Heard::Compacted { up_to } => Self::Compacted {
                detail: "what happened since your last event can no longer be told; read grants://active again",
                up_to: EventId(up_to).to_string(),
            },
            Heard::Lagged { up_to } => Self::Lagged {
                up_to: EventId(up_to).to_string(),
            },
        }
    }
}

impl From<HeardOfBoard> for Word {
    /// Only the last event of a revision has an id: whoever comes again with it
    /// has heard all of that revision.
    fn from(heard: HeardOfBoard) -> Self {
        match heard {
            HeardOfBoard::Events { events, up_to } => {
                let up_to = up_to.to_string();
                let mut text = String::new();
                let mut rest = events.len();
                for event in &events {
                    rest -= 1;
                    let id = (rest == 0).then_some(up_to.as_str());
                    write_event(&mut text, event.name.as_str(), &event.data, id);
                }
                Self::Events { text, up_to }
            }
            HeardOfBoard::Compacted { up_to } => Self::Compacted {
                detail: "what happened since your last event can no longer be told; list the board again",
                up_to: up_to.to_string(),
            },
            HeardOfBoard::Lagged { up_to } => Self::Lagged {
                up_to: up_to.to_string(),
            },
            HeardOfBoard::Over(problem) => Self::Over(problem),
        }
    }
}

/// One stream, as text.
struct Told {
    heard: BoxStream<'static, Word>,
    over: BoxFuture<'static, (Reason, &'static str)>,
    keep_alive: Duration,
    alive: Pin<Box<Sleep>>,
    /// Where the client has to begin again to miss nothing.
    up_to: Option<String>,
    _place: Place,
}

impl Told {
    /// The next text, and whether more follows; `None` when the edge has ended.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        loop {
            tokio::select! {
                biased;
                (reason, detail) = &mut self.over => {
                    return Some((self.problem(reason, detail), false));
                }
                heard = self.heard.next() => {
                    if let Some(next) = self.take(heard?) {
                        self.alive.as_mut().reset(Instant::now() + self.keep_alive);
                        return Some(next);
                    }
                }
                () = &mut self.alive => {
                    self.alive.as_mut().reset(Instant::now() + self.keep_alive);
                    return Some((self.position(), true));
                }
            }
        }
    }

    fn take(&mut self, heard: Word) -> Option<(Bytes, bool)> {
        let is_first = self.up_to.is_none();
        match heard {
            Word::Events { text, up_to } => {
                self.up_to = Some(up_to);
                match text.is_empty() {
                    // later ones are told with the next sign of life
                    true if is_first => Some((self.position(), true)),
                    true => None,
                    false => Some((text.into(), true)),
                }
            }
            Word::Compacted { detail, up_to } => {
                self.up_to = Some(up_to);
                Some((self.problem(Reason::Compacted, detail), true))
            }
            Word::Lagged { up_to } => {
                self.up_to = Some(up_to);
                let detail = "you read too slowly; come again with `resume_after` as Last-Event-ID to miss nothing";
                Some((self.problem(Reason::Lagged, detail), false))
            }
            Word::Over(problem) => Some((self.problem(problem.reason, &problem.detail), false)),
        }
    }

    /// Tells how far the stream has come and dispatches no event; a comment where
    /// that is not known yet.
    fn position(&self) -> Bytes {
        match &self.up_to {
            Some(id) => format!("id: {id}\n\n").into(),
            None => Bytes::from_static(b":\n\n"),
        }
    }

    /// An event about the stream itself, named by its reason.
    fn problem(&self, reason: Reason, detail: &str) -> Bytes {
        let mut data = json!({ "reason": reason.as_str(), "detail": detail });
        if let Some(id) = &self.up_to {
            data["resume_after"] = json!(id);
        }
        let mut text = String::new();
        write_event(
            &mut text,
            reason.as_str(),
            &data.to_string(),
            self.up_to.as_deref(),
        );
        text.into()
    }
}

fn write_event(text: &mut String, name: &str, data: &str, id: Option<&str>) {
    // writing to a `String` does not fail
    if let Some(id) = id {
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
}

fn wanted(uri: &Uri, headers: &HeaderMap) -> Result<Wanted, Problem> {
    let Ok(Query(parameters)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        let detail = "the query cannot be read";
        return Err(Problem::new(Reason::InvalidArgument, detail));
    };
    let mut seen = Vec::new();
    for (name, _) in &parameters {
        if seen.contains(&name) {
            return Err(Problem::invalid(shortened(name), "is there twice"));
        }
        seen.push(name);
    }
    let last = last(headers);
    if parameters.iter().any(|(name, _)| name == "board") {
        return board::wanted(&parameters, last).map(Wanted::OfBoard);
    }
    wanted_of_caller(&parameters, last).map(Wanted::OfCaller)
}

fn wanted_of_caller(
    parameters: &[(String, String)],
    last: Option<&str>,
) -> Result<EventsWanted, Problem> {
    let mut wanted = EventsWanted::default();
    for (name, value) in parameters {
        match name.as_str() {
            "events" => wanted.names = names(value)?,
            "agent_id" => {
                let parsed = value.parse();
                let invalid = |error: ParseIdError| Problem::invalid("agent_id", error.to_string());
                wanted.agent_id = Some(parsed.map_err(invalid)?);
            }
            "last_event_id" => wanted.after = position("last_event_id", value)?,
            name if OF_BOARDS.contains(&name) => {
                let detail = "is only for the events of a board, which `board` names";
                return Err(Problem::invalid(name, detail));
            }
            _ => return Err(unknown(name)),
        }
    }
    if let Some(text) = last
        && let Some(after) = position(LAST_EVENT_ID, text)?
    {
        wanted.after = Some(after);
    }
    Ok(wanted)
}

/// A browser that comes again repeats the URL: its header is the newer word.
/// What is no text, or there twice, is no position either.
fn last(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let value = values.next()?;
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    Some(text.unwrap_or("?"))
}

fn unknown(name: &str) -> Problem {
    let detail = format!("there is no such parameter; {PARAMETERS}");
    Problem::invalid(shortened(name), detail)
}

/// Nothing is no position: what some clients send before their first event.
fn position(field: &str, text: &str) -> Result<Option<EventId>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse::<EventId>();
    let parsed = parsed.map_err(|error| Problem::invalid(field, error.to_string()))?;
    Ok(Some(parsed))
}

/// Names, and `grant.*` for all that begin so.
fn names(text: &str) -> Result<Vec<EventName>, Problem> {
    let mut names = Vec::new();
    for pattern in text.split(',').map(str::trim) {
        let fits = |name: &EventName| match pattern.strip_suffix(".*") {
            Some(kind) => {
                let rest = name.as_str().strip_prefix(kind);
                rest.is_some_and(|rest| rest.starts_with('.'))
            }
            None => name.as_str() == pattern,
        };
        let before = names.len();
        names.extend(EventName::ALL.into_iter().filter(fits));
        if names.len() == before && pattern.starts_with("blackboard.") {
            let detail = "is required: events of a board are told to whoever names it";
            return Err(Problem::invalid("board", detail));
        }
        if names.len() == before {
            let known = EventName::ALL.map(EventName::as_str).join("`, `");
            let detail = format!(
                "there is no event `{}`; expected `{known}`, or `grant.*` for all that begin so",
                shortened(pattern)
            );
            return Err(Problem::invalid("events", detail));
        }
    }
    Ok(names)
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::{BoardEvent, BoardEventName};

    fn read(query: &str, last: Option<&str>) -> Result<EventsWanted, Problem> {
        match read_any(query, last)? {
            Wanted::OfCaller(wanted) => Ok(wanted),
            Wanted::OfBoard(wanted) => panic!("{wanted:?}"),
        }
    }

    fn read_board(query: &str, last: Option<&str>) -> Result<BoardEventsWanted, Problem> {
        match read_any(query, last)? {
            Wanted::OfBoard(wanted) => Ok(wanted),
            Wanted::OfCaller(wanted) => panic!("{wanted:?}"),
        }
    }

    fn read_any(query: &str, last: Option<&str>) -> Result<Wanted, Problem> {
        let uri = Uri::builder().path_and_query(format!("/events{query}"));
        let mut headers = HeaderMap::new();
        if let Some(last) = last {
            headers.insert(LAST_EVENT_ID, HeaderValue::from_str(last).unwrap());
        }
        wanted(&uri.build().unwrap(), &headers)
    }

    fn field(query: &str, last: Option<&str>) -> String {
        let problem = read_any(query, last).unwrap_err();
        assert_eq!(problem.reason, Reason::InvalidArgument, "{query}");
        problem.field.unwrap()
    }

    fn id(text: &str) -> EventId {
        text.parse().unwrap()
    }

    #[test]
    fn filters_are_exact_names_or_all_that_begin_so() {
        let names = |query| read(query, None).unwrap().names;
        assert_eq!(names(""), []);
        assert_eq!(names("?events=grant.granted"), [EventName::GrantGranted]);
        assert_eq!(
            names("?events=grants.revoked,%20grant.expired"),
            [EventName::GrantsRevoked, EventName::GrantExpired]
        );
        assert_eq!(
            names("?events=grant.*"),
            [
                EventName::GrantGranted,
                EventName::GrantRenewed,
                EventName::GrantRevoked,
                EventName::GrantExpired
            ]
        );
        let agent = read("?agent_id=data_analyst", None).unwrap().agent_id;
        assert_eq!(agent, Some("data_analyst".parse().unwrap()));
    }

    #[test]
    fn what_is_unknown_or_malformed_is_named() {
        for (query, at) in [
            ("?events=", "events"),
            ("?events=grant", "events"),
            ("?events=*", "events"),
            ("?events=gran.*", "events"),
            ("?events=grant.granted,nonsense", "events"),
            ("?events=grant.granted&events=grant.expired", "events"),
            ("?agent_id=", "agent_id"),
            ("?agent_id=a%20b", "agent_id"),
            ("?agent=x", "agent"),
            ("?key=a", "key"),
            ("?events=blackboard.put", "board"),
            ("?board=", "board"),
            ("?board=Strong", "board"),
            ("?board=strong&key=", "key"),
            ("?board=strong&key=a&prefix=b", "prefix"),
            ("?board=strong&prefix=%00", "prefix"),
            ("?board=strong&previous=yes", "previous"),
            ("?board=strong&events=grant.*", "events"),
            ("?board=strong&last_event_id=grants:1.2", "last_event_id"),
            (
                "?board=strong&last_event_id=board:other:1.2",
                "last_event_id",
            ),
            ("?board=strong&bord=x", "bord"),
            ("?last_event_id=7", "last_event_id"),
        ] {
            assert_eq!(field(query, None), at, "{query}");
        }
        for last in ["7", "grants:1", "grants:1.2,", "\u{e9}"] {
            assert_eq!(field("", Some(last)), LAST_EVENT_ID, "{last}");
        }
    }

    #[test]
    fn a_board_is_followed_by_key_or_prefix_from_a_position_of_its_own() {
        let wanted = read_board(
            "?board=strong&prefix=tasks%2F&previous=true&events=blackboard.put,blackboard.expired&agent_id=a",
            Some("board:strong:3.120"),
        )
        .unwrap();
        let position = wanted.after.unwrap();
        assert_eq!((position.epoch, position.revision), (3, 120));
        assert_eq!(
            (wanted.board.as_str(), wanted.prefix.as_str()),
            ("strong", "tasks/")
        );
        assert!(wanted.previous && wanted.agent_id.is_some());
        let names: Vec<&str> = wanted
            .names
            .into_iter()
            .map(BoardEventName::as_str)
            .collect();
        assert_eq!(names, ["blackboard.put", "blackboard.expired"]);
        let all = read_board("?board=strong&events=blackboard.*&key=a%20b", None).unwrap();
        assert_eq!(
            (all.names.len(), all.key.as_str(), all.after),
            (3, "a b", None)
        );
    }

    #[test]
    fn an_id_stands_only_with_the_last_event_of_its_revision() {
        let event = |data: &str| BoardEvent {
            name: BoardEventName::Put,
            data: data.to_owned(),
        };
        let heard = HeardOfBoard::Events {
            events: vec![event("1"), event("2")],
            up_to: "board:strong:1.7".parse().unwrap(),
        };
        let Word::Events { text, .. } = Word::from(heard) else {
            panic!("expected events")
        };
        assert_eq!(
            text,
            "event: blackboard.put\ndata: 1\n\nid: board:strong:1.7\nevent: blackboard.put\ndata: 2\n\n"
        );
    }

    #[test]
    fn the_header_wins_over_the_query_that_a_browser_repeats() {
        let after = |query, last| read(query, last).unwrap().after;
        let query = "?last_event_id=grants:1.2";
        assert_eq!(after("", None), None);
        assert_eq!(after(query, None), Some(id("grants:1.2")));
        assert_eq!(
            after("?last_event_id=grants%3A1.2", None),
            Some(id("grants:1.2"))
        );
        assert_eq!(after(query, Some("grants:1.9")), Some(id("grants:1.9")));
        assert_eq!(after(query, Some("")), Some(id("grants:1.2")));
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused_by_its_field(query in "[ -~&&[^#]]{0,60}", last in "[ -~]{0,40}") {
            if let Ok(uri) = Uri::builder().path_and_query(format!("/events?{query}")).build() {
                let mut headers = HeaderMap::new();
                headers.insert(LAST_EVENT_ID, HeaderValue::from_str(&last).unwrap());
                if let Err(problem) = wanted(&uri, &headers) {
                    prop_assert_eq!(problem.reason, Reason::InvalidArgument);
                }
            }
        }
    }
}
