//! The accepting side.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use flotilla_types::{
    ids::GroupId,
    limits::{LINK_CALL_BYTES_IN_WORK_MAX, LINK_CALLS_MAX},
};
use flotilla_wire::proto::peer::{
    Batch, Frame, FrameKind, ResetReason,
    peer_server::{Peer, PeerServer},
};
use futures::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::{
    CallError, Handler, Listener, ServeError,
    dial::{
        HTTP_FRAME_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MESSAGE_BYTES_MAX, WINDOW_BYTES,
    },
    identity,
    session::{Session, check_size},
    transport::Shared,
};

/// Pause after a failed accept, when the process may be out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long connections may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
/// An introduction with a token of reasonable size fits well.
const HEADER_BYTES_MAX: u32 = 16 * 1_024;

pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: impl Listener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    // Lanes never end by themselves: they are told to, then the server waits for its connections.
    let stop = shared.closing.child_token();
    let service = PeerServer::new(Acceptor { shared, stop: stop.clone() })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let serving = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(1)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener), stop.clone().cancelled_owned());
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        result = &mut serving => return Ok(result?),
        () = shutdown => stop.cancel(),
        () = stop.cancelled() => (),
    }
    match tokio::time::timeout(FAREWELL, serving).await {
        Ok(result) => Ok(result?),
        Err(_) => Ok(()),
    }
}

