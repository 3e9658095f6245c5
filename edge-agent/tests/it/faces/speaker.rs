//! A client of each MCP face, so that one text can drive them all.

use std::{collections::VecDeque, process::Stdio};

use futures::{SinkExt, StreamExt};
use reqwest::{Client, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, ChildStdin},
    sync::mpsc,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::CloseFrame},
};

use edge_agent::core::exact;

use crate::{
    edge::{Edge, command, http},
    mcp::stateless,
    wait::DEADLINE,
};

/// A way to speak MCP with an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    StreamableHttp,
    /// Streamable HTTP in the revision without sessions.
    Stateless,
    Sse,
    WebSocket,
    /// The same on the port where it is alone.
    WebSocketAlone,
    Stdio,
}

impl Face {
    pub(crate) const ALL: [Self; 6] = [
        Self::StreamableHttp,
        Self::Stateless,
        Self::Sse,
        Self::WebSocket,
        Self::WebSocketAlone,
        Self::Stdio,
    ];
}

/// A session on one face.
pub(crate) struct Speaker {
    face: Face,
    sending: Sending,
    received: mpsc::UnboundedReceiver<Received>,
    /// Read while something else was waited for.
    kept: VecDeque<Value>,
    next_id: u64,
}

/// What came from the edge.
#[derive(Debug)]
enum Received {
    Message(Value),
    /// WebSocket: with code and reason where there were any.
    Closed(Option<(u16, String)>),
}

enum Sending {
    Http {
        client: Client,
        url: String,
        api_key: String,
        session: Option<String>,
        received: mpsc::UnboundedSender<Received>,
    },
    Frames(mpsc::UnboundedSender<Message>),
    Lines {
        stdin: Option<ChildStdin>,
        _child: Child,
    },
}

impl Speaker {
    /// Opens a face and begins a session on it.
    pub(crate) async fn begin(face: Face, edge: &Edge, api_key: &str) -> Self {
        let mut speaker = Self::open(face, edge, api_key).await;
        speaker.initialize().await;
        speaker
    }

