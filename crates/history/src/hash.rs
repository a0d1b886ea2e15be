//! Names in memory: 128 bits stand for an id, a handle or any other text. Two of ten million texts
//! that agree by chance are less likely than a fault of the memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const SEEDS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f];

/// 0 stands for no text.
pub(crate) type Id = u128;

/// Stands for a text.
pub(crate) fn id(text: &str) -> Id {
    let bytes = text.as_bytes();
    let mut halves = [SEEDS[0] ^ bytes.len() as u64, SEEDS[1]];
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        halves[0] = folded(halves[0] ^ word, SEEDS[1]);
        halves[1] = folded(halves[1].rotate_left(23) ^ word, SEEDS[0] ^ halves[0]);
    }
    (u128::from(halves[0]) << 64 | u128::from(halves[1])) | 1
}

fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// For keys that are as good as random already, or small numbers.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u128(&mut self, value: u128) {
        self.write_u64((value >> 64) as u64 ^ value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = folded(self.0.rotate_left(5) ^ value ^ SEEDS[0], SEEDS[1]);
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
}

pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_a_little_do_not_meet() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..100_000 {
            assert!(seen.insert(id(&format!("AQEBAgAAAAAAAAAB{number:016}"))));
            assert!(seen.insert(id(&number.to_string())));
        }
        assert_ne!(id("a"), id("a\0"));
        assert_ne!(id(""), 0);
    }
}
