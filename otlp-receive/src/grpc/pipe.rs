//! The two ends of bytes that `h2` reads and writes: what came, and what is to be written. No socket.
//!
//! `h2` wants the traits of tokio, of which nothing else is built: no runtime, no socket, no timer. "Not now" is answered
//! by `Pending` and no waker is kept: the driver knows when there is more.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both ends, shared by `h2` and its session on one thread.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// What came, and how much of it was taken.
    pub(super) input: Vec<u8>,
    pub(super) taken: usize,
    /// No more will come.
    pub(super) ended: bool,
    /// What is to be written.
    pub(super) output: Vec<u8>,
    /// How much more may be.
    pub(super) room: usize,
}

impl Pipe {
    /// Bytes that came and were not taken.
    pub(super) fn left(&self) -> usize {
        self.input.len() - self.taken
    }
}

/// The end of `h2`.
#[derive(Debug)]
pub(super) struct End(pub(super) Rc<RefCell<Pipe>>);

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        let take = pipe.left().min(buffer.remaining());
        if take == 0 {
            return if pipe.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        buffer.put_slice(&pipe.input[pipe.taken..pipe.taken + take]);
        pipe.taken += take;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.room == 0 {
            return Poll::Pending;
        }
        let mut written = 0;
        for part in parts {
            let take = part.len().min(pipe.room);
            pipe.output.extend_from_slice(&part[..take]);
            pipe.room -= take;
            written += take;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
