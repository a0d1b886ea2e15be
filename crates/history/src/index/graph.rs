//! How messages get from one queue to another.

use std::collections::{BTreeMap, BTreeSet};

/// Edges between queues. A queue is there once it was a row of the index.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// By a redrive policy that was in force at some time: the message keeps its id.
    redrives: BTreeSet<(u32, u32)>,
    /// By a move task that may have run: messages get new ids.
    moves: BTreeSet<(u32, u32)>,
    /// When the first task began that may take messages from a queue.
    moved_from: BTreeMap<u32, u64>,
}

impl Graph {
    pub(crate) fn add_redrive(&mut self, from: u32, to: u32) {
        self.redrives.insert((from, to));
    }

    pub(crate) fn add_move(&mut self, from: u32, to: Option<u32>, at: u64) {
        let since = self.moved_from.entry(from).or_insert(at);
        *since = at.min(*since);
        match to {
            Some(to) => {
                self.moves.insert((from, to));
            }
            // Each goes where it came from.
            None => {
                let sources: Vec<u32> = self.sources(from).collect();
                self.moves.extend(sources.into_iter().map(|to| (from, to)));
            }
        }
    }

    /// The queues whose dead letters may come here.
    pub(crate) fn sources(&self, queue: u32) -> impl Iterator<Item = u32> + '_ {
        self.redrives.iter().filter(move |edge| edge.1 == queue).map(|edge| edge.0)
    }

    /// The dead-letter queues of a queue, over time.
    pub(crate) fn targets(&self, queue: u32) -> impl Iterator<Item = u32> + '_ {
        self.redrives.range((queue, 0)..=(queue, u32::MAX)).map(|edge| edge.1)
    }

    pub(crate) fn has_moves(&self) -> bool {
        !self.moves.is_empty()
    }

    pub(crate) fn is_move_source(&self, queue: u32) -> bool {
        self.moved_from.contains_key(&queue)
    }

    /// From when on tasks may take messages from a queue.
    pub(crate) fn moved_since(&self, queue: u32) -> Option<u64> {
        self.moved_from.get(&queue).copied()
    }

    pub(crate) fn is_move_target(&self, queue: u32) -> bool {
        self.moves.iter().any(|edge| edge.1 == queue)
    }

    /// Whether tasks take messages from a queue or bring them there, or to one whose dead letters come
    /// here.
    pub(crate) fn touches_moves(&self, queue: u32) -> bool {
        let moves = |queue: u32| self.is_move_source(queue) || self.is_move_target(queue);
        moves(queue) || self.sources(queue).any(moves)
    }

    /// Whether messages that tasks gave new ids may be here, or have been here when they were first seen.
    pub(crate) fn is_behind_a_move(&self, queue: u32) -> bool {
        self.moves.iter().any(|edge| self.reachable(edge.1).contains(&queue))
    }

    /// Whether a task may take away what this queue's redrive policy moves.
    pub(crate) fn moves_dead_letters_on(&self, queue: u32) -> bool {
        let mut beyond = self.targets(queue).flat_map(|target| self.reachable(target));
        beyond.any(|it| self.is_move_source(it))
    }

    /// Whether messages only come by sends and only go by deletes, purges and age.
    pub(crate) fn is_isolated(&self, queue: u32) -> bool {
        let touches = |edge: &(u32, u32)| edge.0 == queue || edge.1 == queue;
        !self.redrives.iter().any(touches) && !self.moves.iter().any(touches)
    }

    /// All queues where a message of this queue may be, with or without a new id.
    pub(crate) fn reachable(&self, queue: u32) -> Vec<u32> {
        let mut found = vec![queue];
        let mut next = 0;
        while next < found.len() {
            let from = found[next];
            let edges = [&self.redrives, &self.moves];
            for edge in edges.iter().flat_map(|edges| edges.range((from, 0)..=(from, u32::MAX))) {
                if !found.contains(&edge.1) {
                    found.push(edge.1);
                }
            }
            next += 1;
        }
        found
    }
}
