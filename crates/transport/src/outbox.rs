//! The frames that wait for one lane, and the batches made of them.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use flotilla_types::limits::{
    LINK_BATCH_BYTES_MAX, LINK_FRAME_OVERHEAD_BYTES, LINK_QUEUE_BYTES_MAX, LINK_QUEUE_FRAMES_MAX,
};
use flotilla_wire::proto::peer::{Batch, Frame};
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::counters::{LiveLane, add};

/// What a frame counts in every bound.
pub(crate) fn cost(frame: &Frame) -> usize {
    frame.payload.len() + LINK_FRAME_OVERHEAD_BYTES
}

/// A frame that was not taken.
#[derive(Debug, PartialEq)]
pub(crate) enum PushError {
    /// No room; the frame comes back.
    Full(Frame),
    /// The lane is gone.
    Closed,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    closed: bool,
    /// The batch stream, when it found nothing.
    reader: Option<Waker>,
    /// Whether somebody waits for room.
    crowded: bool,
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.frames.len() < LINK_QUEUE_FRAMES_MAX && self.bytes < LINK_QUEUE_BYTES_MAX
    }

    /// Everything that is queued, up to the size of a batch; a larger frame goes alone.
    fn take_batch(&mut self) -> Vec<Frame> {
        let (mut count, mut bytes) = (0, 0);
        for frame in &self.frames {
            let with = bytes + cost(frame);
            if count > 0 && with > LINK_BATCH_BYTES_MAX {
                break;
            }
            (count, bytes) = (count + 1, with);
        }
        self.bytes -= bytes;
        self.frames.drain(..count).collect()
    }
}

/// The queue of a lane's outgoing frames.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    room: Notify,
}

impl Outbox {
    /// Takes the frame if there is room. Never waits.
    pub(crate) fn try_push(&self, frame: Frame) -> Result<(), PushError> {
        self.push_if(frame, Waiting::has_room)
    }

    /// Takes the frame even when there is no room: for answers to what the peer did, whose
    /// number is bounded by the bounds on calls and streams.
    pub(crate) fn force(&self, frame: Frame) {
        // A closed lane needs no such frame: its end tells the peer the same.
        let _ = self.push_if(frame, |_| true);
    }

    /// Waits for room. `Err` when the lane is gone. Cancel-safe: the frame is queued or not.
    pub(crate) async fn push(&self, mut frame: Frame) -> Result<(), ()> {
        loop {
            match self.try_push(frame) {
                Ok(()) => return Ok(()),
                Err(PushError::Closed) => return Err(()),
                Err(PushError::Full(back)) => frame = back,
            }
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            let wait = {
                let mut waiting = self.waiting.lock();
                let wait = !waiting.has_room() && !waiting.closed;
                waiting.crowded |= wait;
                wait
            };
            if wait {
                room.await;
            }
        }
    }

