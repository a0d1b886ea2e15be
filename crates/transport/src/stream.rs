//! Ordered bidirectional streams between peers.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flotilla_types::limits::{
    LINK_FRAME_BYTES_MAX, LINK_FRAME_OVERHEAD_BYTES, LINK_STREAM_WINDOW_BYTES,
};
use flotilla_wire::proto::peer::{Frame, FrameKind, ResetReason};
use futures::Stream;
use tokio::sync::{Notify, mpsc};

use crate::{
    CallError,
    session::{Session, check_size},
};

const WINDOW: i64 = LINK_STREAM_WINDOW_BYTES as i64;
/// A sender with any credit left may send one frame of any size.
const BUFFERED_MAX: i64 = WINDOW + (LINK_FRAME_BYTES_MAX + LINK_FRAME_OVERHEAD_BYTES) as i64;
/// Credit goes back in steps, so that it costs few frames.
const CREDIT_STEP: i64 = WINDOW / 4;

/// Flow control of one stream, both directions.
pub(crate) struct Flow {
    /// What this side may still send; below zero after a large frame.
    credit: AtomicI64,
    credited: Notify,
    /// Received and not yet taken by the reader.
    buffered: AtomicI64,
    /// Taken by the reader and not yet granted back.
    taken: AtomicI64,
    error: OnceLock<CallError>,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self {
            credit: AtomicI64::new(WINDOW),
            credited: Notify::new(),
            buffered: AtomicI64::new(0),
            taken: AtomicI64::new(0),
            error: OnceLock::new(),
        }
    }

    /// Counts what arrived; `false` when the peer ignores the window.
    pub(crate) fn received(&self, cost: usize) -> bool {
        self.buffered.fetch_add(cost as i64, SeqCst) + (cost as i64) <= BUFFERED_MAX
    }

    /// Counts what left the buffer; the credit to grant, when it is time to.
    pub(crate) fn taken(&self, cost: usize) -> Option<u32> {
        self.buffered.fetch_sub(cost as i64, SeqCst);
        let taken = self.taken.fetch_add(cost as i64, SeqCst) + cost as i64;
        if taken < CREDIT_STEP {
            return None;
        }
        u32::try_from(self.taken.swap(0, SeqCst)).ok()
    }

    pub(crate) fn granted(&self, credit: u32) {
        // Never more than a window, whatever the peer claims.
        let add = |now: i64| Some(now.saturating_add(i64::from(credit)).min(WINDOW));
        // The closure always returns a value, so this cannot fail.
        let _ = self.credit.fetch_update(SeqCst, SeqCst, add);
        self.credited.notify_one();
    }

    pub(crate) fn fail(&self, error: CallError) {
        let _ = self.error.set(error);
        self.credited.notify_one();
    }

    /// Takes credit for a frame; waits until there is any. Only one caller at a time.
    async fn reserve(&self, cost: usize) -> Result<Reserved<'_>, CallError> {
        loop {
            if let Some(error) = self.error.get() {
                return Err(error.clone());
            }
            if self.credit.load(SeqCst) > 0 {
                self.credit.fetch_sub(cost as i64, SeqCst);
                return Ok(Reserved { flow: self, cost: cost as i64 });
            }
            // A permit is kept when the notice came in between.
            self.credited.notified().await;
        }
    }
}

/// Credit for a frame that is not queued yet; goes back when the sender gives up.
struct Reserved<'a> {
    flow: &'a Flow,
    cost: i64,
}

impl Reserved<'_> {
    fn spend(mut self) {
        self.cost = 0;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.flow.credit.fetch_add(self.cost, SeqCst);
    }
}

/// Both halves of a stream. Dropping both ends it on both sides.
pub struct PeerStream {
    /// The sending half.
    pub tx: StreamTx,
    /// The receiving half.
    pub rx: StreamRx,
}

impl PeerStream {
    pub(crate) fn new(
        session: Arc<Session>,
        id: u64,
        flow: Arc<Flow>,
        incoming: mpsc::UnboundedReceiver<Result<Bytes, CallError>>,
    ) -> Self {
        let tx = StreamTx { session: session.clone(), id, flow: flow.clone() };
        let rx = StreamRx { session, id, flow, incoming };
        Self { tx, rx }
    }

    /// Says no before anything was done: the other side's reader gets
    /// [`CallError::Refused`].
    pub fn refuse(self, reason: &str) {
        self.tx.session.reset(self.tx.id, ResetReason::Refused, reason);
    }
}

/// Sends on a stream. Dropping it closes this direction: the peer reads what was sent, then the
/// end.
pub struct StreamTx {
    session: Arc<Session>,
    id: u64,
    flow: Arc<Flow>,
}

impl StreamTx {
    /// Queues a frame; waits while the peer's reader is a window behind or the lane is crowded.
    /// Cancel-safe: the frame is queued or not.
    ///
    /// # Errors
    /// When the stream or its lane is over, or the payload is too large.
    pub async fn send(&mut self, payload: Bytes) -> Result<(), CallError> {
        check_size(&payload)?;
        let reserved = self.flow.reserve(payload.len() + LINK_FRAME_OVERHEAD_BYTES).await?;
        let kind = FrameKind::Data.into();
        let frame = Frame { stream: self.id, kind, payload, ..Frame::default() };
        if self.session.outbox.push(frame).await.is_err() {
            return Err(CallError::Unreachable { sent: false });
        }
        reserved.spend();
        Ok(())
    }

    /// Ends the stream in both directions; the peer's reader gets [`CallError::Failed`].
    pub fn reset(self, reason: &str) {
        self.session.reset(self.id, ResetReason::Failed, reason);
    }
}

impl Drop for StreamTx {
    fn drop(&mut self) {
        self.session.finish_tx(self.id);
    }
}

/// Receives on a stream. When it is dropped first, what still arrives is thrown away.
pub struct StreamRx {
    session: Arc<Session>,
    id: u64,
    flow: Arc<Flow>,
    incoming: mpsc::UnboundedReceiver<Result<Bytes, CallError>>,
}

impl StreamRx {
    /// The next frame; `None` after the peer closed its side; an error is the last item.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        let item = ready!(self.incoming.poll_recv(cx));
        if let Some(item) = &item {
            self.count_taken(item);
        }
        Poll::Ready(item)
    }

    fn count_taken(&self, item: &Result<Bytes, CallError>) {
        let Ok(payload) = item else { return };
        if let Some(credit) = self.flow.taken(payload.len() + LINK_FRAME_OVERHEAD_BYTES) {
            self.session.grant(self.id, credit);
        }
    }
}

impl Stream for StreamRx {
    type Item = Result<Bytes, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

impl Drop for StreamRx {
    fn drop(&mut self) {
        // The sender gets the credit of what nobody will read: it may go on sending.
        self.incoming.close();
        while let Ok(item) = self.incoming.try_recv() {
            self.count_taken(&item);
        }
        self.session.finish_rx(self.id);
    }
}
