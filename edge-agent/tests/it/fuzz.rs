//! A fuzz target: requests of strangers, over a socket, at the real edge with a
//! real control plane behind it. It runs for a second, or for
//! `BOLERO_RANDOM_TEST_TIME_MS` (`make soak`).

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    panic::RefUnwindSafe,
    time::Duration,
};

use authguardian_proto::{reason::Reason, testing::Damage};
use bolero::{TypeGenerator, check};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    edge::{Edge, Launch, asking},
    rig::ControlPlane,
};

/// After this without an answer, the request is taken for one that has no end.
const NO_END: Duration = Duration::from_millis(500);

/// Words of the inside that no stranger is told.
const INTERNAL: [&str; 8] = [
    "panicked", ".rs:", "sqlx", "postgres", "tonic", "hyper", "rustls", "unwrap",
];

/// What is done to a request.
#[derive(Debug, TypeGenerator)]
struct Attempt {
    which: u8,
    /// To the request line and the headers; most attempts get past them.
    head: Option<Damage>,
    body: Damage,
}

struct Target {
    runtime: Runtime,
    edge: Edge,
    _control_plane: ControlPlane,
    key: String,
    session: String,
    log: tempfile::NamedTempFile,
}

// nothing is looked at after a panic
impl RefUnwindSafe for Target {}

