//! Server-sent events (HTML Living Standard §9.2), as far as MCP uses them.

use std::collections::VecDeque;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::http::HttpError;

/// The events of a response.
pub(super) struct Events {
    body: Incoming,
    parser: Parser,
    ready: VecDeque<Event>,
}

impl Events {
    /// Takes over a response's body.
    pub(super) fn of(response: Response<Incoming>) -> Self {
        Self {
            body: response.into_body(),
            parser: Parser::default(),
            ready: VecDeque::new(),
        }
    }

    /// The next event; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, HttpError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Some(bytes) = frame?.data_ref() {
                        self.ready.extend(self.parser.push(bytes));
                    }
                }
            }
        }
    }
}

/// Cuts a byte stream into events.
#[derive(Debug, Default)]
struct Parser {
    rest: Vec<u8>,
    data: Vec<String>,
    id: Option<String>,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its data; empty for an event that only sets the id.
    pub(super) data: String,
    /// The id to resume after; `None` when it has none.
    pub(super) id: Option<String>,
}

impl Event {
    /// The JSON-RPC message in it; null when there is none.
    pub(super) fn message(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_default()
    }
}

impl Parser {
    /// Takes the next bytes and returns the events that they complete.
    fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            events.extend(self.line(line.trim_end_matches(['\n', '\r'])));
        }
        events
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (data, id) = (std::mem::take(&mut self.data), self.id.take());
            return (!data.is_empty() || id.is_some()).then(|| Event {
                data: data.join("\n"),
                id,
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => self.data.push(value.to_owned()),
            "id" => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_wherever_the_stream_is_cut() {
        let stream = ": ping\n\nid: 0\nretry: 3000\ndata:\n\nevent: message\r\nid: 1/2\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n";
        let expected = [
            Event {
                data: String::new(),
                id: Some("0".into()),
            },
            Event {
                data: "{\"a\":\n1}".into(),
                id: Some("1/2".into()),
            },
        ];
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            let mut events = parser.push(&stream.as_bytes()[..cut]);
            events.extend(parser.push(&stream.as_bytes()[cut..]));
            assert_eq!(events, expected, "cut at {cut}");
        }
    }
}
