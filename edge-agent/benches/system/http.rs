//! A lean HTTP/1.1 client: one kept connection, JSON out, whole bodies or events
//! in. What the load generator spends is what the servers cannot have.

use std::{fmt::Write, mem, net::SocketAddr, str};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One connection to one server.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Where it goes.
    path: String,
    /// Headers, up to the length of the body.
    headers: String,
    sent: Vec<u8>,
    received: Vec<u8>,
    /// Of the last answer.
    head: Head,
    /// Of the last answer, where it came in chunks.
    unchunked: Vec<u8>,
}

impl Connection {
    /// Connects; `headers` go with every request.
    pub(crate) async fn open(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            path: path.to_owned(),
            headers: format!("Host: {address}\r\n"),
            sent: Vec::new(),
            received: Vec::with_capacity(1024),
            head: Head::default(),
            unchunked: Vec::new(),
        };
        for (name, value) in headers {
            connection.add_header(name, value)?;
        }
        Ok(connection)
    }

    /// One more header of every request.
    pub(crate) fn add_header(&mut self, name: &str, value: &str) -> Result<()> {
        Ok(write!(self.headers, "{name}: {value}\r\n")?)
    }

    /// Further requests go there.
    pub(crate) fn go_to(&mut self, path: &str) {
        path.clone_into(&mut self.path);
    }

    /// A header of the last answer.
    pub(crate) fn told(&self, name: &str) -> Option<&str> {
        header(str::from_utf8(&self.received[..self.head.size]).ok()?, name)
    }

    /// Sends a body and returns that of the answer, which has to be a success.
    pub(crate) async fn post(&mut self, body: &str) -> Result<&[u8]> {
        let length = body.len().to_string();
        self.sent.clear();
        for part in [
            "POST ",
            &self.path,
            " HTTP/1.1\r\nContent-Type: application/json\r\n",
            &self.headers,
            "Content-Length: ",
            &length,
            "\r\n\r\n",
            body,
        ] {
            self.sent.extend_from_slice(part.as_bytes());
        }
        self.stream.write_all(&self.sent).await?;
        self.read_head().await?;
        let status = self.head.status;
        let body = match self.head.content_length {
            Some(length) => {
                let size = self.head.size;
                while self.received.len() < size + length {
                    receive(&mut self.stream, &mut self.received).await?;
                }
                &self.received[size..size + length]
            }
            None => self.read_chunks().await?,
        };
        if !(200..300).contains(&status) {
            bail!("{status}: {}", String::from_utf8_lossy(body));
        }
        Ok(body)
    }

    /// Asks for a stream of events.
    pub(crate) async fn get_events(mut self) -> Result<Events> {
        let request = format!(
            "GET {} HTTP/1.1\r\nAccept: text/event-stream\r\n{}\r\n",
            self.path, self.headers
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.read_head().await?;
        ensure!(
            self.head.status == 200,
            "no stream: {}",
            String::from_utf8_lossy(&self.received)
        );
        self.received.drain(..self.head.size);
        Ok(Events {
            stream: self.stream,
            received: self.received,
            text: Vec::new(),
            read: 0,
        })
    }

    async fn read_head(&mut self) -> Result<()> {
        self.received.clear();
        self.head = loop {
            receive(&mut self.stream, &mut self.received).await?;
            if let Some(head) = Head::read(&self.received)? {
                break head;
            }
        };
        Ok(())
    }

    async fn read_chunks(&mut self) -> Result<&[u8]> {
        self.unchunked.clear();
        let mut chunks = self.received.split_off(self.head.size);
        while !unchunk(&mut chunks, &mut self.unchunked)? {
            receive(&mut self.stream, &mut chunks).await?;
        }
        Ok(&self.unchunked)
    }
}

/// An open stream of events.
pub(crate) struct Events {
    stream: TcpStream,
    received: Vec<u8>,
    /// Of events, the first of which begins here.
    text: Vec<u8>,
    /// How much of it was returned last.
    read: usize,
}

impl Events {
    /// The next event's lines, or a comment's.
    pub(crate) async fn next(&mut self) -> Result<&[u8]> {
        let read = mem::take(&mut self.read);
        self.text.drain(..read);
        loop {
            if let Some(end) = position(&self.text, b"\n\n") {
                self.read = end + 2;
                return Ok(&self.text[..end]);
            }
            let has_ended = unchunk(&mut self.received, &mut self.text)?;
            ensure!(!has_ended, "the stream has ended");
            if position(&self.text, b"\n\n").is_none() {
                receive(&mut self.stream, &mut self.received).await?;
            }
        }
    }
}

/// The message in an event, or in the last of several.
pub(crate) fn data(events: &[u8]) -> Result<&[u8]> {
    let mut lines = events.rsplit(|byte| *byte == b'\n');
    lines
        .find_map(|line| line.strip_prefix(b"data: "))
        .with_context(|| format!("no data: {}", String::from_utf8_lossy(events)))
}

async fn receive(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<()> {
    match stream.read_buf(received).await? {
        0 => bail!("the server has closed the connection"),
        _ => Ok(()),
    }
}

/// Moves the bytes of whole chunks; whether the last one was there.
fn unchunk(chunks: &mut Vec<u8>, bytes: &mut Vec<u8>) -> Result<bool> {
    let mut at = 0;
    let has_ended = loop {
        let rest = &chunks[at..];
        let Some(line) = position(rest, b"\r\n") else {
            break false;
        };
        let size = usize::from_str_radix(str::from_utf8(&rest[..line])?, 16)?;
        let from = line + 2;
        let Some(chunk) = rest.get(from..from + size + 2) else {
            break false;
        };
        bytes.extend_from_slice(&chunk[..size]);
        at += from + size + 2;
        if size == 0 {
            break true;
        }
    };
    chunks.drain(..at);
    Ok(has_ended)
}

pub(crate) fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// What has to be known of an answer's head.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    /// `None`: it comes in chunks.
    content_length: Option<usize>,
    /// With the empty line that ends it, bytes.
    size: usize,
}

impl Head {
    /// `None` while it is not whole.
    fn read(received: &[u8]) -> Result<Option<Self>> {
        let Some(end) = position(received, b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = str::from_utf8(&received[..end])?;
        let status = text.split(' ').nth(1);
        let content_length = header(text, "content-length");
        let encoding = header(text, "transfer-encoding");
        ensure!(
            content_length.is_some() || encoding == Some("chunked"),
            "no length: {text}"
        );
        Ok(Some(Self {
            status: status.context("a status line")?.parse()?,
            content_length: content_length.map(str::parse).transpose()?,
            size: end + 4,
        }))
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(this, _)| this.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
