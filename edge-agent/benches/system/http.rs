//! A lean HTTP/1.1 client: one kept connection, whole JSON bodies. What the
//! load generator spends is what the servers cannot have.

use std::{fmt::Write, net::SocketAddr, str};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One connection to one path.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Request line and headers, up to the length of the body.
    head: String,
    sent: Vec<u8>,
    received: Vec<u8>,
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
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        );
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        head.push_str("Content-Length: ");
        Ok(Self {
            stream,
            head,
            sent: Vec::new(),
            received: Vec::with_capacity(8192),
        })
    }

    /// Sends a body and returns that of the answer, which has to be a 200.
    pub(crate) async fn post(&mut self, body: &str) -> Result<&[u8]> {
        self.sent.clear();
        self.sent.extend_from_slice(self.head.as_bytes());
        self.sent
            .extend_from_slice(body.len().to_string().as_bytes());
        self.sent.extend_from_slice(b"\r\n\r\n");
        self.sent.extend_from_slice(body.as_bytes());
        self.stream.write_all(&self.sent).await?;

        self.received.clear();
        let head = loop {
            self.receive().await?;
            if let Some(head) = Head::read(&self.received)? {
                break head;
            }
        };
        while self.received.len() < head.size + head.content_length {
            self.receive().await?;
        }
        let body = &self.received[head.size..head.size + head.content_length];
        if head.status != 200 {
            bail!("{}: {}", head.status, String::from_utf8_lossy(body));
        }
        Ok(body)
    }

    async fn receive(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => bail!("the server has closed the connection"),
            _ => Ok(()),
        }
    }
}

/// What has to be known of an answer's head.
struct Head {
    status: u16,
    content_length: usize,
    /// With the empty line that ends it, bytes.
    size: usize,
}

impl Head {
    /// `None` while it is not whole.
    fn read(received: &[u8]) -> Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = str::from_utf8(&received[..end])?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let content_length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map(|(_, value)| value.trim());
        Ok(Some(Self {
            status: status.context("a status line")?.parse()?,
            content_length: content_length.with_context(|| text.to_owned())?.parse()?,
            size: end + 4,
        }))
    }
}
