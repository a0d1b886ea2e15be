//! All clients of a run, from its first request to its last.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla_history::Options;
use flotilla_history::record::{FaultPhase, Mark};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::actor::Actor;
use super::book::{Book, Stage};
use super::clients;
use super::corners::{self, Corners};
use super::queues::{HIDDEN_MAX, Place, Queues};
use super::{admin, waiting};
use crate::PATIENCE;
use crate::knobs::{Knobs, Work};
use crate::machine;
use crate::node::{API_PORT, host};

/// Beyond [`HIDDEN_MAX`], until a queue that gives nothing is called empty.
const MARGIN: Duration = Duration::from_secs(2);

/// The history of a run, for whoever makes faults.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Book>);

impl Ledger {
    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn begin(path: &Path, label: String, options: Options) -> io::Result<Self> {
        Ok(Self(Arc::new(Book::begin(path, label, options)?)))
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.0.now_us()
    }

    /// A fault takes place, that was made at a moment before.
    pub(crate) fn fired(&self, name: &str, nodes: &[u64], from_us: u64) {
        self.0.fault(name, nodes, FaultPhase::Fired, from_us);
    }

    pub(crate) fn healed(&self, name: &str, nodes: &[u64]) {
        self.0.fault(name, nodes, FaultPhase::Healed, self.0.now_us());
    }

    /// Ends the file, when every client has ended.
    ///
    /// # Errors
    /// When it could not be written.
    pub(crate) fn finish(self) -> io::Result<PathBuf> {
        let book = Arc::into_inner(self.0).ok_or_else(|| io::Error::other("clients still run"))?;
        book.finish()
    }
}

/// How far the clients have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// Queues are created.
    Begins,
    /// All do what they do.
    Loads,
    /// No new messages; what there is, is received.
    Drains,
    /// All queues are empty.
    Ended,
}

/// The clients' whole life. They load until `stop` says so.
pub(crate) async fn run(
    knobs: Arc<Knobs>,
    ledger: Ledger,
    mut stop: watch::Receiver<bool>,
    progress: watch::Sender<Progress>,
) -> turmoil::Result {
    machine::these_are_clients();
    let nodes: Vec<(u64, String)> =
        (1..=knobs.nodes).map(|id| (id, format!("{}:{API_PORT}", host(id)))).collect();
    let mut crowd = Crowd { seed: knobs.seed, nodes, book: ledger.0, processes: 0 };
    let suffix = format!("{:x}", knobs.seed);
    let queues = Queues::create(&mut crowd.actor(), &suffix).await;
    let mut places: Vec<Place> = queues.all().into_iter().cloned().collect();
    let mut load = crowd.load(&queues, &knobs);
    if !knobs.corners.is_empty() {
        let all = Corners::create(&mut crowd.actor(), &suffix).await;
        places.extend(all.all().into_iter().cloned());
        for corner in &knobs.corners {
            corners::load(&all, *corner, || crowd.actor(), &mut load);
        }
    }
    load.spawn(clients::look(crowd.actor(), places.clone()));
    progress.send_replace(Progress::Loads);
    stop.wait_for(|stop| *stop).await?;
    crowd.book.enter(Stage::Ending);
    while let Some(client) = load.join_next().await {
        client?;
    }
    progress.send_replace(Progress::Drains);
    crowd.book.mark(Mark::DrainBegan);
    let complete = crowd.drain(places).await;
    crowd.book.mark(Mark::DrainEnded { complete });
    // Requests that clients gave up may still be on their way.
    sleep(Duration::from_millis(100)).await;
    progress.send_replace(Progress::Ended);
    Ok(())
}

/// Makes clients.
struct Crowd {
    seed: u64,
    nodes: Vec<(u64, String)>,
    book: Arc<Book>,
    processes: u32,
}

impl Crowd {
    fn actor(&mut self) -> Actor {
        // 0 is the harness.
        self.processes += 1;
        Actor::new(self.processes, self.seed, &self.nodes, self.book.clone())
    }