    /// Opens a face.
    pub(crate) async fn open(face: Face, edge: &Edge, api_key: &str) -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        let sending = match face {
            Face::StreamableHttp | Face::Stateless => Sending::Http {
                client: http(),
                url: format!("{}/mcp", edge.url),
                api_key: api_key.to_owned(),
                session: None,
                received: sender,
            },
            Face::Sse => open_sse(edge, api_key, sender).await,
            Face::WebSocket => {
                let url = edge.url.replace("http://", "ws://") + "/ws";
                open_websocket(&url, api_key, sender).await
            }
            Face::WebSocketAlone => open_websocket(&edge.ws, api_key, sender).await,
            Face::Stdio => open_stdio(edge, api_key, sender),
        };
        Self {
            face,
            sending,
            received,
            kept: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Begins the session as revision 2025-11-25 does, where there is one.
    pub(crate) async fn initialize(&mut self) {
        if self.face == Face::Stateless {
            return;
        }
        let answer = self
            .request(
                "initialize",
                json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": {"name": "test", "version": "1"},
                }),
            )
            .await;
        assert_eq!(
            answer["result"]["protocolVersion"], "2025-11-25",
            "{answer}"
        );
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        self.send(&initialized).await;
        if self.face == Face::StreamableHttp {
            self.listen().await;
        }
    }

    /// A request's whole answer.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params).await;
        self.answer(id).await
    }

    /// Sends a request and returns its id.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let params = if self.face == Face::Stateless {
            stateless(params)
        } else {
            params
        };
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        id
    }

    /// Waits for the answer to a request.
    pub(crate) async fn answer(&mut self, id: u64) -> Value {
        self.next(|message| message["id"] == id && message.get("method").is_none())
            .await
    }

    /// Waits for a notification.
    pub(crate) async fn notified(&mut self, method: &str) -> Value {
        self.next(|message| message["method"] == method).await
    }

    /// A tool's result, or `Err` of what it was refused with.
    pub(crate) async fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, Value> {
        let params = json!({"name": tool, "arguments": arguments});
        let answer = self.request("tools/call", params).await;
        content(&answer)
    }

    /// The same with arguments that are text: as they are, JSON or not.
    pub(crate) async fn call_with(&mut self, tool: &str, arguments: &str) -> Result<Value, Value> {
        let id = self.ask_with(tool, arguments).await;
        let answer = self.answer(id).await;
        content(&answer)
    }

    /// Calls a tool with arguments that are text, and returns the request's id.
    pub(crate) async fn ask_with(&mut self, tool: &str, arguments: &str) -> u64 {
        const HERE: &str = "the arguments stand here";
        self.next_id += 1;
        let params = json!({"name": tool, "arguments": HERE});
        let params = if self.face == Face::Stateless {
            stateless(params)
        } else {
            params
        };
        let id = self.next_id;
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        let text = message
            .to_string()
            .replace(&json!(HERE).to_string(), arguments);
        self.send_text(&text).await;
        id
    }

    /// Whether something came that nobody has waited for.
    pub(crate) fn has_kept(&self, method: &str) -> bool {
        self.kept.iter().any(|message| message["method"] == method)
    }

    /// Waits for a message that `wanted` holds for; others are kept.
    pub(crate) async fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.kept.iter().position(&wanted) {
            return self.kept.remove(at).unwrap();
        }
        loop {
            match self.receive().await {
                Received::Message(message) if wanted(&message) => return message,
                Received::Message(message) => self.kept.push_back(message),
                Received::Closed(why) => panic!("{:?} was closed: {why:?}", self.face),
            }
        }
    }

    /// Whether such a message has come that nobody waited for.
    pub(crate) fn has_received(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        self.kept.iter().any(wanted)
    }

    /// What has come so far and was not waited for.
    pub(crate) fn drain(&mut self) -> Vec<Value> {
        while let Ok(received) = self.received.try_recv() {
            if let Received::Message(message) = received {
                self.kept.push_back(message);
            }
        }
        self.kept.drain(..).collect()
    }

    /// The next message, whatever it is; `None` when the edge has closed the
    /// connection.
    pub(crate) async fn any(&mut self) -> Option<Value> {
        match self.receive().await {
            Received::Message(message) => Some(message),
            Received::Closed(_) => None,
        }
    }

    /// Waits until the edge has closed the connection; with what, if it said.
    pub(crate) async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            if let Received::Closed(why) = self.receive().await {
                return why;
            }
        }
    }

    async fn receive(&mut self) -> Received {
        let received = tokio::time::timeout(DEADLINE, self.received.recv()).await;
        let received = received.unwrap_or_else(|_| panic!("{:?} hangs", self.face));
        received.unwrap_or(Received::Closed(None))
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends a text, whatever it is.
    pub(crate) async fn send_text(&mut self, text: &str) {
        match &mut self.sending {
            Sending::Frames(frames) => {
                // a connection that has ended is seen by what is received
                let _ = frames.send(Message::text(text));
            }
            Sending::Lines { stdin, .. } => {
                let stdin = stdin.as_mut().unwrap();
                stdin.write_all(text.as_bytes()).await.unwrap();
                stdin.write_all(b"\n").await.unwrap();
            }
            Sending::Http { .. } => self.post(text.to_owned()).await,
        }
    }

    /// Sends a frame, on WebSocket.
    pub(crate) fn send_frame(&mut self, frame: Message) {
        let Sending::Frames(frames) = &self.sending else {
            panic!("{:?} has no frames", self.face)
        };
        frames.send(frame).unwrap();
    }

    async fn post(&mut self, text: String) {
        let face = self.face;
        let Sending::Http {
            client,
            url,
            api_key,
            session,
            received,
        } = &mut self.sending
        else {
            return;
        };
        let message: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut request = client
            .post(&*url)
            .bearer_auth(&*api_key)
            .header(header::CONTENT_TYPE, "application/json");
        if face == Face::StreamableHttp
            && let Some(session) = session
        {
            request = request.header("mcp-session-id", &*session);
        }
        if face == Face::Stateless {
            request = request.header("mcp-protocol-version", "2026-07-28");
            if let Some(method) = message["method"].as_str() {
                request = request.header("mcp-method", method);
            }
            let name = message["params"]["name"].as_str();
            if let Some(name) = name.or(message["params"]["uri"].as_str()) {
                request = request.header("mcp-name", name);
            }
        }
        let sent = request.body(text).send();
        if message["method"] == "initialize" && face == Face::StreamableHttp {
            let response = sent.await.unwrap();
            let id = response.headers()["mcp-session-id"].to_str().unwrap();
            *session = Some(id.to_owned());
            return pass_on(response, received.clone()).await;
        }
        // a request's answer may take long, a notification has none
        let request = client_request(sent, received.clone());
        if message.get("id").is_some() {
            tokio::spawn(request);
        } else {
            request.await;
        }
    }

    /// Opens the stream for the server's own messages of Streamable HTTP.
    async fn listen(&mut self) {
        let Sending::Http {
            client,
            url,
            api_key,
            session: Some(session),
            received,
        } = &self.sending
        else {
            return;
        };
        let stream = client
            .get(url)
            .bearer_auth(api_key)
            .header("mcp-session-id", session)
            .send()
            .await
            .unwrap();
        assert!(stream.status().is_success());
        tokio::spawn(pass_on(stream, received.clone()));
    }
}

