//! Whether calls on one small object have an order that explains their answers: a search over all of
//! them, which is exponential in the worst case and bounded here.

use std::collections::HashSet;
use std::hash::Hash;

/// Configurations that are looked at before the search gives up.
const STEPS_MAX: usize = 200_000;
/// Calls of one object.
const CALLS_MAX: usize = 4_096;

/// A call on the object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) inv: u64,
    pub(crate) ret: u64,
    /// It may have had no effect.
    pub(crate) optional: bool,
}

/// Whether there is such an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linear {
    Yes,
    No,
    /// There are too many to look at.
    Unknown,
}

/// Searches depth first, remembering which sets of calls, done in whatever order, have led to which
/// state. `step` is the state after a call (by its place), `None` where its answer contradicts the
/// state.
pub(crate) fn linearize<S: Clone + Eq + Hash>(
    calls: &[Call],
    initial: S,
    step: impl Fn(&S, usize) -> Option<S>,
) -> Linear {
    if calls.len() > CALLS_MAX {
        return Linear::Unknown;
    }
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|call| calls[*call].inv);
    let words = calls.len().div_ceil(64);
    let mut seen: HashSet<(Vec<u64>, S)> = HashSet::new();
    let mut stack = vec![(vec![0u64; words], initial)];
    while let Some((done, state)) = stack.pop() {
        let is_done = |call: usize| done[call / 64] >> (call % 64) & 1 == 1;
        let open = order.iter().filter(|call| !is_done(**call));
        // What some open call certainly came before must wait for it.
        let certain = open.clone().filter(|call| !calls[**call].optional);
        let Some(first_end) = certain.map(|call| calls[*call].ret).min() else {
            return Linear::Yes;
        };
        for &call in open.take_while(|call| calls[**call].inv <= first_end) {
            let Some(next) = step(&state, call) else { continue };
            let mut done = done.clone();
            done[call / 64] |= 1 << (call % 64);
            if seen.len() >= STEPS_MAX {
                return Linear::Unknown;
            }
            if seen.insert((done.clone(), next.clone())) {
                stack.push((done, next));
            }
        }
    }
    Linear::No
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes of a value, or reads that saw one.
    type Access = (u64, u64, bool, u32);

    fn of_register(accesses: &[Access]) -> Linear {
        let call = |it: &Access| Call { inv: it.0, ret: it.1, optional: it.1 == u64::MAX };
        let calls: Vec<Call> = accesses.iter().map(call).collect();
        linearize(&calls, 0, |state, call| {
            let (_, _, writes, value) = accesses[call];
            (writes || value == *state).then_some(value)
        })
    }

    #[test]
    fn a_register_is_judged_by_what_can_have_been_last() {
        let (write, read) = (true, false);
        assert_eq!(of_register(&[(0, 1, write, 5), (2, 3, read, 5)]), Linear::Yes);
        assert_eq!(of_register(&[(0, 1, write, 5), (2, 3, read, 0)]), Linear::No);
        assert_eq!(of_register(&[(0, 9, write, 5), (2, 3, read, 0), (4, 5, read, 5)]), Linear::Yes);
        assert_eq!(of_register(&[(0, 9, write, 5), (2, 3, read, 5), (4, 5, read, 0)]), Linear::No);
        let never = u64::MAX;
        assert_eq!(of_register(&[(0, never, write, 5), (20, 30, read, 0)]), Linear::Yes);
        assert_eq!(of_register(&[(0, never, write, 5), (20, 30, read, 5)]), Linear::Yes);
        let back = [(0, never, write, 5), (20, 30, read, 5), (40, 50, read, 0)];
        assert_eq!(of_register(&back), Linear::No);
    }

    #[test]
    fn long_histories_of_one_client_are_quick() {
        let accesses: Vec<Access> = (0..4_000u32)
            .map(|n| (u64::from(n) * 2, u64::from(n) * 2 + 1, n % 2 == 0, n / 2))
            .collect();
        assert_eq!(of_register(&accesses), Linear::Yes);
    }
}