    fn push_if(&self, frame: Frame, admit: impl FnOnce(&Waiting) -> bool) -> Result<(), PushError> {
        let reader = {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err(PushError::Closed);
            }
            if !admit(&waiting) {
                return Err(PushError::Full(frame));
            }
            waiting.bytes += cost(&frame);
            waiting.frames.push_back(frame);
            waiting.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Takes a frame back that has not left yet.
    pub(crate) fn withdraw(&self, stream: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(place) = waiting.frames.iter().position(|frame| frame.stream == stream) else {
            return false;
        };
        let frame = waiting.frames.remove(place);
        waiting.bytes -= frame.as_ref().map_or(0, cost);
        true
    }

    /// Ends the queue and hands back what will never be sent.
    pub(crate) fn close(&self) -> VecDeque<Frame> {
        let (left, reader) = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            waiting.bytes = 0;
            (std::mem::take(&mut waiting.frames), waiting.reader.take())
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        self.room.notify_waiters();
        left
    }

    fn poll_batch(&self, cx: &mut Context<'_>) -> Poll<Option<Vec<Frame>>> {
        let (frames, crowded) = {
            let mut waiting = self.waiting.lock();
            if waiting.frames.is_empty() {
                if waiting.closed {
                    return Poll::Ready(None);
                }
                waiting.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let frames = waiting.take_batch();
            let crowded = waiting.crowded && waiting.has_room();
            waiting.crowded &= !crowded;
            (frames, crowded)
        };
        if crowded {
            self.room.notify_waiters();
        }
        Poll::Ready(Some(frames))
    }
}

/// The outgoing half of a lane: polled by the connection whenever it can write.
pub(crate) struct Batches {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) counters: Arc<LiveLane>,
    /// When the connection drops this half, the lane is over.
    pub(crate) _ended: DropGuard,
}

impl Batches {
    pub(crate) fn new(
        outbox: Arc<Outbox>,
        counters: Arc<LiveLane>,
        ended: CancellationToken,
    ) -> Self {
        Self { outbox, counters, _ended: ended.drop_guard() }
    }
}

impl Stream for Batches {
    type Item = Batch;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        let Poll::Ready(frames) = self.outbox.poll_batch(cx) else {
            return Poll::Pending;
        };
        let Some(frames) = frames else {
            return Poll::Ready(None);
        };
        add(&self.counters.batches_sent, 1);
        add(&self.counters.frames_sent, frames.len() as u64);
        let bytes: usize = frames.iter().map(|frame| frame.payload.len()).sum();
        add(&self.counters.bytes_sent, bytes as u64);
        Poll::Ready(Some(Batch { frames }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn frame(stream: u64, bytes: usize) -> Frame {
        Frame { stream, payload: Bytes::from(vec![0; bytes]), ..Frame::default() }
    }

    fn next(outbox: &Outbox) -> Option<Vec<Frame>> {
        std::future::poll_fn(|cx| outbox.poll_batch(cx)).now_or_never().flatten()
    }

    #[test]
    fn bounded_by_frames_and_by_bytes() {
        let outbox = Outbox::default();
        for stream in 0..LINK_QUEUE_FRAMES_MAX as u64 {
            outbox.try_push(frame(stream, 0)).unwrap();
        }
        assert_eq!(outbox.try_push(frame(7, 0)), Err(PushError::Full(frame(7, 0))));
        outbox.force(frame(8, 0));
        assert_eq!(outbox.close().len(), LINK_QUEUE_FRAMES_MAX + 1);
        assert_eq!(outbox.try_push(frame(7, 0)), Err(PushError::Closed));

        let outbox = Outbox::default();
        outbox.try_push(frame(1, LINK_QUEUE_BYTES_MAX)).unwrap();
        assert_eq!(outbox.try_push(frame(2, 0)), Err(PushError::Full(frame(2, 0))));
        assert!(outbox.withdraw(1));
        outbox.try_push(frame(2, 0)).unwrap();
    }

    #[test]
    fn whoever_waits_for_room_gets_it_or_hears_of_the_end() {
        let outbox = Outbox::default();
        outbox.try_push(frame(1, LINK_QUEUE_BYTES_MAX)).unwrap();
        let mut waits = Box::pin(outbox.push(frame(2, 0)));
        assert_eq!(waits.as_mut().now_or_never(), None);
        assert_eq!(next(&outbox).map(|frames| frames.len()), Some(1));
        assert_eq!(waits.as_mut().now_or_never(), Some(Ok(())));
        outbox.try_push(frame(3, LINK_QUEUE_BYTES_MAX)).unwrap();
        let mut waits = Box::pin(outbox.push(frame(4, 0)));
        assert_eq!(waits.as_mut().now_or_never(), None);
        outbox.close();
        assert_eq!(waits.as_mut().now_or_never(), Some(Err(())));
    }

    proptest! {
        #[test]
        fn batches_keep_the_order_and_the_size(
            sizes in prop::collection::vec(prop_oneof![0..200usize, 0..2_000_000usize], 0..40),
        ) {
            let outbox = Outbox::default();
            for (stream, &bytes) in sizes.iter().enumerate() {
                outbox.force(frame(stream as u64, bytes));
            }
            let mut seen = 0;
            while let Some(frames) = next(&outbox) {
                let bytes: usize = frames.iter().map(cost).sum();
                prop_assert!(bytes <= LINK_BATCH_BYTES_MAX || frames.len() == 1);
                for frame in frames {
                    prop_assert_eq!(frame.stream, seen);
                    prop_assert_eq!(frame.payload.len(), sizes[seen as usize]);
                    seen += 1;
                }
            }
            prop_assert_eq!(seen as usize, sizes.len());
            prop_assert_eq!(outbox.waiting.lock().bytes, 0);
        }
    }
}
