//! A lean WebSocket client (RFC 6455), for text messages in one frame each.

use std::{mem, net::SocketAddr, str};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::http::position;

const TEXT: u8 = 0x1;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
/// Of a frame that is the last of its message.
const LAST: u8 = 0x80;
const MASKED: u8 = 0x80;
/// In the place of a length that follows.
const IN_TWO_BYTES: u8 = 0x7E;

/// One connection.
pub(crate) struct WebSocket {
    stream: TcpStream,
    /// Of frames, the first of which begins here.
    received: Vec<u8>,
    /// How much of it was returned last.
    read: usize,
    sent: Vec<u8>,
}

impl WebSocket {
    /// Connects and shakes hands.
    pub(crate) async fn open(address: SocketAddr, path: &str, api_key: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut socket = Self {
            stream,
            received: Vec::with_capacity(1024),
            read: 0,
            sent: Vec::new(),
        };
        // the key is the RFC's example: nothing here caches
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {api_key}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mcp\r\n\r\n"
        );
        socket.stream.write_all(request.as_bytes()).await?;
        let end = loop {
            socket.fill().await?;
            if let Some(end) = position(&socket.received, b"\r\n\r\n") {
                break end;
            }
        };
        let head = str::from_utf8(&socket.received[..end])?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "no handshake: {head}");
        socket.received.drain(..end + 4);
        Ok(socket)
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, text: &str) -> Result<()> {
        self.send_frame(TEXT, text.as_bytes()).await
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> Result<&[u8]> {
        let read = mem::take(&mut self.read);
        self.received.drain(..read);
        loop {
            let Some(frame) = Frame::read(&self.received)? else {
                self.fill().await?;
                continue;
            };
            let payload = frame.begin..frame.end;
            match frame.opcode {
                TEXT => {
                    self.read = frame.end;
                    return Ok(&self.received[payload]);
                }
                PING => {
                    let payload = self.received[payload].to_vec();
                    self.send_frame(PONG, &payload).await?;
                    self.received.drain(..frame.end);
                }
                PONG => _ = self.received.drain(..frame.end),
                other => bail!("the server has ended it: opcode {other}"),
            }
        }
    }

    async fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        self.sent.clear();
        self.sent.push(LAST | opcode);
        match u16::try_from(payload.len()).context("a message is short")? {
            short @ 0..126 => self.sent.push(MASKED | short.to_le_bytes()[0]),
            long => {
                self.sent.push(MASKED | IN_TWO_BYTES);
                self.sent.extend_from_slice(&long.to_be_bytes());
            }
        }
        // a mask of zeros leaves the bytes as they are
        self.sent.extend_from_slice(&[0; 4]);
        self.sent.extend_from_slice(payload);
        Ok(self.stream.write_all(&self.sent).await?)
    }

    async fn fill(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => bail!("the server has closed the connection"),
            _ => Ok(()),
        }
    }
}

/// Where a frame's payload is.
struct Frame {
    opcode: u8,
    begin: usize,
    end: usize,
}

impl Frame {
    /// `None` while it is not whole.
    fn read(received: &[u8]) -> Result<Option<Self>> {
        let [first, second, rest @ ..] = received else {
            return Ok(None);
        };
        ensure!(first & LAST != 0, "a message in several frames");
        let (begin, length) = match (second, rest) {
            (short @ 0..126, _) => (2, usize::from(*short)),
            (&IN_TWO_BYTES, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            (&IN_TWO_BYTES, _) => return Ok(None),
            _ => bail!("a frame is masked or very long"),
        };
        let frame = Self {
            opcode: first & 0x0F,
            begin,
            end: begin + length,
        };
        Ok((frame.end <= received.len()).then_some(frame))
    }
}
