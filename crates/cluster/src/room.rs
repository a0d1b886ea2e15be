//! Room for messages on their way to whoever received them.
//!
//! What is claimed must be answered, so the room for it is taken before: a receive says to each shard how many
//! bytes of messages it may give at most, and gives back what it did not need. What is taken counts until
//! it was written (the room goes along with the bytes), so callers that do not read hold their own room and
//! nobody else's memory.
//!
//! The less room is left, the less a receive gets of it, down to what one largest message needs. A quarter
//! is for receives of small messages alone: those go on while large ones wait for callers that read slowly.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use flotilla_types::limits::{
    ANSWER_BYTES_MAX, ANSWER_ROOM_WAIT_MAX, CONTENT_BYTES_MAX, SMALL_ANSWER_BYTES_MAX,
};
use tokio::sync::Notify;
use tokio::time::timeout;

/// The part of a pool that only small answers may use.
const SPARE_DIVISOR: usize = 4;
/// What one receive gets of the rest that is free.
const SHARE_DIVISOR: usize = 16;

/// A bound on bytes. Clones are the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    taken: AtomicUsize,
    /// One each for who needs little, one message and more: who needs more than was given back must not keep the
    /// news of it from who needs less.
    freed: [Notify; 3],
}

impl Shared {
    fn freed_for(&self, least: usize) -> &Notify {
        let [little, message, more] = &self.freed;
        if least <= SMALL_ANSWER_BYTES_MAX {
            little
        } else if least <= CONTENT_BYTES_MAX {
            message
        } else {
            more
        }
    }
}

/// There is no room, and there was none for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How many of the `free` bytes of a pool a receive gets that can use up to `wanted` and must have `least`.
fn allowance(free: usize, bytes_max: usize, least: usize, wanted: usize) -> Option<usize> {
    let free_for_large = free.saturating_sub(bytes_max / SPARE_DIVISOR);
    let share = (free_for_large / SHARE_DIVISOR).max(CONTENT_BYTES_MAX);
    if free_for_large >= CONTENT_BYTES_MAX.max(least) {
        Some(wanted.min(share).max(least))
    } else {
        let small = SMALL_ANSWER_BYTES_MAX.min(wanted);
        (small >= least && free >= small).then_some(small)
    }
}

impl Default for Pool {
    /// As large as a node's is.
    fn default() -> Self {
        Self::new(ANSWER_BYTES_MAX)
    }
}

impl Pool {
    /// Empty.
    pub fn new(bytes_max: usize) -> Self {
        let shared = Shared { bytes_max, taken: AtomicUsize::new(0), freed: Default::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Bytes that are taken.
    pub fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Whether more than half is taken: who holds some of it for long keeps others from it.
    pub fn is_short(&self) -> bool {
        self.taken() > self.shared.bytes_max / 2
    }

    /// Of one answer; none yet.
    pub fn room(&self) -> Room {
        Room { pool: self.clone(), bytes: 0 }
    }

    fn try_take(&self, allow: impl Fn(usize) -> Option<usize>) -> Option<usize> {
        let Shared { bytes_max, taken, .. } = &*self.shared;
        let mut known = taken.load(Ordering::Relaxed);
        loop {
            let bytes = allow(bytes_max.saturating_sub(known))?;
            let order = Ordering::Relaxed;
            match taken.compare_exchange_weak(known, known + bytes, order, order) {
                Ok(_) => return Some(bytes),
                Err(now) => known = now,
            }
        }
    }

    async fn wait_for(&self, freed: &Notify, take: impl Fn(&Self) -> Option<usize>) -> usize {
        loop {
            let mut freed = pin!(freed.notified());
            // Before the look, or what is given back right after it would be missed.
            freed.as_mut().enable();
            if let Some(bytes) = take(self) {
                return bytes;
            }
            freed.await;
        }
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.shared.taken.fetch_sub(bytes, Ordering::Relaxed);
            let [little, message, more] = &self.shared.freed;
            little.notify_one();
            message.notify_one();
            // These need different numbers of messages' room.
            more.notify_waiters();
        }
    }
}

/// What one answer takes of a pool; dropping it gives that back.
#[derive(Debug)]
pub struct Room {
    pool: Pool,
    bytes: usize,
}

impl Room {
    /// Takes room for messages: at least `least` bytes, and up to `wanted` if there is enough. Waits a moment
    /// for others to give some back; returns how many bytes it is.
    ///
    /// # Errors
    /// [`Full`] when they do not.
    pub(crate) async fn open(&mut self, least: usize, wanted: usize) -> Result<usize, Full> {
        let bytes_max = self.pool.shared.bytes_max;
        let take = |pool: &Pool| pool.try_take(|free| allowance(free, bytes_max, least, wanted));
        let bytes = match take(&self.pool) {
            Some(bytes) => bytes,
            None => {
                let freed = self.pool.shared.freed_for(least);
                let waited = timeout(ANSWER_ROOM_WAIT_MAX, self.pool.wait_for(freed, take)).await;
                // There may be enough for the next one, too; or the news of it went to this one.
                freed.notify_one();
                waited.map_err(|_| Full)?
            }
        };
        self.bytes += bytes;
        Ok(bytes)
    }

