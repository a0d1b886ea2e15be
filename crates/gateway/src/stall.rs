//! Connections whose other end does not read.
//!
//! What waits to be written to them takes room of the node. So one that takes nothing for long is ended, and
//! sooner while others wait for room.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use flotilla_cluster::room::Pool;
use flotilla_types::limits::{WRITE_STALL_MAX, WRITE_STALL_SHORT_MAX};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Between two looks at a connection that takes nothing.
const LOOK: Duration = Duration::from_secs(1);

/// A connection that fails when nothing can be written to it for too long.
pub(crate) struct Unstalled<S> {
    stream: S,
    answers: Pool,
    stall: Option<Stall>,
}

/// Something waits to be written.
struct Stall {
    since: Instant,
    look: Pin<Box<Sleep>>,
}

impl<S> Unstalled<S> {
    pub(crate) fn new(stream: S, answers: Pool) -> Self {
        Self { stream, answers, stall: None }
    }

    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let begin = || Stall { since: Instant::now(), look: Box::pin(sleep(LOOK)) };
        let Stall { since, look } = self.stall.get_or_insert_with(begin);
        while look.as_mut().poll(cx).is_ready() {
            let max = if self.answers.is_short() { WRITE_STALL_SHORT_MAX } else { WRITE_STALL_MAX };
            if since.elapsed() >= max {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            look.as_mut().reset(Instant::now() + LOOK);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const BUFFER: usize = 1_000;

    /// How long it takes until a write to somebody who reads so much every second fails.
    async fn stalls_after(answers: Pool, read: usize) -> Option<Duration> {
        let (mut reader, writer) = duplex(BUFFER);
        let reads = tokio::spawn(async move {
            let mut buffer = vec![0; read];
            while read > 0 && reader.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
                sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        });
        let begin = Instant::now();
        let written = Unstalled::new(writer, answers).write_all(&[0; 100 * BUFFER]).await;
        reads.abort();
        let kind = written.err().map(|error| error.kind());
        assert!(kind.is_none_or(|kind| kind == io::ErrorKind::TimedOut));
        kind.map(|_| begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_not_waited_for_for_ever() {
        let roomy = Pool::new(100);
        let stalled = stalls_after(roomy.clone(), 0).await.unwrap();
        assert!((WRITE_STALL_MAX..WRITE_STALL_MAX + 2 * LOOK).contains(&stalled), "{stalled:?}");
        let mut room = roomy.room();
        room.hold(60);
        let stalled = stalls_after(roomy, 0).await.unwrap();
        let soon = WRITE_STALL_SHORT_MAX..WRITE_STALL_SHORT_MAX + 2 * LOOK;
        assert!(soon.contains(&stalled), "{stalled:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_served() {
        assert_eq!(stalls_after(Pool::new(100), BUFFER / 2).await, None);
    }
}
