//! The handle to all links of a node.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use flotilla_types::ids::{GroupId, NodeId};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    CallError, Counters, Dial, Handler, Identity, Lane, LinkPhase, Listener, PeerStream,
    ServeError, Tcp,
    counters::{LiveCounters, add},
    dial::{self, Dialler, LaneLink},
    serve,
    session::Session,
};

/// Longest wait for a first connection attempt, where the caller gives no other.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Stands for "no limit" where a caller's timeout cannot be added to the clock.
const FAR_AWAY: Duration = Duration::from_secs(86_400);

/// A node to link to.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Its id.
    pub node: NodeId,
    /// `host:port`, resolved at each connect.
    pub address: String,
}

/// All links of this node. Clones are the same transport; it closes when the last is dropped or
/// with [`Transport::close`].
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
    _alive: Arc<DropGuard>,
}

pub(crate) struct Shared {
    pub(crate) local: NodeId,
    pub(crate) identity: Identity,
    pub(crate) links: HashMap<NodeId, [Arc<LaneLink>; 4]>,
    /// Lanes that peers dialled.
    pub(crate) accepted: Mutex<HashMap<(NodeId, Lane), Arc<Session>>>,
    pub(crate) handler: OnceLock<Arc<dyn Handler>>,
    pub(crate) counters: LiveCounters,
    pub(crate) closing: CancellationToken,
}

impl Transport {
    /// Starts to dial all lanes of all peers, for as long as the transport lives.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(local: NodeId, identity: Identity, peers: Vec<PeerConfig>) -> Self {
        Self::over(Tcp, local, identity, peers)
    }

    /// The same over another network.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn over(
        network: impl Dial,
        local: NodeId,
        identity: Identity,
        peers: Vec<PeerConfig>,
    ) -> Self {
        let counters = LiveCounters::default();
        let closing = CancellationToken::new();
        let (me, closes) = (identity.clone(), closing.clone());
        let dialler = Dialler { network, local, identity: me, closing: closes };
        let mut links = HashMap::new();
        for PeerConfig { node, address } in peers {
            links.entry(node).or_insert_with(|| {
                Lane::ALL.map(|lane| {
                    let counters = counters.lane(lane).clone();
                    let link = LaneLink::new(node, lane, address.clone(), counters);
                    tokio::spawn(dial::keep_up(link.clone(), dialler.clone()));
                    link
                })
            });
        }
        let shared = Shared {
            local,
            identity,
            links,
            accepted: Mutex::default(),
            handler: OnceLock::new(),
            counters,
            closing: closing.clone(),
        };
        Self { shared: Arc::new(shared), _alive: Arc::new(closing.drop_guard()) }
    }

    /// Says who answers peers; until then their lanes are refused. Only the first call counts
    /// (`false` for others). A handler that itself holds a transport keeps it alive: then only
    /// [`Transport::close`] ends it.
    pub fn set_handler(&self, handler: Arc<dyn Handler>) -> bool {
        self.shared.handler.set(handler).is_ok()
    }

    /// Accepts peers' lanes until `shutdown` or [`Transport::close`]. Links that this node
    /// dialled stay up.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(
        self,
        listener: impl Listener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        serve::serve(self.shared.clone(), listener, shutdown).await
    }

    /// One request, one answer. Nothing is sent before the first poll; dropping the future
    /// forgets the answer, not the request.
    ///
    /// # Errors
    /// Fails at once when the lane is down, except while the first attempt to connect runs.
    pub fn call(
        &self,
        to: NodeId,
        lane: Lane,
        group: GroupId,
        method: u32,
        payload: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + use<> {
        let link = self.link(to, lane).cloned();
        async move {
            let link = link?;
            add(&link.counters.calls, 1);
            let result = call(&link, group, method, payload, timeout).await;
            add(&link.counters.calls_failed, u64::from(result.is_err()));
            result
        }
    }

    /// Opens an ordered bidirectional stream. It is not waited whether the peer wants it: if
    /// not, the reading half says so.
    ///
    /// # Errors
    /// As for [`Transport::call`]; nothing was sent then.
    pub async fn open(
        &self,
        to: NodeId,
        lane: Lane,
        group: GroupId,
        method: u32,
    ) -> Result<PeerStream, CallError> {
        let session = self.link(to, lane)?.session(Instant::now() + OPEN_TIMEOUT).await?;
        session.open(group, method).await
    }

    /// Whether the control lane that this node dialled is up.
    pub fn connected(&self, to: NodeId) -> bool {
        self.link(to, Lane::Control).is_ok_and(|link| link.current().is_some())
    }

    /// How often this lane has come up, dialled by this node or by the peer; 0 for a node that is no peer. Whoever
    /// looks now and then sees by it that there was a gap, however short, in which calls were lost.
    pub fn times_up(&self, peer: NodeId, lane: Lane) -> u64 {
        self.link(peer, lane).map_or(0, |link| link.times_up())
    }

    /// Follows the state of a lane that this node dials; `None` for a node that is no peer.
    pub fn watch(&self, to: NodeId, lane: Lane) -> Option<watch::Receiver<LinkPhase>> {
        Some(self.link(to, lane).ok()?.phase.subscribe())
    }

    /// This node.
    pub fn local(&self) -> NodeId {
        self.shared.local
    }

    /// All counters since the transport was made.
    pub fn counters(&self) -> Counters {
        self.shared.counters.read()
    }

    /// Calls and streams that are open now, in both roles, over all peers and lanes.
    pub fn open_entries(&self) -> usize {
        let dialled: usize = self
            .shared
            .links
            .values()
            .flatten()
            .filter_map(|link| link.current())
            .map(|session| session.open_entries())
            .sum();
        let accepted: usize =
            self.shared.accepted.lock().values().map(|session| session.open_entries()).sum();
        dialled + accepted
    }

    /// Ends all links and the accepting side, for all clones. Whatever is open fails as
    /// unreachable.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }

    fn link(&self, to: NodeId, lane: Lane) -> Result<&Arc<LaneLink>, CallError> {
        let lanes = self.shared.links.get(&to).ok_or(CallError::UnknownPeer(to))?;
        Ok(&lanes[lane.number()])
    }
}

async fn call(
    link: &LaneLink,
    group: GroupId,
    method: u32,
    payload: Bytes,
    timeout: Duration,
) -> Result<Bytes, CallError> {
    let now = Instant::now();
    let deadline = now.checked_add(timeout).unwrap_or(now + FAR_AWAY);
    let session = link.session(deadline).await?;
    let mut call = session.begin_call(group, method, payload)?;
    match tokio::time::timeout_at(deadline, call.answer()).await {
        Ok(answer) => answer,
        Err(_) => Err(CallError::Timeout { sent: !call.withdraw() }),
    }
}
