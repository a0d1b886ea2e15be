//! What waits for a proposal, and the bounds of that.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flotilla_types::limits::{
    SHARD_PENDING_BYTES_MAX, SHARD_PENDING_COMMANDS_MAX, SHARD_PENDING_MAX,
};

/// The owner's channel is unbounded; this is its bound. By number, by size and, because a disk can
/// be slow, by time: who would wait for long is told at once.
#[derive(Debug)]
pub(crate) struct Pending {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    made: Instant,
    /// Since when the request in front waits, in microseconds after `made`; 0 when none does.
    front_us: AtomicU64,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            commands: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            made: Instant::now(),
            front_us: AtomicU64::new(0),
        }
    }
}

impl Pending {
    /// Counts a request in, if there is room for it, and nobody waits for too long already.
    pub(crate) fn admit(&self, commands: usize, bytes: usize) -> bool {
        if self.is_slow() {
            return false;
        }
        let fits = self.commands.load(Ordering::Relaxed) + commands <= SHARD_PENDING_COMMANDS_MAX
            && self.bytes.load(Ordering::Relaxed) + bytes <= SHARD_PENDING_BYTES_MAX;
        if fits {
            self.commands.fetch_add(commands, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Whether requests wait for so long already that another one should not join them.
    fn is_slow(&self) -> bool {
        let front_us = self.front_us.load(Ordering::Relaxed);
        front_us > 0 && self.made.elapsed() > Duration::from_micros(front_us) + SHARD_PENDING_MAX
    }

    /// A request goes on.
    pub(crate) fn release(&self, commands: usize, bytes: usize) {
        self.commands.fetch_sub(commands, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Since when the request in front has been waiting.
    pub(crate) fn note_front(&self, since: Option<Instant>) {
        let us = since.map_or(0, |since| {
            let us = since.saturating_duration_since(self.made).as_micros();
            u64::try_from(us).unwrap_or(u64::MAX).max(1)
        });
        self.front_us.store(us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_by_commands_and_bytes() {
        let pending = Pending::default();
        assert!(pending.admit(SHARD_PENDING_COMMANDS_MAX, 0));
        assert!(!pending.admit(1, 0));
        pending.release(SHARD_PENDING_COMMANDS_MAX, 0);
        assert!(pending.admit(1, SHARD_PENDING_BYTES_MAX));
        assert!(!pending.admit(1, 1));
        pending.release(1, SHARD_PENDING_BYTES_MAX);
        assert!(pending.admit(1, 1));
    }

    #[test]
    fn is_slow_while_the_front_waits_for_too_long() {
        let made = Instant::now() - 10 * SHARD_PENDING_MAX;
        let pending = Pending { made, ..Pending::default() };
        assert!(!pending.is_slow());
        pending.note_front(Some(Instant::now() - 2 * SHARD_PENDING_MAX));
        assert!(pending.is_slow());
        pending.note_front(Some(Instant::now()));
        assert!(!pending.is_slow());
        // One that came together with the shard counts too.
        pending.note_front(Some(made));
        assert!(pending.is_slow());
        pending.note_front(None);
        assert!(!pending.is_slow());
    }

    /// Sends and receives alike: a receive is admitted as one command without bytes.
    #[test]
    fn nothing_joins_those_who_wait_for_too_long() {
        let made = Instant::now() - 10 * SHARD_PENDING_MAX;
        let pending = Pending { made, ..Pending::default() };
        pending.note_front(Some(Instant::now() - 2 * SHARD_PENDING_MAX));
        assert!(!pending.admit(1, 0));
        assert!(!pending.admit(1, 100));
        assert_eq!(pending.commands.load(Ordering::Relaxed), 0);
        pending.note_front(None);
        assert!(pending.admit(1, 0));
    }
}
