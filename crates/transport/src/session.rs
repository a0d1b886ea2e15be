//! One lane while it is up: who waits for which frame.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use flotilla_types::{
    ids::{GroupId, NodeId},
    limits::{LINK_CALLS_MAX, LINK_FRAME_BYTES_MAX, LINK_STREAMS_MAX},
};
use flotilla_wire::proto::peer::{Batch, Frame, FrameKind, ResetReason};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    CallError, Lane, PeerStream,
    counters::{LiveLane, add},
    outbox::{Batches, Outbox, PushError, cost},
    stream::Flow,
};

type Answer = Result<Bytes, CallError>;

enum Entry {
    Call(oneshot::Sender<Answer>),
    Stream(StreamEntry),
}

struct StreamEntry {
    /// `None` once the peer has closed its side.
    incoming: Option<mpsc::UnboundedSender<Answer>>,
    flow: Arc<Flow>,
    tx_open: bool,
    rx_open: bool,
}

#[derive(Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    streams: usize,
    closed: bool,
}

impl Table {
    fn stream(&mut self, id: u64) -> Option<&mut StreamEntry> {
        match self.entries.get_mut(&id)? {
            Entry::Stream(entry) => Some(entry),
            Entry::Call(_) => None,
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id);
        self.streams -= usize::from(matches!(entry, Some(Entry::Stream(_))));
        entry
    }
}

/// A lane that is up, on either side.
pub(crate) struct Session {
    pub(crate) peer: NodeId,
    pub(crate) lane: Lane,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) counters: Arc<LiveLane>,
    /// Cancelled when the lane is over, for whatever reason.
    pub(crate) ended: CancellationToken,
    table: Mutex<Table>,
    next_stream: AtomicU64,
}

