//! Reading into buffers that have held other things.
//!
//! A connection's read buffer lives as long as the connection. What was read
//! into it and has been dealt with stays there until something is read over
//! it: for a credential that came with the last request of an idle connection,
//! perhaps for hours. But a server always asks for more when it has dealt with
//! everything, and shows its whole free buffer when it does.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Zeroes what a buffer that is about to be read into still holds.
pub fn wipe_spare(buffer: &mut ReadBuf<'_>) {
    let stale = buffer.initialized().len() - buffer.filled().len();
    // zeroes all beyond what counts as initialised
    let spare = buffer.initialize_unfilled();
    spare[..stale].fill(0);
}

/// A stream that wipes each buffer before it reads into it; for beneath TLS,
/// which decrypts in its read buffer.
#[derive(Debug)]
pub struct Wiping<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for Wiping<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        wipe_spare(buffer);
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wiping<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn what_was_read_before_is_zeroed_whether_it_counts_as_initialised_or_not() {
        let mut old = [7; 8];
        let mut buffer = ReadBuf::new(&mut old);
        buffer.advance(3);
        wipe_spare(&mut buffer);
        assert_eq!(old, [7, 7, 7, 0, 0, 0, 0, 0]);

        let mut old = [MaybeUninit::new(7); 8];
        let mut buffer = ReadBuf::uninit(&mut old);
        buffer.put_slice(&[7, 7]);
        wipe_spare(&mut buffer);
        assert_eq!(buffer.initialized(), [7, 7, 0, 0, 0, 0, 0, 0]);
    }

    #[tokio::test]
    async fn a_stream_reads_and_writes_through() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Wiping(near);
        far.write_all(b"in").await.unwrap();
        let mut heard = [9; 4];
        assert_eq!(near.read(&mut heard).await.unwrap(), 2);
        assert_eq!(&heard, b"in\0\0");
        near.write_all(b"out").await.unwrap();
        drop(near);
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "out");
    }
}