    fn load(&mut self, queues: &Queues, knobs: &Knobs) -> JoinSet<()> {
        let pace = Duration::from_millis(knobs.pace_ms);
        let mut tasks = JoinSet::new();
        for work in &knobs.work {
            self.work(*work, queues, pace, &mut tasks);
        }
        tasks
    }

    fn work(&mut self, work: Work, queues: &Queues, pace: Duration, tasks: &mut JoinSet<()>) {
        let (source, sink) = match work {
            Work::Orders => (&queues.orders, &queues.orders),
            Work::Lines => (&queues.lines, &queues.lines),
            Work::Lanes => (&queues.lanes, &queues.lanes),
            Work::Retried => (&queues.retried, &queues.retried),
            Work::Flaky => (&queues.flaky, &queues.dead),
            Work::Stumbling => (&queues.stumbling, &queues.fallen),
            Work::Wandering => (&queues.wandering, &queues.parked),
            Work::Straying => (&queues.straying, &queues.strayed),
            Work::Timed => (&queues.timed, &queues.timed),
            Work::Waited => (&queues.waited, &queues.waited),
            Work::Brief | Work::Tuned => (&queues.tuned, &queues.tuned),
            Work::Purged => (&queues.purged, &queues.purged),
            Work::Cartons => (&queues.cartons, &queues.cartons),
        };
        let (source, sink) = (source.clone(), sink.clone());
        match work {
            Work::Retried => {
                tasks.spawn(clients::insist(self.actor(), source.clone()));
                tasks.spawn(clients::insist(self.actor(), source));
            }
            Work::Waited => {
                tasks.spawn(waiting::trickle(self.actor(), source.clone()));
                for _ in 0..2 {
                    tasks.spawn(waiting::wait(self.actor(), source.clone()));
                }
                return;
            }
            Work::Brief => {
                for _ in 0..2 {
                    tasks.spawn(admin::come_and_go(self.actor(), queues.suffix.clone()));
                }
                return;
            }
            Work::Cartons => {
                tasks.spawn(clients::pack(self.actor(), source.clone()));
                tasks.spawn(clients::unpack(self.actor(), source));
                return;
            }
            _ => {
                tasks.spawn(clients::produce(self.actor(), source.clone(), pace));
                tasks.spawn(clients::produce(self.actor(), source.clone(), pace));
                self.more(work, &source, &sink, tasks);
            }
        }
        // Dead letters that a task moves back have nobody else.
        if !matches!(work, Work::Wandering | Work::Straying) {
            tasks.spawn(clients::consume(self.actor(), sink));
        }
    }

    /// Those who do what is special about a kind of work.
    fn more(&mut self, work: Work, source: &Place, sink: &Place, tasks: &mut JoinSet<()>) {
        match work {
            Work::Lines | Work::Lanes => {
                tasks.spawn(clients::consume(self.actor(), sink.clone()));
            }
            Work::Flaky | Work::Stumbling => {
                tasks.spawn(clients::fumble(self.actor(), source.clone()));
            }
            Work::Wandering | Work::Straying => {
                tasks.spawn(clients::fumble(self.actor(), source.clone()));
                tasks.spawn(clients::revive(self.actor(), sink.clone(), source.clone()));
            }
            Work::Timed => {
                tasks.spawn(clients::mix(self.actor(), source.clone()));
            }
            Work::Tuned => {
                tasks.spawn(admin::tune(self.actor(), source.clone()));
                tasks.spawn(admin::tune(self.actor(), source.clone()));
            }
            Work::Purged => {
                tasks.spawn(clients::purge(self.actor(), source.clone()));
            }
            _ => {}
        }
    }

    async fn drain(&mut self, places: Vec<Place>) -> bool {
        let mut tasks = JoinSet::new();
        for queue in places {
            tasks.spawn(clients::drain(self.actor(), queue, HIDDEN_MAX + MARGIN, 3 * PATIENCE));
        }
        let mut complete = true;
        while let Some(drained) = tasks.join_next().await {
            complete &= drained.is_ok_and(|empty| empty);
        }
        complete
    }
}