/// What cannot be accepted is skipped by the server. Without descriptors the next attempt would fail at once, and
/// the one after that.
fn incoming<L: Listener>(listener: L) -> impl Stream<Item = io::Result<L::Stream>> + Send {
    stream::unfold(listener, |mut listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        if let Err(error) = &accepted {
            tracing::warn!(%error, "a link was not accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        Some((accepted, listener))
    })
}

struct Acceptor {
    shared: Arc<Shared>,
    stop: tokio_util::sync::CancellationToken,
}

#[tonic::async_trait]
impl Peer for Acceptor {
    type LaneStream = Pin<Box<dyn Stream<Item = Result<Batch, Status>> + Send>>;

    async fn lane(
        &self,
        request: Request<Streaming<Batch>>,
    ) -> Result<Response<Self::LaneStream>, Status> {
        let shared = &self.shared;
        let me = (shared.identity)();
        let (from, lane) = identity::read(request.metadata())
            .and_then(|hello| {
                identity::check(&hello, shared.local, &me, |node| shared.links.contains_key(&node))
            })
            .map_err(|error| {
                let address = request.remote_addr();
                tracing::warn!(?address, %error, "refused a lane");
                Status::failed_precondition(error.to_string())
            })?;
        let Some(handler) = shared.handler.get().cloned() else {
            return Err(Status::unavailable("this node is starting"));
        };
        let counters = shared.counters.lane(lane).clone();
        let session = Session::new(from, lane, counters, self.stop.child_token());
        // A peer has one lane of a kind: what is left of an older one is dead or will be.
        let older = shared.accepted.lock().insert((from, lane), session.clone());
        if let Some(older) = older {
            older.fail();
        }
        if let Some(links) = shared.links.get(&from) {
            links[lane.number()].note_up();
        }
        let mut response: Response<Self::LaneStream> =
            Response::new(Box::pin(session.batches().map(Ok)));
        identity::write(&identity::hello(shared.local, from, lane, me), response.metadata_mut());
        tokio::spawn(read(Serving::new(session, handler), request.into_inner()));
        Ok(response)
    }
}

async fn read(serving: Serving, mut incoming: Streaming<Batch>) {
    let session = serving.session.clone();
    let reading = async {
        while let Ok(Some(batch)) = incoming.message().await {
            session.count_received(&batch);
            batch.frames.into_iter().for_each(|frame| serving.on_frame(frame));
        }
    };
    session.ended.run_until_cancelled(reading).await;
    session.fail();
    tracing::debug!(peer = %session.peer, lane = session.lane.name(), "accepted lane ended");
}

/// One accepted lane.
struct Serving {
    session: Arc<Session>,
    handler: Arc<dyn Handler>,
    in_work: Arc<InWork>,
}

#[derive(Default)]
struct InWork {
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

impl Serving {
    fn new(session: Arc<Session>, handler: Arc<dyn Handler>) -> Self {
        Self { session, handler, in_work: Arc::default() }
    }

    fn on_frame(&self, frame: Frame) {
        match frame.kind() {
            FrameKind::Call => self.on_call(frame),
            FrameKind::Open => self.on_open(&frame),
            FrameKind::Answer => self.session.ignore(),
            _ => self.session.on_frame(frame),
        }
    }

    fn on_call(&self, frame: Frame) {
        // Only this task adds calls, so their number cannot be passed by others in between.
        let in_work = &self.in_work;
        let bytes = in_work.bytes.load(SeqCst) + frame.payload.len();
        if in_work.calls.load(SeqCst) >= LINK_CALLS_MAX || bytes > LINK_CALL_BYTES_IN_WORK_MAX {
            return self.session.reset(frame.stream, ResetReason::Overloaded, "");
        }
        let debt = AnswerDebt::new(self, &frame);
        let group = GroupId(frame.group);
        let answer = self.handler.call(self.session.peer, group, frame.method, frame.payload);
        tokio::spawn(async move { debt.pay(answer.await).await });
    }

    fn on_open(&self, frame: &Frame) {
        let id = frame.stream;
        if self.session.knows(id) {
            return self.session.reset(id, ResetReason::Protocol, "opened twice");
        }
        match self.session.add_stream(id) {
            Ok(stream) => {
                let group = GroupId(frame.group);
                self.handler.stream(self.session.peer, group, frame.method, stream);
            }
            Err(CallError::Overloaded) => self.session.reset(id, ResetReason::Overloaded, ""),
            // The lane is over, and with it the stream.
            Err(_) => (),
        }
    }
}

/// An answer that is owed: when the work is given up, the caller hears of it.
struct AnswerDebt {
    session: Arc<Session>,
    in_work: Arc<InWork>,
    stream: u64,
    bytes: usize,
    paid: bool,
}

impl AnswerDebt {
    fn new(serving: &Serving, frame: &Frame) -> Self {
        let bytes = frame.payload.len();
        serving.in_work.calls.fetch_add(1, SeqCst);
        serving.in_work.bytes.fetch_add(bytes, SeqCst);
        Self {
            session: serving.session.clone(),
            in_work: serving.in_work.clone(),
            stream: frame.stream,
            bytes,
            paid: false,
        }
    }

    /// An answer waits for the lane as its call waited for the handler: while there is much of both, the
    /// peer's next calls are refused.
    fn owe(&mut self, bytes: usize) {
        self.in_work.bytes.fetch_add(bytes, SeqCst);
        self.bytes += bytes;
    }

    async fn pay(mut self, answer: Result<Bytes, String>) {
        self.paid = true;
        match answer.map(|payload| check_size(&payload).map(|()| payload)) {
            Ok(Ok(payload)) => {
                self.owe(payload.len());
                let kind = FrameKind::Answer.into();
                let frame = Frame { stream: self.stream, kind, payload, ..Frame::default() };
                // When the lane is gone the caller knows already.
                let _ = self.session.outbox.push(frame).await;
            }
            Ok(Err(error)) => {
                self.session.reset(self.stream, ResetReason::Failed, &error.to_string());
            }
            Err(text) => self.session.reset(self.stream, ResetReason::Refused, &text),
        }
    }
}

impl Drop for AnswerDebt {
    fn drop(&mut self) {
        self.in_work.calls.fetch_sub(1, SeqCst);
        self.in_work.bytes.fetch_sub(self.bytes, SeqCst);
        if !self.paid {
            self.session.reset(self.stream, ResetReason::Failed, "given up");
        }
    }
}
