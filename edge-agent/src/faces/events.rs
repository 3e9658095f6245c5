//! `GET /events`: what happens to the caller's grants, as server-sent events
//! (WHATWG HTML, "Server-sent events").

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
use crate::core::{Caller, Core, Event, EventId, EventName, EventsWanted, Heard};

/// Between blocks that say nothing but how far the stream has come.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How soon a client is asked to come again.
const RETRY: Duration = Duration::from_secs(2);

const LAST_EVENT_ID: &str = "Last-Event-ID";
const PARAMETERS: &str = "expected `events`, `agent_id` or `last_event_id`";

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
        Ok((place, face.core.events(&caller, wanted).await?))
    };
    match begun.await {
        Ok((place, heard)) => respond(Body::from_stream(face.stream(caller, place, heard.boxed()))),
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
        heard: BoxStream<'static, Heard>,
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

/// One stream, as text.
struct Told {
    heard: BoxStream<'static, Heard>,
    over: BoxFuture<'static, (Reason, &'static str)>,
    keep_alive: Duration,
    alive: Pin<Box<Sleep>>,
    /// Where the client has to begin again to miss nothing.
    up_to: Option<EventId>,
    _place: Place,
}

impl Told {
    /// The next text, and whether more follows; `None` when the edge has ended.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        loop {
            tokio::select! {
                biased;
                (reason, detail) = &mut self.over => {
                    return Some((problem_block(self.up_to, reason, detail), false));
                }
                heard = self.heard.next() => {
                    if let Some(next) = self.take(heard?) {
                        self.alive.as_mut().reset(Instant::now() + self.keep_alive);
                        return Some(next);
                    }
                }
                () = &mut self.alive => {
                    self.alive.as_mut().reset(Instant::now() + self.keep_alive);
                    return Some((position_block(self.up_to), true));
                }
            }
        }
    }

    fn take(&mut self, heard: Heard) -> Option<(Bytes, bool)> {
        let is_first = self.up_to.is_none();
        match heard {
            Heard::Events { events, up_to } => {
                self.up_to = Some(EventId(up_to));
                let mut text = String::new();
                for event in &events {
                    write_event(&mut text, event);
                }
                match events.is_empty() {
                    // later ones are told with the next sign of life
                    true if is_first => Some((position_block(self.up_to), true)),
                    true => None,
                    false => Some((text.into(), true)),
                }
            }
            Heard::Compacted { up_to } => {
                self.up_to = Some(EventId(up_to));
                let detail = "what happened since your last event can no longer be told; read grants://active again";
                Some((problem_block(self.up_to, Reason::Compacted, detail), true))
            }
            Heard::Lagged { up_to } => {
                self.up_to = Some(EventId(up_to));
                let detail = "you read too slowly; come again with `resume_after` as Last-Event-ID to miss nothing";
                Some((problem_block(self.up_to, Reason::Lagged, detail), false))
            }
        }
    }
}

fn write_event(text: &mut String, event: &Event) {
    let id = event.position.map(EventId);
    // writing to a `String` does not fail
    let _ = write_id(text, id);
    let name = event.name.as_str();
    let _ = write!(text, "event: {name}\ndata: {}\n\n", event.data);
}

fn write_id(text: &mut String, id: Option<EventId>) -> std::fmt::Result {
    match id {
        Some(id) => writeln!(text, "id: {id}"),
        None => Ok(()),
    }
}

/// Tells how far the stream has come and dispatches no event; a comment where
/// that is not known yet.
fn position_block(up_to: Option<EventId>) -> Bytes {
    match up_to {
        Some(id) => format!("id: {id}\n\n").into(),
        None => Bytes::from_static(b":\n\n"),
    }
}

/// An event about the stream itself, named by its reason.
fn problem_block(up_to: Option<EventId>, reason: Reason, detail: &str) -> Bytes {
    let mut data = json!({ "reason": reason.as_str(), "detail": detail });
    if let Some(id) = up_to {
        data["resume_after"] = json!(id.to_string());
    }
    let mut text = String::new();
    let _ = write_id(&mut text, up_to);
    let _ = write!(text, "event: {reason}\ndata: {data}\n\n");
    text.into()
}

fn wanted(uri: &Uri, headers: &HeaderMap) -> Result<EventsWanted, Problem> {
    let Ok(Query(parameters)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        let detail = "the query cannot be read";
        return Err(Problem::new(Reason::InvalidArgument, detail));
    };
    let mut wanted = EventsWanted::default();
    let mut seen = Vec::new();
    for (name, value) in &parameters {
        if seen.contains(&name) {
            return Err(Problem::invalid(shortened(name), "is there twice"));
        }
        seen.push(name);
        match name.as_str() {
            "events" => wanted.names = names(value)?,
            "agent_id" => {
                let parsed = value.parse();
                let invalid = |error: ParseIdError| Problem::invalid("agent_id", error.to_string());
                wanted.agent_id = Some(parsed.map_err(invalid)?);
            }
            "last_event_id" => wanted.after = position("last_event_id", value)?,
            _ => {
                let detail = format!("there is no such parameter; {PARAMETERS}");
                return Err(Problem::invalid(shortened(name), detail));
            }
        }
    }
    // a browser that comes again repeats the URL: its header is the newer word
    let mut last = headers.get_all(LAST_EVENT_ID).iter();
    if let Some(value) = last.next() {
        let text = value.to_str().ok().filter(|_| last.next().is_none());
        // what is no text is no position either
        if let Some(after) = position(LAST_EVENT_ID, text.unwrap_or("?"))? {
            wanted.after = Some(after);
        }
    }
    Ok(wanted)
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

    fn read(query: &str, last: Option<&str>) -> Result<EventsWanted, Problem> {
        let uri = Uri::builder().path_and_query(format!("/events{query}"));
        let mut headers = HeaderMap::new();
        if let Some(last) = last {
            headers.insert(LAST_EVENT_ID, HeaderValue::from_str(last).unwrap());
        }
        wanted(&uri.build().unwrap(), &headers)
    }

    fn field(query: &str, last: Option<&str>) -> String {
        let problem = read(query, last).unwrap_err();
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
            ("?last_event_id=7", "last_event_id"),
        ] {
            assert_eq!(field(query, None), at, "{query}");
        }
        for last in ["7", "grants:1", "grants:1.2,", "\u{e9}"] {
            assert_eq!(field("", Some(last)), LAST_EVENT_ID, "{last}");
        }
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
