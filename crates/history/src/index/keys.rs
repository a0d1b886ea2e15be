//! Numbers of message keys.

use crate::content::MessageKey;
use crate::hash::IdMap;
use crate::index::NONE;

/// A writer's next counter may be this far ahead of all before and still be looked up by place.
const GAP_MAX: usize = 1 << 16;

/// Counters of one writer mostly follow each other: their numbers lie in a table, those of the few
/// others in a map.
#[derive(Default)]
pub(crate) struct KeyNumbers {
    writers: IdMap<u32, u32>,
    tables: Vec<Vec<u32>>,
    others: IdMap<u64, u32>,
}

impl KeyNumbers {
    /// The number of a key: `next` when it has none yet.
    pub(crate) fn number(&mut self, key: MessageKey, next: u32) -> u32 {
        let tables = self.tables.len() as u32;
        let table = *self.writers.entry(key.writer).or_insert(tables);
        if table == tables {
            self.tables.push(Vec::new());
        }
        let (table, place) = (&mut self.tables[table as usize], key.counter as usize);
        if place >= table.len() + GAP_MAX {
            return *self.others.entry(key.packed()).or_insert(next);
        }
        if place >= table.len() {
            // What was far ahead once is near now, and stays where it is.
            if let Some(number) = self.others.get(&key.packed()) {
                return *number;
            }
            table.resize(place + 1, NONE);
        }
        if table[place] == NONE {
            table[place] = self.others.get(&key.packed()).copied().unwrap_or(next);
        }
        table[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_number_whatever_came_before() {
        let mut numbers = KeyNumbers::default();
        let far = GAP_MAX as u32 + 10;
        let counters = [0, 5, far, 3, 20, far, 5, far + 1, u32::MAX, 0, far, u32::MAX];
        let mut seen = std::collections::BTreeMap::new();
        for writer in [1, 9] {
            for counter in counters {
                let next = seen.len() as u32;
                let number = numbers.number(MessageKey { writer, counter }, next);
                assert_eq!(number, *seen.entry((writer, counter)).or_insert(next));
            }
        }
    }
}
