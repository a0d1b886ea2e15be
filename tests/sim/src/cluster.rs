//! The cluster from outside: nodes that are started, stopped and looked at.

use std::sync::Arc;
use std::time::Duration;

use flotilla_cluster::api::Cluster as _;
use flotilla_cluster::node::Node;
use rand::RngExt as _;
use rand::rngs::StdRng;
use turmoil::Sim;

use crate::audit::recovered;
use crate::disk::Cut;
use crate::knobs::Knobs;
use crate::node::{Member, host};
use crate::oracle::Oracle;

/// Host name of all clients.
pub(crate) const CLIENTS: &str = "clients";

/// See the module.
pub(crate) struct SimCluster<'a> {
    pub(crate) sim: Sim<'a>,
    pub(crate) members: Vec<Member>,
    pub(crate) knobs: Arc<Knobs>,
    pub(crate) oracle: Oracle,
    down: Vec<bool>,
    /// How often each node was started again.
    lives: Vec<u64>,
}

impl<'a> SimCluster<'a> {
    /// All nodes, running, with empty disks.
    pub(crate) fn new(mut sim: Sim<'a>, knobs: &Arc<Knobs>) -> Self {
        let members: Vec<Member> = (1..=knobs.nodes).map(|id| Member::new(id, knobs)).collect();
        let oracle = Oracle::begin(&members);
        for member in &members {
            let flush_once_in = knobs.flush_once_in;
            let seed = knobs.seed ^ member.id;
            let habits = rocksdb::model::Habits { flush_once_in, seed };
            member.disk.set_state_habits(habits);
            let member = member.clone();
            sim.host(host(member.id), move || member.clone().run());
        }
        let (down, lives) = (vec![false; members.len()], vec![0; members.len()]);
        Self { sim, members, knobs: knobs.clone(), oracle, down, lives }
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

    /// Counts a node's starts.
    pub(crate) fn life(&self, id: u64) -> u64 {
        self.lives[id as usize - 1]
    }

    /// Nodes that run.
    pub(crate) fn running(&self) -> Vec<(u64, Arc<Node>)> {
        let running = |member: &Member| Some((member.id, member.running.lock().clone()?));
        self.members.iter().filter_map(running).collect()
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
    ///
    /// # Errors
    /// When its log cannot be read.
    pub(crate) fn start(&mut self, id: u64, cut: Cut) -> Result<(), String> {
        if !self.is_down(id) {
            return Ok(());
        }
        let member = self.member(id);
        member.disk.restart(cut);
        // What is left of it is what its own recovery finds.
        let (shadow, _) = recovered(member)?;
        member.disk.set_shadow(shadow);
        self.oracle.begin_life(id);
        self.sim.bounce(host(id));
        self.down[id as usize - 1] = false;
        self.lives[id as usize - 1] += 1;
        Ok(())
    }

    /// Whether every node is up and can serve.
    pub(crate) fn is_ready(&self) -> bool {
        let running = self.running();
        running.len() == self.members.len() && running.iter().all(|(_, node)| node.ready())
    }

    /// Whether any replica may not vote yet.
    pub(crate) fn is_rebuilding(&self) -> bool {
        let running = self.running();
        running.iter().any(|(_, node)| node.status().groups.iter().any(|group| !group.votes))
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
