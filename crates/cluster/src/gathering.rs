//! The work of a moment gathers at one shard.
//!
//! Commands that reach a shard together are one Raft entry; spread over the shards they would be
//! many, each with its own syncs and round trips. So while a node is busy, its sends and receives
//! go to the same one of the shards that it leads (and the deletes follow their receives), and a
//! moment later to the next one. The clock says whose turn it is: nobody has to agree on anything.

/// How long it is one shard's turn: several times what an entry takes, and short enough that a
/// queue is soon spread over all of the node's shards.
const TURN_MS: u64 = 20;

/// Numbers the moments.
pub(crate) fn turn_at(now_ms: u64) -> u64 {
    now_ms / TURN_MS
}

/// The place of the shard whose turn it is, of the `count` shards (at least one) that are led here.
pub(crate) fn place(turn: u64, count: usize) -> usize {
    (turn % count.max(1) as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_its_turn_and_keeps_it_for_a_moment() {
        let places: Vec<usize> = (0..80).step_by(10).map(|ms| place(turn_at(ms), 3)).collect();
        assert_eq!(places, [0, 0, 1, 1, 2, 2, 0, 0]);
        assert_eq!(place(7, 0), 0);
    }
}