impl Session {
    pub(crate) fn new(
        peer: NodeId,
        lane: Lane,
        counters: Arc<LiveLane>,
        ended: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            lane,
            outbox: Arc::default(),
            counters,
            ended,
            table: Mutex::default(),
            next_stream: AtomicU64::new(1),
        })
    }

    /// What the connection writes.
    pub(crate) fn batches(&self) -> Batches {
        Batches::new(self.outbox.clone(), self.counters.clone(), self.ended.clone())
    }

    /// Queues a call. The answer comes through the returned value; dropping it forgets the call.
    pub(crate) fn begin_call(
        self: &Arc<Self>,
        group: GroupId,
        method: u32,
        payload: Bytes,
    ) -> Result<PendingCall, CallError> {
        check_size(&payload)?;
        let stream = self.next_stream.fetch_add(1, Relaxed);
        let (tx, answer) = oneshot::channel();
        {
            let mut table = self.table.lock();
            if table.closed {
                return Err(CallError::Unreachable { sent: false });
            }
            if table.entries.len() - table.streams >= LINK_CALLS_MAX {
                return Err(CallError::Overloaded);
            }
            table.entries.insert(stream, Entry::Call(tx));
        }
        let call = PendingCall { session: self.clone(), stream, answer, settled: false };
        let frame = Frame {
            stream,
            kind: FrameKind::Call.into(),
            group: group.0,
            method,
            payload,
            ..Frame::default()
        };
        match self.outbox.try_push(frame) {
            Ok(()) => Ok(call),
            Err(PushError::Full(_)) => Err(CallError::Overloaded),
            Err(PushError::Closed) => Err(CallError::Unreachable { sent: false }),
        }
    }

    /// Opens a stream; waits for room in the lane's queue.
    pub(crate) async fn open(
        self: &Arc<Self>,
        group: GroupId,
        method: u32,
    ) -> Result<PeerStream, CallError> {
        let id = self.next_stream.fetch_add(1, Relaxed);
        // Registered before the frame leaves, so that nothing of it can be missed; dropping the
        // halves takes it out again.
        let stream = self.add_stream(id)?;
        let frame = Frame {
            stream: id,
            kind: FrameKind::Open.into(),
            group: group.0,
            method,
            ..Frame::default()
        };
        match self.outbox.push(frame).await {
            Ok(()) => Ok(stream),
            Err(()) => Err(CallError::Unreachable { sent: false }),
        }
    }

    /// Registers a stream under an id that the dialling side chose.
    pub(crate) fn add_stream(self: &Arc<Self>, id: u64) -> Result<PeerStream, CallError> {
        let (tx, rx) = mpsc::unbounded_channel();
        let flow = Arc::new(Flow::new());
        let mut table = self.table.lock();
        if table.closed {
            return Err(CallError::Unreachable { sent: false });
        }
        if table.streams >= LINK_STREAMS_MAX {
            return Err(CallError::Overloaded);
        }
        let entry =
            StreamEntry { incoming: Some(tx), flow: flow.clone(), tx_open: true, rx_open: true };
        table.entries.insert(id, Entry::Stream(entry));
        table.streams += 1;
        drop(table);
        Ok(PeerStream::new(self.clone(), id, flow, rx))
    }

    /// Whether the id is taken.
    pub(crate) fn knows(&self, id: u64) -> bool {
        self.table.lock().entries.contains_key(&id)
    }

    /// Calls and streams that are registered.
    pub(crate) fn open_entries(&self) -> usize {
        self.table.lock().entries.len()
    }

    pub(crate) fn count_received(&self, batch: &Batch) {
        add(&self.counters.batches_received, 1);
        add(&self.counters.frames_received, batch.frames.len() as u64);
        let bytes: usize = batch.frames.iter().map(|frame| frame.payload.len()).sum();
        add(&self.counters.bytes_received, bytes as u64);
    }

    pub(crate) fn ignore(&self) {
        add(&self.counters.frames_ignored, 1);
    }

    /// Handles the kinds that mean the same on both sides, and answers; never waits.
    pub(crate) fn on_frame(&self, frame: Frame) {
        match frame.kind() {
            // An unknown kind reads as data of the default kind: only accept the real one.
            FrameKind::Data if frame.kind == i32::from(FrameKind::Data) => self.on_data(frame),
            FrameKind::Close => self.on_close(frame.stream),
            FrameKind::Credit => self.on_credit(&frame),
            FrameKind::Reset => self.on_reset(&frame),
            FrameKind::Answer => self.on_answer(frame),
            FrameKind::Data | FrameKind::Open | FrameKind::Call => self.ignore(),
        }
    }

    fn on_answer(&self, frame: Frame) {
        let entry = {
            let mut table = self.table.lock();
            match table.entries.get(&frame.stream) {
                Some(Entry::Call(_)) => table.remove(frame.stream),
                _ => None,
            }
        };
        match entry {
            // The caller may be gone; then nobody wants the answer.
            Some(Entry::Call(tx)) => drop(tx.send(Ok(frame.payload))),
            _ => self.ignore(),
        }
    }

    fn on_data(&self, frame: Frame) {
        let (id, cost) = (frame.stream, cost(&frame));
        let broken = {
            let mut table = self.table.lock();
            let Some(entry) = table.stream(id) else {
                // Usual right after a local reset.
                drop(table);
                return self.ignore();
            };
            let within = entry.flow.received(cost);
            match &entry.incoming {
                Some(tx) if within => {
                    if tx.send(Ok(frame.payload)).is_err() {
                        // Nobody reads any more; the sender must not starve for that.
                        entry.flow.taken(cost).inspect(|&credit| self.grant(id, credit));
                    }
                    false
                }
                _ => true,
            }
        };
        if broken {
            self.reset(id, ResetReason::Protocol, "more data than allowed");
        }
    }

    pub(crate) fn grant(&self, id: u64, credit: u32) {
        let kind = FrameKind::Credit.into();
        self.outbox.force(Frame { stream: id, kind, credit, ..Frame::default() });
    }

    fn on_credit(&self, frame: &Frame) {
        match self.table.lock().stream(frame.stream) {
            Some(entry) => entry.flow.granted(frame.credit),
            None => self.ignore(),
        }
    }

    fn on_close(&self, id: u64) {
        let mut table = self.table.lock();
        let Some(entry) = table.stream(id) else {
            drop(table);
            return self.ignore();
        };
        entry.incoming = None;
        if !entry.tx_open {
            table.remove(id);
        }
    }

    fn on_reset(&self, frame: &Frame) {
        let text = || String::from_utf8_lossy(&frame.payload).into_owned();
        let error = match frame.reason() {
            ResetReason::Refused => CallError::Refused(text()),
            ResetReason::Overloaded => CallError::Overloaded,
            ResetReason::Failed | ResetReason::Protocol => CallError::Failed(text()),
        };
        let entry = self.table.lock().remove(frame.stream);
        match entry {
            Some(entry) => end(entry, error),
            None => self.ignore(),
        }
    }

    /// Ends a call or stream in both directions and tells the peer.
    pub(crate) fn reset(&self, id: u64, reason: ResetReason, text: &str) {
        add(&self.counters.resets_sent, 1);
        let entry = self.table.lock().remove(id);
        if let Some(entry) = entry {
            end(entry, CallError::Failed(text.to_owned()));
        }
        self.outbox.force(Frame {
            stream: id,
            kind: FrameKind::Reset.into(),
            reason: reason.into(),
            payload: Bytes::copy_from_slice(text.as_bytes()),
            ..Frame::default()
        });
    }

    /// This side sends no more.
    pub(crate) fn finish_tx(&self, id: u64) {
        let abandoned = {
            let mut table = self.table.lock();
            let Some(entry) = table.stream(id) else {
                return;
            };
            entry.tx_open = false;
            let abandoned = entry.incoming.is_some() && !entry.rx_open;
            if entry.incoming.is_none() {
                table.remove(id);
            }
            abandoned
        };
        let kind = FrameKind::Close.into();
        self.outbox.force(Frame { stream: id, kind, ..Frame::default() });
        if abandoned {
            self.reset(id, ResetReason::Failed, "the reader went away");
        }
    }

    /// This side reads no more.
    pub(crate) fn finish_rx(&self, id: u64) {
        let abandoned = {
            let mut table = self.table.lock();
            let Some(entry) = table.stream(id) else {
                return;
            };
            entry.rx_open = false;
            !entry.tx_open
        };
        if abandoned {
            self.reset(id, ResetReason::Failed, "the reader went away");
        }
    }

    /// Ends everything that uses this lane. Calls whose frame is still queued get `sent: false`.
    pub(crate) fn fail(&self) {
        self.ended.cancel();
        // First the queue: a frame that is found here cannot leave any more.
        let unsent: HashSet<u64> =
            self.outbox.close().into_iter().map(|frame| frame.stream).collect();
        let entries = {
            let mut table = self.table.lock();
            table.closed = true;
            table.streams = 0;
            std::mem::take(&mut table.entries)
        };
        for (id, entry) in entries {
            let call = matches!(entry, Entry::Call(_));
            end(entry, CallError::Unreachable { sent: !call || !unsent.contains(&id) });
        }
    }
}

