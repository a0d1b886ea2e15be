//! Everybody who does something in a run.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::PATIENCE;
use crate::chaos::actor::Actor;
use crate::chaos::book::Book;
use crate::chaos::clients::{self, PACE};
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
}

impl Crowd {
    /// Of these nodes.
    pub(super) fn new(seed: u64, nodes: Vec<(u64, String)>, book: Arc<Book>) -> Self {
        // 0 is the harness.
        Self { seed, nodes, book, processes: 0, queues: None }
    }

    pub(super) fn actor(&mut self) -> Actor {
        self.processes += 1;
        Actor::new(self.processes, self.seed, &self.nodes, self.book.clone())
    }

    /// Makes the queues, before anything else.
    pub(super) async fn create(&mut self) {
        let suffix = format!("{:x}", self.seed);
        self.queues = Some(Queues::create(&mut self.actor(), &suffix).await);
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
        for queue in [parked, strayed] {
            tasks.spawn(clients::revive(self.actor(), queue.clone()));
        }
        tasks.spawn(clients::purge(self.actor(), purged.clone()));
        let every = all.all().into_iter().cloned().collect();
        tasks.spawn(clients::look(self.actor(), every));
        tasks
    }

    /// Takes everything out; whether all is empty then.
    pub(super) async fn drain(&mut self) -> bool {
        let queues = self.queues();
        let mut tasks = JoinSet::new();
        let twice = queues.all().into_iter().chain(queues.all());
        let places: Vec<Place> = twice.cloned().collect();
        for queue in places {
            tasks.spawn(clients::drain(self.actor(), queue, HIDDEN_MAX + MARGIN, 3 * PATIENCE));
        }
        let mut complete = true;
        while let Some(drained) = tasks.join_next().await {
            complete &= drained.expect("clients do not fail by themselves");
        }
        complete
    }
}
