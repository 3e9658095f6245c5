//! The bytes of one connection: rather broken than with an answer that has
//! become stale on its way, or held up by a client that does not read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use authguardian_memory::wipe_spare;
use authguardian_proto::places::Place;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::pace::Pace;
use crate::{clock::Clock, core::AnswerBy};

/// A socket, beneath TLS where there is TLS: what passes here is sent.
pub(super) struct Stream<S> {
    pub(super) socket: S,
    pub(super) clock: Arc<dyn Clock>,
    /// The limit of the next answer.
    pub(super) answer: AnswerBy,
    /// Told of what arrives.
    pub(super) pace: Arc<Pace>,
    /// How long the other end may take to read.
    pub(super) send_timeout: Duration,
    /// Runs while the other end does not read what is there for it.
    pub(super) held_up: Option<Pin<Box<Sleep>>>,
    /// Whether something was read since the buffer was wiped.
    pub(super) has_read: bool,
    /// Gives its place back with the socket, wherever that is moved to.
    pub(super) _place: Place,
}

impl<S> Stream<S> {
    fn refuse_late(&self) -> io::Result<()> {
        if self.answer.has_passed(|| self.clock.since_boot()) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the answer has become stale on its way",
            ));
        }
        Ok(())
    }

    /// A part that was taken whole has been sent: it held the answer. While
    /// one is not, time runs, however little is taken again and again.
    fn sent(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        if matches!(&written, Poll::Ready(Ok(count)) if *count == length) {
            self.answer.clear();
            self.held_up = None;
            return written;
        }
        let timeout = self.send_timeout;
        let held_up = self.held_up.get_or_insert_with(|| Box::pin(sleep(timeout)));
        match &written {
            Poll::Pending if held_up.as_mut().poll(context).is_ready() => {
                Poll::Ready(Err(too_slow()))
            }
            Poll::Ready(Ok(_)) if held_up.deadline() <= Instant::now() => {
                Poll::Ready(Err(too_slow()))
            }
            _ => written,
        }
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // the last request's credential may stand in it
        if std::mem::take(&mut self.has_read) {
            wipe_spare(buffer);
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.has_read = true;
            self.pace.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.refuse_late()?;
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.sent(context, written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.refuse_late()?;
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        let length = parts.iter().map(|part| part.len()).sum();
        self.sent(context, written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::places::Places;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::{
        clock::{Ambient, manual::ManualClock},
        config::Limits,
    };

    /// How long clients may take here.
    const PATIENCE: Duration = Duration::from_millis(300);

    fn stream(ambient: &Ambient, socket: DuplexStream) -> Stream<DuplexStream> {
        let limits = Limits::default();
        Stream {
            socket,
            clock: ambient.clock.clone(),
            answer: AnswerBy::default(),
            pace: Pace::begin(&limits),
            send_timeout: PATIENCE,
            held_up: None,
            has_read: false,
            _place: Places::new(1, 1).take(None).unwrap(),
        }
    }

    /// Reads so many bytes, waits, and so on.
    fn read_slowly(mut client: DuplexStream, count: usize, wait: Duration) {
        tokio::spawn(async move {
            let mut bytes = vec![0; count];
            while client.read_exact(&mut bytes).await.is_ok() {
                tokio::time::sleep(wait).await;
            }
        });
    }

    #[tokio::test]
    async fn an_answer_in_time_passes_and_a_late_one_breaks_the_connection() {
        let (clock, ambient) = ManualClock::ambient();
        let (socket, mut client) = tokio::io::duplex(64);
        let mut stream = stream(&ambient, socket);
        let limit = ambient.clock.since_boot() + Duration::from_secs(1);
        stream.answer.set(limit);
        stream.write_all(b"in time").await.unwrap();
        clock.advance(Duration::from_secs(2));
        stream.write_all(b", no limit").await.unwrap();
        stream.answer.set(limit);
        let late = stream.write_all(b", late").await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        drop(stream);
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "in time, no limit");
    }

    #[tokio::test]
    async fn a_client_that_reads_little_by_little_is_cut_off_in_time() {
        let (_, ambient) = ManualClock::ambient();
        let (socket, client) = tokio::io::duplex(16);
        let mut stream = stream(&ambient, socket);
        read_slowly(client, 1, Duration::from_millis(5));
        let began = Instant::now();
        let slow = stream.write_all(&vec![b'x'; 100_000]).await.unwrap_err();
        assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off() {
        let (_, ambient) = ManualClock::ambient();
        let (socket, _client) = tokio::io::duplex(16);
        let mut stream = stream(&ambient, socket);
        stream.write_all(&[b'x'; 16]).await.unwrap();
        let slow = stream.write_all(b"x").await.unwrap_err();
        assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_each_answer_in_time_is_served_for_longer_than_that() {
        let (_, ambient) = ManualClock::ambient();
        let (socket, client) = tokio::io::duplex(16);
        let mut stream = stream(&ambient, socket);
        read_slowly(client, 16, PATIENCE / 6);
        let began = Instant::now();
        for _ in 0..12 {
            stream.write_all(&[b'x'; 16]).await.unwrap();
        }
        assert!(began.elapsed() > PATIENCE);
    }
}