fn end(entry: Entry, error: CallError) {
    match entry {
        // Whoever is gone does not want to know.
        Entry::Call(tx) => drop(tx.send(Err(error))),
        Entry::Stream(entry) => {
            if let Some(tx) = &entry.incoming {
                let _ = tx.send(Err(error.clone()));
            }
            entry.flow.fail(error);
        }
    }
}

pub(crate) fn check_size(payload: &Bytes) -> Result<(), CallError> {
    if payload.len() > LINK_FRAME_BYTES_MAX {
        return Err(CallError::TooLarge { bytes: payload.len() });
    }
    Ok(())
}

/// A call that waits for its answer.
pub(crate) struct PendingCall {
    session: Arc<Session>,
    stream: u64,
    answer: oneshot::Receiver<Answer>,
    settled: bool,
}

impl PendingCall {
    /// Cancel-safe.
    pub(crate) async fn answer(&mut self) -> Answer {
        let answer = (&mut self.answer).await;
        self.settled = true;
        answer.unwrap_or(Err(CallError::Unreachable { sent: true }))
    }

    /// Takes the request back if it has not left yet.
    pub(crate) fn withdraw(&self) -> bool {
        self.session.outbox.withdraw(self.stream)
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if !self.settled {
            self.session.table.lock().remove(self.stream);
        }
    }
}

#[cfg(test)]
mod tests;