    /// Takes so much, in all, if there is room.
    ///
    /// # Errors
    /// [`Full`] when there is not.
    pub fn try_hold(&mut self, bytes: usize) -> Result<(), Full> {
        let more = bytes.saturating_sub(self.bytes);
        let took = self.pool.try_take(|free| (free >= more).then_some(more));
        self.bytes += took.ok_or(Full)?;
        self.hold(bytes);
        Ok(())
    }

    /// Takes so much, in all, also beyond the bound: for what is there already. The rest is given back.
    pub fn hold(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.pool.shared.taken.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.pool.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Bytes that take this room until the last of their handles is dropped.
    pub fn fill(mut self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        self.hold(bytes.as_ref().len());
        Bytes::from_owner(Filled { bytes, _room: self })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.pool.give_back(self.bytes);
    }
}

struct Filled<T> {
    bytes: T,
    _room: Room,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Filled<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const MIB: usize = 1_048_576;
    const MAX: usize = 256 * MIB;
    const WHOLE: usize = 10 * CONTENT_BYTES_MAX;

    #[test]
    fn a_receive_gets_less_the_less_there_is() {
        assert_eq!(allowance(MAX, MAX, 0, WHOLE), Some(WHOLE));
        assert_eq!(allowance(MAX, MAX, 0, 1_000), Some(1_000));
        assert_eq!(allowance(128 * MIB, MAX, 0, WHOLE), Some(4 * MIB));
        // From here on enough for one message, whatever its size.
        assert_eq!(allowance(72 * MIB, MAX, 0, WHOLE), Some(CONTENT_BYTES_MAX));
        // The last quarter is for small ones.
        assert_eq!(allowance(64 * MIB, MAX, 0, WHOLE), Some(SMALL_ANSWER_BYTES_MAX));
        assert_eq!(allowance(64 * MIB, MAX, CONTENT_BYTES_MAX, WHOLE), None);
        assert_eq!(allowance(SMALL_ANSWER_BYTES_MAX - 1, MAX, 0, WHOLE), None);
        assert_eq!(allowance(0, MAX, 0, WHOLE), None);
        // Who needs much waits for it.
        assert_eq!(allowance(80 * MIB, MAX, WHOLE, WHOLE), Some(WHOLE));
        assert_eq!(allowance(72 * MIB, MAX, WHOLE, WHOLE), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_never_passes_the_bound_and_comes_back() {
        let pool = Pool::new(MAX);
        let mut rooms = Vec::new();
        loop {
            let mut room = pool.room();
            if room.open(0, WHOLE).await.is_err() {
                break;
            }
            rooms.push(room);
            assert!(pool.taken() <= MAX);
        }
        assert!(pool.is_short());
        // Many small ones, after a few large ones.
        let large = rooms.iter().filter(|room| room.bytes >= CONTENT_BYTES_MAX).count();
        assert!((40..200).contains(&large), "{large}");
        assert!(rooms.len() - large >= 1_000, "{}", rooms.len());
        drop(rooms);
        assert_eq!(pool.taken(), 0);
        assert!(!pool.is_short());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_gets_what_is_given_back() {
        let pool = Pool::new(2 * SMALL_ANSWER_BYTES_MAX);
        let (mut first, mut second) = (pool.room(), pool.room());
        first.open(0, WHOLE).await.unwrap();
        second.open(0, WHOLE).await.unwrap();
        let (mut third, mut fourth) = (pool.room(), pool.room());
        let rooms = [&mut third, &mut fourth].into_iter();
        let mut waits: Vec<_> = rooms.map(|room| Box::pin(room.open(0, WHOLE))).collect();
        assert!(waits.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
        first.hold(10);
        assert!(waits.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()), "too little");
        second.hold(SMALL_ANSWER_BYTES_MAX - 10);
        drop(first);
        let got = waits.iter_mut().map(|wait| wait.as_mut().now_or_never()).collect::<Vec<_>>();
        assert_eq!(got, [Some(Ok(SMALL_ANSWER_BYTES_MAX)), None]);
        let last = waits.pop().unwrap();
        assert_eq!(last.await, Err(Full), "nobody gives anything back");
        drop(waits);
        drop((second, third, fourth));
        assert_eq!(pool.taken(), 0);
    }

    /// It got the news of what was given back, had no use for it and kept it.
    #[tokio::test(start_paused = true)]
    async fn who_needs_little_is_not_held_up_by_who_needs_much() {
        let pool = Pool::new(4 * CONTENT_BYTES_MAX);
        let mut first = pool.room();
        first.hold(4 * CONTENT_BYTES_MAX);
        let (mut whole, mut large, mut small) = (pool.room(), pool.room(), pool.room());
        let mut whole = Box::pin(whole.open(WHOLE, WHOLE));
        let mut large = Box::pin(large.open(CONTENT_BYTES_MAX, WHOLE));
        let mut small = Box::pin(small.open(0, WHOLE));
        assert_eq!(whole.as_mut().now_or_never(), None);
        assert_eq!(large.as_mut().now_or_never(), None);
        assert_eq!(small.as_mut().now_or_never(), None);
        first.hold(4 * CONTENT_BYTES_MAX - SMALL_ANSWER_BYTES_MAX);
        assert_eq!(whole.as_mut().now_or_never(), None);
        assert_eq!(large.as_mut().now_or_never(), None);
        assert_eq!(small.as_mut().now_or_never(), Some(Ok(SMALL_ANSWER_BYTES_MAX)));
        first.hold(CONTENT_BYTES_MAX);
        assert_eq!(whole.as_mut().now_or_never(), None);
        assert_eq!(large.as_mut().now_or_never(), Some(Ok(CONTENT_BYTES_MAX)));
    }

    #[test]
    fn bytes_hold_their_room_until_the_last_handle_is_gone() {
        let pool = Pool::new(100);
        let mut room = pool.room();
        assert_eq!(room.try_hold(101), Err(Full));
        assert_eq!(room.try_hold(90), Ok(()));
        assert_eq!(pool.room().try_hold(11), Err(Full));
        // Written out it is longer than it was thought to be.
        let bytes = room.fill(vec![7; 150]);
        assert_eq!(pool.taken(), 150);
        let part = bytes.slice(100..);
        drop(bytes);
        assert_eq!(pool.taken(), 150);
        drop(part);
        assert_eq!(pool.taken(), 0);
    }
}
