//! The cluster from outside: nodes that are started, stopped and looked at.

use std::sync::Arc;
use std::time::Duration;

use flotilla_cluster::api::Cluster as _;
use rand::RngExt as _;
use rand::rngs::StdRng;
use turmoil::Sim;

use crate::disk::Cut;
use crate::knobs::Knobs;
use crate::node::{Member, host};

/// Host name of all clients.
pub(crate) const CLIENTS: &str = "clients";

/// See the module.
pub(crate) struct SimCluster<'a> {
    pub(crate) sim: Sim<'a>,
    pub(crate) members: Vec<Member>,
    pub(crate) knobs: Arc<Knobs>,
    down: Vec<bool>,
}

impl<'a> SimCluster<'a> {
    /// All nodes, running, with empty disks.
    pub(crate) fn new(mut sim: Sim<'a>, knobs: &Arc<Knobs>) -> Self {
        let members: Vec<Member> = (1..=knobs.nodes).map(|id| Member::new(id, knobs)).collect();
        for member in &members {
            let flush_once_in = knobs.flush_once_in;
            let seed = knobs.seed ^ member.id;
            let habits = rocksdb::model::Habits { flush_once_in, fail_once_in: 0, seed };
            member.disk.set_state_habits(habits);
            let member = member.clone();
            sim.host(host(member.id), move || member.clone().run());
        }
        let down = vec![false; members.len()];
        Self { sim, members, knobs: knobs.clone(), down }
    }

    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    pub(crate) fn member(&self, id: u64) -> &Member {
        &self.members[id as usize - 1]
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.id).collect()
    }

    pub(crate) fn is_down(&self, id: u64) -> bool {
        self.down[id as usize - 1]
    }

    /// Stops a node at once; its disk stays as it was at that moment.
    pub(crate) fn stop(&mut self, id: u64) {
        if self.is_down(id) {
            return;
        }
        let member = self.member(id).clone();
        member.disk.switch_off();
        member.running.lock().take();
        self.sim.crash(host(id));
        member.ended.lock().take();
        self.down[id as usize - 1] = true;
    }

    /// Starts a node that was stopped.
    pub(crate) fn start(&mut self, id: u64, cut: Cut) {
        if !self.is_down(id) {
            return;
        }
        self.member(id).disk.restart(cut);
        self.sim.bounce(host(id));
        self.down[id as usize - 1] = false;
    }

    /// Whether every node is up and can serve.
    pub(crate) fn is_ready(&self) -> bool {
        self.members.iter().all(|member| {
            let running = member.running.lock();
            running.as_ref().is_some_and(|node| node.ready())
        })
    }

    /// One after the other.
    pub(crate) fn choose(&self, count: usize, dice: &mut StdRng) -> Vec<u64> {
        let first = dice.random_range(0..self.members.len());
        let mut ids: Vec<u64> =
            (0..count).map(|it| ((first + it) % self.members.len()) as u64 + 1).collect();
        ids.sort_unstable();
        ids
    }
}
