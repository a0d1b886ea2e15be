//! Everybody who does something in a run.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::PATIENCE;
use crate::chaos::actor::Actor;
use crate::chaos::book::Book;
use crate::chaos::clients::{self, PACE};
use crate::chaos::corners::{self, Corner, Corners};
use crate::chaos::queues::{HIDDEN_MAX, Place, Queues};
use crate::chaos::run::MARGIN;
use crate::chaos::{admin, waiting};

/// Makes clients.
pub(super) struct Crowd {
    seed: u64,
    nodes: Vec<(u64, String)>,
    book: Arc<Book>,
    processes: u32,
    queues: Option<Queues>,
    corners: Option<Corners>,
}

impl Crowd {
    /// Of these nodes.
    pub(super) fn new(seed: u64, nodes: Vec<(u64, String)>, book: Arc<Book>) -> Self {
        // 0 is the harness.
        Self { seed, nodes, book, processes: 0, queues: None, corners: None }
    }

    pub(super) fn actor(&mut self) -> Actor {
        self.processes += 1;
        Actor::new(self.processes, self.seed, &self.nodes, self.book.clone())
    }

    /// Makes the queues, before anything else.
    pub(super) async fn create(&mut self) {
        let suffix = format!("{:x}", self.seed);
        let mut actor = self.actor();
        self.queues = Some(Queues::create(&mut actor, &suffix).await);
        self.corners = Some(Corners::create(&mut actor, &suffix).await);
    }

    fn corners(&self) -> Corners {
        self.corners.clone().expect("queues are created first")
    }

    /// Those that outlive the load.
    fn places(&self) -> Vec<Place> {
        let (queues, corners) = (self.queues(), self.corners());
        queues.all().into_iter().chain(corners.all()).cloned().collect()
    }

    pub(super) fn queues(&self) -> Queues {
        self.queues.clone().expect("queues are created first")
    }

    /// Those who work until the load ends.
    pub(super) fn load(&mut self) -> JoinSet<()> {
        let all = self.queues();
        let mut tasks = JoinSet::new();
        let Queues { orders, lines, lanes, retried, flaky, dead, purged, .. } = &all;
        let Queues { stumbling, fallen, wandering, parked, straying, strayed, .. } = &all;
        let Queues { timed, waited, tuned, cartons, suffix, .. } = &all;
        for queue in [orders, orders, lines, lines, lanes, lanes, flaky, timed, purged] {
            tasks.spawn(clients::produce(self.actor(), queue.clone(), PACE));
        }
        for queue in [stumbling, wandering, straying, tuned] {
            tasks.spawn(clients::produce(self.actor(), queue.clone(), 5 * PACE));
        }
        for queue in [orders, orders, orders, lines, lines, lanes, lanes, retried, dead, fallen] {
            tasks.spawn(clients::consume(self.actor(), queue.clone()));
        }
        for queue in [timed, purged, tuned] {
            tasks.spawn(clients::consume(self.actor(), queue.clone()));
        }
        for queue in [flaky, flaky, stumbling, wandering, straying] {
            tasks.spawn(clients::fumble(self.actor(), queue.clone()));
        }
        for _ in 0..2 {
            tasks.spawn(clients::mix(self.actor(), timed.clone()));
            tasks.spawn(clients::insist(self.actor(), retried.clone()));
            tasks.spawn(admin::come_and_go(self.actor(), suffix.clone()));
            tasks.spawn(admin::tune(self.actor(), tuned.clone()));
        }
        tasks.spawn(clients::pack(self.actor(), cartons.clone()));
        tasks.spawn(clients::unpack(self.actor(), cartons.clone()));
        tasks.spawn(waiting::trickle(self.actor(), waited.clone()));
        for _ in 0..3 {
            tasks.spawn(waiting::wait(self.actor(), waited.clone()));
        }
        for (queue, home) in [(parked, wandering), (strayed, straying)] {
            tasks.spawn(clients::revive(self.actor(), queue.clone(), home.clone()));
        }
        tasks.spawn(clients::purge(self.actor(), purged.clone()));
        tasks.spawn(corners::let_go(self.actor(), waited.clone()));
        self.load_corners(&mut tasks);
        tasks.spawn(clients::look(self.actor(), self.places()));
        tasks
    }

    fn load_corners(&mut self, tasks: &mut JoinSet<()>) {
        let all = self.corners();
        for corner in Corner::ALL {
            corners::load(&all, corner, || self.actor(), tasks);
        }
    }

    /// Takes everything out; whether all is empty then.
    pub(super) async fn drain(&mut self) -> bool {
        let mut tasks = JoinSet::new();
        let twice = [self.places(), self.places()].concat();
        for queue in twice {
            tasks.spawn(clients::drain(self.actor(), queue, HIDDEN_MAX + MARGIN, 3 * PATIENCE));
        }
        let mut complete = true;
        while let Some(drained) = tasks.join_next().await {
            complete &= drained.expect("clients do not fail by themselves");
        }
        complete
    }
}