/// What a tool's answer comes to.
fn content(answer: &Value) -> Result<Value, Value> {
    let result = answer
        .get("result")
        .ok_or_else(|| answer["error"].clone())?;
    let content = result["structuredContent"].clone();
    // as text it is the same
    let text = result["content"][0]["text"].as_str().unwrap();
    assert_eq!(text, content.to_string());
    if result["isError"] == true {
        Err(content)
    } else {
        Ok(content)
    }
}

async fn client_request(
    sent: impl Future<Output = reqwest::Result<reqwest::Response>>,
    received: mpsc::UnboundedSender<Received>,
) {
    pass_on(sent.await.unwrap(), received).await;
}

/// Passes on the messages of a response: one, or a stream of events.
async fn pass_on(mut response: reqwest::Response, received: mpsc::UnboundedSender<Received>) {
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        while is_stream && let Some(end) = bytes.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = bytes.drain(..end + 2).collect();
            let data: String = std::str::from_utf8(&event)
                .unwrap()
                .lines()
                .filter_map(|line| line.strip_prefix("data:").map(str::trim))
                .collect();
            if !data.is_empty() && data.starts_with('{') {
                let message = exact(&data).unwrap();
                let _ = received.send(Received::Message(message));
            }
        }
    }
    if !is_stream && !bytes.is_empty() {
        let text = std::str::from_utf8(&bytes).unwrap();
        let message = exact(text).unwrap_or_else(|_| panic!("no JSON: `{text}`"));
        let _ = received.send(Received::Message(message));
    }
}

async fn open_sse(edge: &Edge, api_key: &str, sender: mpsc::UnboundedSender<Received>) -> Sending {
    let client = http();
    let mut stream = client
        .get(format!("{}/sse", edge.url))
        .bearer_auth(api_key)
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    assert_eq!(stream.headers()[header::CONTENT_TYPE], "text/event-stream");
    let first = stream.chunk().await.unwrap().unwrap();
    let first = std::str::from_utf8(&first).unwrap();
    let path = first
        .strip_prefix("event: endpoint\ndata: ")
        .and_then(|rest| rest.strip_suffix("\n\n"))
        .unwrap_or_else(|| panic!("`{first}`"));
    let url = format!("{}{path}", edge.url);
    let ended = sender.clone();
    tokio::spawn(async move {
        pass_on(stream, sender.clone()).await;
        let _ = ended.send(Received::Closed(None));
    });
    // an answer to a post is a refusal: JSON-RPC or a problem, told as it is
    let (refusals, _) = mpsc::unbounded_channel();
    Sending::Http {
        client,
        url,
        api_key: api_key.to_owned(),
        session: None,
        received: refusals,
    }
}

async fn open_websocket(
    url: &str,
    api_key: &str,
    received: mpsc::UnboundedSender<Received>,
) -> Sending {
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", "mcp".parse().unwrap());
    headers.insert(
        "authorization",
        format!("Bearer {api_key}").parse().unwrap(),
    );
    let address = request.uri().authority().unwrap().to_string();
    let stream = TcpStream::connect(address).await.unwrap();
    let (socket, response) = client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "mcp");
    let (mut sink, mut stream) = socket.split();
    let (frames, mut to_send) = mpsc::unbounded_channel::<Message>();
    tokio::spawn(async move {
        while let Some(frame) = to_send.recv().await {
            if sink.send(frame).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let mut why = None;
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Text(text) => {
                    let message = exact(text.as_str()).unwrap();
                    let _ = received.send(Received::Message(message));
                }
                Message::Close(Some(CloseFrame { code, reason })) => {
                    why = Some((code.into(), reason.to_string()));
                }
                _ => {}
            }
        }
        let _ = received.send(Received::Closed(why));
    });
    Sending::Frames(frames)
}

fn open_stdio(edge: &Edge, api_key: &str, received: mpsc::UnboundedSender<Received>) -> Sending {
    let mut bridge = command();
    bridge
        .args(["stdio", "--socket"])
        .arg(&edge.socket)
        .env("AUTHGUARDIAN_API_KEY", api_key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = bridge.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let message = exact(&line).unwrap();
            let _ = received.send(Received::Message(message));
        }
        let _ = received.send(Received::Closed(None));
    });
    Sending::Lines {
        stdin: child.stdin.take(),
        _child: child,
    }
}
