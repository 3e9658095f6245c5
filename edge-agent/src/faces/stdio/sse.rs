//! Server-sent events (HTML Living Standard §9.2), as far as MCP uses them.

/// Cuts a byte stream into events.
#[derive(Debug, Default)]
pub(super) struct Parser {
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

impl Parser {
    /// Takes the next bytes and returns the events that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
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
