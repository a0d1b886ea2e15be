//! The dialling side: keeps one lane to one peer up.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use flotilla_types::{
    ids::NodeId,
    limits::{LINK_BATCH_BYTES_MAX, LINK_FRAME_BYTES_MAX},
};
use flotilla_wire::proto::peer::{Batch, peer_client::PeerClient};
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming, transport::Endpoint};

use crate::{
    CallError, Dial, Identity, Lane, LinkPhase,
    counters::{LiveLane, add},
    identity,
    session::Session,
};

/// A batch is a little larger than its payloads, or holds one frame of the largest size.
pub(crate) const MESSAGE_BYTES_MAX: usize = LINK_FRAME_BYTES_MAX + LINK_BATCH_BYTES_MAX;
/// HTTP/2 windows: a lane is one stream per connection, so both are the same thing.
pub(crate) const WINDOW_BYTES: u32 = 8 * 1_048_576;
/// Batches are large: few HTTP/2 frames each.
pub(crate) const HTTP_FRAME_BYTES: u32 = 256 * 1_024;
/// A ping each `KEEPALIVE_INTERVAL`, lost after `KEEPALIVE_TIMEOUT`: a dead peer is noticed
/// after two seconds.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_MIN_MS: u64 = 50;
const BACKOFF_MAX_MS: u64 = 500;

/// A lane to a peer, up or not.
pub(crate) struct LaneLink {
    pub(crate) peer: NodeId,
    pub(crate) lane: Lane,
    address: String,
    session: Mutex<Option<Arc<Session>>>,
    pub(crate) phase: watch::Sender<LinkPhase>,
    /// See [`crate::Transport::times_up`].
    times_up: AtomicU64,
    pub(crate) counters: Arc<LiveLane>,
}

impl LaneLink {
    pub(crate) fn new(
        peer: NodeId,
        lane: Lane,
        address: String,
        counters: Arc<LiveLane>,
    ) -> Arc<Self> {
        let (phase, _) = watch::channel(LinkPhase::Starting);
        let (session, times_up) = (Mutex::new(None), AtomicU64::new(0));
        Arc::new(Self { peer, lane, address, session, phase, times_up, counters })
    }

    /// It is up anew, or its counterpart that the peer dialled.
    pub(crate) fn note_up(&self) {
        self.times_up.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn times_up(&self) -> u64 {
        self.times_up.load(Ordering::Acquire)
    }

    pub(crate) fn current(&self) -> Option<Arc<Session>> {
        self.session.lock().clone()
    }

    /// The session; waits only for a first attempt that is not over yet.
    pub(crate) async fn session(&self, deadline: Instant) -> Result<Arc<Session>, CallError> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let mut phase = self.phase.subscribe();
        let attempted = phase.wait_for(|phase| *phase != LinkPhase::Starting);
        if timeout_at(deadline, attempted).await.is_err() {
            return Err(CallError::Timeout { sent: false });
        }
        self.current().ok_or(CallError::Unreachable { sent: false })
    }

    fn up(&self, session: Arc<Session>) {
        *self.session.lock() = Some(session);
        self.note_up();
        self.phase.send_replace(LinkPhase::Up);
    }

    fn down(&self, reason: &str) {
        *self.session.lock() = None;
        self.phase.send_replace(LinkPhase::Down(reason.into()));
    }
}

/// Who dials.
#[derive(Clone)]
pub(crate) struct Dialler<N> {
    pub(crate) network: N,
    pub(crate) local: NodeId,
    pub(crate) identity: Identity,
    pub(crate) closing: CancellationToken,
}

/// Keeps the lane up until the transport is closed.
pub(crate) async fn keep_up(link: Arc<LaneLink>, dialler: Dialler<impl Dial>) {
    let closing = dialler.closing.clone();
    let _: Option<Infallible> = closing.run_until_cancelled(dial_for_ever(&link, &dialler)).await;
    if let Some(session) = link.current() {
        session.fail();
    }
    link.down("this node closed the link");
}

async fn dial_for_ever(link: &LaneLink, dialler: &Dialler<impl Dial>) -> Infallible {
    let (mut backoff_ms, mut was_up) = (BACKOFF_MIN_MS, false);
    let mut logged = String::new();
    loop {
        let reason = match connect(link, dialler).await {
            Ok((session, incoming)) => {
                add(&link.counters.connects, 1);
                add(&link.counters.reconnects, u64::from(was_up));
                (backoff_ms, was_up) = (BACKOFF_MIN_MS, true);
                tracing::info!(peer = %link.peer, lane = link.lane.name(), "link up");
                logged.clear();
                link.up(session.clone());
                let reason = read(&session, incoming).await;
                // New calls must not find the session once its calls have failed.
                link.down(&reason);
                session.fail();
                reason
            }
            Err(reason) => {
                add(&link.counters.connect_failures, 1);
                link.down(&reason);
                reason
            }
        };
        // The same failure twice a second for hours is told once.
        if reason != logged {
            tracing::warn!(peer = %link.peer, lane = link.lane.name(), reason, "link down");
            logged = reason;
        }
        let wait_ms = rand::rng().random_range(BACKOFF_MIN_MS..=backoff_ms);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        backoff_ms = (backoff_ms * 2).min(BACKOFF_MAX_MS);
    }
}

async fn connect(
    link: &LaneLink,
    dialler: &Dialler<impl Dial>,
) -> Result<(Arc<Session>, Streaming<Batch>), String> {
    // The address is resolved again at each attempt: nodes move.
    let endpoint = Endpoint::from_shared(format!("http://{}", link.address))
        .map_err(|error| format!("bad address {:?}: {error}", link.address))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let channel =
        dialler.network.dial(endpoint).await.map_err(|error| {
            format!("cannot connect to {}: {}", link.address, root_cause(&error))
        })?;
    let mut client = PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);

    let ended = dialler.closing.child_token();
    let session = Session::new(link.peer, link.lane, link.counters.clone(), ended);
    let me = (dialler.identity)();
    let mut request = Request::new(session.batches());
    let hello = identity::hello(dialler.local, link.peer, link.lane, me.clone());
    identity::write(&hello, request.metadata_mut());
    let response = timeout(INTRODUCTION_TIMEOUT, client.lane(request))
        .await
        .map_err(|_| "the peer did not introduce itself in time".to_owned())?
        .map_err(|status| format!("refused by the peer: {}", status.message()))?;

    let hello = identity::read(response.metadata()).map_err(|error| error.to_string())?;
    let (_, lane) = identity::check(&hello, dialler.local, &me, |node| node == link.peer)
        .map_err(|error| format!("not the peer that was meant: {error}"))?;
    if lane != link.lane {
        return Err(format!("the peer answered for lane {}", lane.name()));
    }
    Ok((session, response.into_inner()))
}

/// Reads until the lane is over; says why.
async fn read(session: &Session, mut incoming: Streaming<Batch>) -> String {
    let reading = async {
        loop {
            match incoming.message().await {
                Ok(Some(batch)) => {
                    session.count_received(&batch);
                    batch.frames.into_iter().for_each(|frame| session.on_frame(frame));
                }
                Ok(None) => return "the peer ended the lane".to_owned(),
                Err(status) => return format!("lane broken: {}", status.message()),
            }
        }
    };
    let broken = session.ended.run_until_cancelled(reading).await;
    broken.unwrap_or_else(|| "the connection ended".to_owned())
}

/// The innermost text: the outer ones only say "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
