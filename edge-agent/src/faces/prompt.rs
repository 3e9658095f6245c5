//! Connections that rather break than send an answer that has become stale on
//! its way.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use authguardian_memory::wipe_spare;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{clock::Clock, core::AnswerBy};

/// A listener of such connections.
#[derive(Debug)]
pub struct Prompt<L> {
    /// Where they come from.
    pub listener: L,
    /// What lateness is measured with.
    pub clock: Arc<dyn Clock>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    clock: Arc<dyn Clock>,
    answer: AnswerBy,
}

impl<L: Listener> Listener for Prompt<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, L::Addr) {
        let (stream, address) = self.listener.accept().await;
        let connection = Connection {
            stream,
            clock: self.clock.clone(),
            answer: AnswerBy::default(),
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

impl<S> Connection<S> {
    /// The limit of its next answer.
    pub(super) fn answer(&self) -> AnswerBy {
        self.answer.clone()
    }

    fn refuse_late(&self) -> io::Result<()> {
        if self.answer.has_passed(|| self.clock.since_boot()) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the answer has become stale on its way",
            ));
        }
        Ok(())
    }

    /// A part that was taken whole has been sent: it held the answer.
    fn sent(&self, written: &Poll<io::Result<usize>>, length: usize) {
        if matches!(written, Poll::Ready(Ok(count)) if *count == length) {
            self.answer.clear();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // the last request's credential may stand in it
        wipe_spare(buffer);
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.refuse_late()?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(&written, bytes.len());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.refuse_late()?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.sent(&written, parts.iter().map(|part| part.len()).sum());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock::manual::ManualClock;

    #[tokio::test]
    async fn an_answer_in_time_passes_and_a_late_one_breaks_the_connection() {
        let (clock, ambient) = ManualClock::ambient();
        let (stream, mut client) = tokio::io::duplex(64);
        let mut connection = Connection {
            stream,
            clock: ambient.clock.clone(),
            answer: AnswerBy::default(),
        };
        let limit = ambient.clock.since_boot() + Duration::from_secs(1);
        connection.answer().set(limit);
        connection.write_all(b"in time").await.unwrap();
        clock.advance(Duration::from_secs(2));
        connection.write_all(b", no limit").await.unwrap();
        connection.answer().set(limit);
        let late = connection.write_all(b", late").await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        drop(connection);
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "in time, no limit");
    }
}
