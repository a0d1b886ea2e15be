//! A short hash for keys that this cluster numbers itself.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map keyed by ids. Nobody outside chooses these keys, so no defence against chosen keys is
/// needed, and its order is the same in every run.
pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;
/// See [`IdMap`].
pub(crate) type IdSet<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

/// Odd, with its bits spread: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies to 128 bits and folds the halves, so that runs of consecutive numbers spread over
/// both the low bits (the bucket) and the high bits (the tag) of the table.
#[derive(Clone, Copy, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ SPREAD) * u128::from(SPREAD);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(word: u64) -> u64 {
        let mut hasher = IdHasher::default();
        hasher.write_u64(word);
        hasher.finish()
    }

    #[test]
    fn consecutive_numbers_spread_over_low_and_high_bits() {
        let low: HashSet<u64> = (0..4096).map(|n| hash(n) & 0xfff).collect();
        let high: HashSet<u64> = (0..4096).map(|n| hash(n) >> 57).collect();
        assert!(low.len() > 2000, "{}", low.len());
        assert_eq!(high.len(), 128);
    }
}