impl Target {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let (edge, control_plane, key) = runtime.block_on(async {
            let control_plane = ControlPlane::start().await;
            control_plane.agent("data_analyst", 800).await;
            let key = control_plane.api_key(&["data_analyst"], true).await;
            let launch = Launch {
                log: Some(log.path().to_owned()),
                ..Launch::at(&[control_plane.url()])
            };
            let edge = Edge::start_with(&control_plane, "host", launch).await;
            (edge, control_plane, key)
        });
        let mut this = Self {
            runtime,
            edge,
            _control_plane: control_plane,
            key,
            session: String::new(),
            log,
        };
        let begun = this
            .send(&this.request("POST", "/mcp", &initialize()))
            .unwrap();
        this.session = begun.header("mcp-session-id").unwrap();
        this
    }

    /// Requests that are right, of every kind.
    #[expect(clippy::too_many_lines, reason = "a list")]
    fn requests(&self) -> Vec<(String, String)> {
        let token = self
            .runtime
            .block_on(self.edge.client(&self.key).granted())
            .1;
        let check = json!({"token": token, "agent_id": "data_analyst", "resource_type": "SAP_API", "consistency": "bounded"});
        let ask = json!({"agent_id": "data_analyst", "resource_type": "SAP_API", "justification": "Q4 analysis task",
            "scope": "read:invoices", "ttl_seconds": 60, "wait_seconds": 0, "request_id": "r-1"});
        let tools = [
            ("request_permission", ask.clone()),
            ("validate_token", check.clone()),
            (
                "renew_permission",
                json!({"token": token, "ttl_seconds": 60, "request_id": "r-2"}),
            ),
            (
                "permission_status",
                json!({"grant_id": "grt_0000000000000000000007", "wait_seconds": 0}),
            ),
            (
                "revoke_token",
                json!({"token": "eyJ0.e30.AAAA", "request_id": "r-3"}),
            ),
            (
                "register_agent",
                json!({"agent_id": "data_analyst", "capabilities": ["a.b@1", {"name": "c", "attributes": {"k": "v"}}],
                    "endpoint": "http://127.0.0.1:8000/mcp", "labels": {"a": "b"}, "trust_level": 1, "ttl_seconds": 60}),
            ),
            (
                "discover_agents",
                json!({"capability": "a.*", "min_trust": 1, "live_only": true, "labels": {"a": "b"}, "limit": 1}),
            ),
            ("heartbeat", json!({"agent_id": "data_analyst"})),
            (
                "blackboard_write",
                json!({"board": "strong", "key": "a/b", "value": {"a": [1.5, null]}, "if_revision": 0, "ttl_seconds": 60}),
            ),
            (
                "blackboard_transaction",
                json!({"board": "strong", "compare": [{"key": "a", "revision": 0}, {"key": "b", "value": 1}],
                    "then": [{"op": "put", "key": "a", "value": 1}, {"op": "delete", "key": "b"}], "else": [{"op": "get", "key": "a"}]}),
            ),
            (
                "blackboard_list",
                json!({"board": "strong", "prefix": "a", "limit": 1, "after_revision": "1.1"}),
            ),
            ("lock_acquire", json!({"key": "lock", "ttl_seconds": 60})),
        ];
        let mut requests: Vec<_> = tools
            .iter()
            .map(|(tool, arguments)| self.request("POST", &format!("/mcp/tools/{tool}"), arguments))
            .collect();
        for (tool, arguments) in &tools[..2] {
            let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
            requests.push(self.request("POST", "/mcp", &call));
        }
        for method in [
            "tools/list",
            "resources/list",
            "resources/read",
            "ping",
            "server/discover",
        ] {
            let call = json!({"jsonrpc": "2.0", "id": "x", "method": method, "params": {"uri": "grants://active"}});
            requests.push(self.request("POST", "/mcp", &call));
        }
        requests.push(self.request("POST", "/mcp", &initialize()));
        let login = json!({"api_key_id": "apk_0000000000000000000007", "nonce": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "signature": "A".repeat(86)});
        requests.push(self.request("POST", "/auth/challenge", &login));
        requests.push(self.request("POST", "/auth/session", &login));
        requests.push(self.request("GET", "/auth/session", &json!({})));
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        requests.push(self.request("POST", "/messages?sessionId=none", &ping));
        requests.push(self.request("POST", "/auth/ticket", &json!({})));
        requests.push(self.request("GET", "/ws", &json!({})));
        // refused as they are: a stream has no end
        let ticket = "agt_0000000000000000000000000000000000000000007";
        for query in [
            "events=grant.*,nothing&agent_id=data_analyst&last_event_id=grants:1.1",
            &format!("nothing=1&ticket={ticket}"),
        ] {
            requests.push(self.request("GET", &format!("/events?{query}"), &Value::Null));
        }
        // of a proxy that is none of ours
        let (head, body) = requests[1].clone();
        let forwarded = "x-forwarded-for: 192.0.2.1, [2001:db8::1]:443\r\nforwarded: for=\"[2001:db8::1]:443\", for=192.0.2.1\r\n";
        requests.push((format!("{head}{forwarded}"), body));
        for uri in [
            "grants://active",
            "grants%3A%2F%2Faudit",
            "grants://nothing",
        ] {
            requests.push(self.request("GET", &format!("/mcp/resources/{uri}"), &json!({})));
        }
        for path in [
            "/livez",
            "/readyz",
            "/.well-known/oauth-protected-resource",
            "/nothing",
        ] {
            requests.push(self.request("GET", path, &Value::Null));
        }
        requests
    }

    /// Head without its end, and body.
    fn request(&self, method: &str, path: &str, body: &Value) -> (String, String) {
        let session = match self.session.as_str() {
            session if path == "/mcp" && body["method"] != "initialize" => {
                format!("mcp-session-id: {session}\r\n")
            }
            _ => String::new(),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\naccept: */*\r\n\
             content-type: application/json\r\norigin: http://localhost\r\n{session}connection: close\r\n",
            self.key
        );
        (head, body.to_string())
    }

    /// The answer; `None` when there is none.
    fn send(&self, (head, body): &(impl AsRef<[u8]>, impl AsRef<[u8]>)) -> Option<Answer> {
        let address = self.edge.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        let body = body.as_ref();
        let mut request = head.as_ref().to_vec();
        request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        request.extend_from_slice(body);
        // it may have answered and closed before all was written
        let _ = stream.write_all(&request);
        stream.set_read_timeout(Some(NO_END)).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 16 * 1024];
        let mut ended = false;
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if ended {
                        break;
                    }
                    ended = stream.shutdown(Shutdown::Write).is_ok();
                }
                Err(_) => break,
            }
        }
        Answer::read(&answer)
    }
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.strip_prefix("HTTP/1.").unwrap();
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut this = Self {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        };
        // a damaged head may have been two requests
        if let Some(length) = this.header("content-length") {
            let length = length.parse().unwrap();
            assert!(body.len() >= length, "cut off: {body}");
            this.body.truncate(length);
        }
        Some(this)
    }

    fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(header, _)| header.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.to_owned())
    }

    /// Whatever was asked: no failure of ours, nothing of the inside, and a
    /// problem is one of the table.
    fn check(&self) {
        let Self { status, body, .. } = self;
        assert!(*status < 500 || *status == 503, "{status}: {body}");
        let kind = self.header("content-type").unwrap_or_default();
        if kind.starts_with("application/problem+json") {
            let problem: Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["status"], *status, "{body}");
            if let Some(reason) = problem["reason"].as_str() {
                assert!(Reason::parse(reason).is_some(), "{body}");
            }
            assert!(problem["detail"].as_str().unwrap().len() < 1000, "{body}");
            let shown = body.to_lowercase();
            let internal = INTERNAL.iter().find(|word| shown.contains(**word));
            assert_eq!(internal, None, "{body}");
        } else if kind.starts_with("application/json") {
            assert!(serde_json::from_str::<Value>(body).is_ok(), "{body}");
        }
    }
}

#[test]
fn any_request_is_answered_and_none_brings_the_edge_down() {
    let target = Target::start();
    let requests = target.requests();
    for request in &requests {
        target.send(request).unwrap().check();
    }
    check!().with_type().for_each(|attempt: &Attempt| {
        let (head, body) = &requests[usize::from(attempt.which) % requests.len()];
        let head = match &attempt.head {
            Some(damage) if attempt.which.is_multiple_of(4) => damage.to_bytes(head.as_bytes()),
            _ => head.clone().into_bytes(),
        };
        let request = (head, attempt.body.to_bytes(body.as_bytes()));
        if let Some(answer) = target.send(&request) {
            answer.check();
        }
    });
    let granted = target
        .send(&target.request(
            "POST",
            "/mcp/tools/request_permission",
            &asking("data_analyst"),
        ))
        .unwrap();
    assert!(granted.body.contains("\"granted\""), "{}", granted.body);
    let log = std::fs::read_to_string(target.log.path()).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains(" ERROR "), "{log}");
}
