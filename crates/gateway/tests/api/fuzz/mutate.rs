//! Bodies of valid requests made into others: all that a seed says, and nothing else, decides how.

use serde_json::{Value, json};

use super::seeds::Seed;
use super::words::{BYTES, DEPTH, MEMBERS, NUMBERS, RAWS, TEXTS, raw};

/// A generator whose numbers no library changes (SplitMix64).
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, or 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Stands for raw bytes that a JSON writer would not write: number `n` of [`raw`].
fn marker(n: usize) -> String {
    format!("@raw{n}@")
}

/// Breaks bytes, whatever they mean.
pub(super) fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.below(bytes.len());
    let end = at + rng.below((bytes.len() - at).min(64) + 1);
    match rng.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
        1 if !bytes.is_empty() => bytes[at] = rng.below(256) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let part = bytes[at..end].repeat(1 + rng.below(50));
            drop(bytes.splice(at..at, part));
        }
        5 => {
            bytes.truncate(at);
            bytes.extend(&other[rng.below(other.len())..]);
        }
        _ => drop(bytes.splice(at..at, rng.pick(BYTES).iter().copied())),
    }
}

pub(super) fn json_body(rng: &mut Rng, seed: &Seed, other: &Seed) -> Vec<u8> {
    let mut body = seed.body.clone();
    for _ in 0..rng.below(4) {
        // Nodes are few: a number beyond them is drawn again as one of them.
        let count = count(&body);
        let donor = nth(&mut other.body.clone(), &mut rng.below(12)).map(|node| node.take());
        if let Some(node) = nth(&mut body, &mut rng.below(count)) {
            change_node(rng, node, donor);
        }
    }
    let mut text = body.to_string();
    if rng.one_in(6) {
        let key = rng.pick(MEMBERS);
        let key = seed.body.as_object().and_then(|body| body.keys().next()).map_or(*key, |k| k);
        let places: Vec<_> = text.match_indices('{').map(|(at, _)| at + 1).collect();
        if !places.is_empty() {
            let pair = format!("\"{key}\":{},", leaf(rng));
            text.insert_str(*rng.pick(&places), &pair);
        }
    }
    for n in 0..RAWS {
        let marker = format!("\"{}\"", marker(n));
        if text.contains(&marker) {
            text = text.replace(&marker, &raw(n));
        }
    }
    text.into_bytes()
}

fn change_node(rng: &mut Rng, node: &mut Value, donor: Option<Value>) {
    match (rng.below(8), &mut *node) {
        (0, Value::Object(members)) if !members.is_empty() => {
            let keys: Vec<_> = members.keys().cloned().collect();
            members.remove(rng.pick(&keys));
        }
        (1, Value::Object(members)) if !members.is_empty() => {
            let keys: Vec<_> = members.keys().cloned().collect();
            if let Some(value) = members.remove(rng.pick(&keys)) {
                members.insert(text(rng, MEMBERS), value);
            }
        }
        (2, Value::Object(members)) => drop(members.insert(text(rng, MEMBERS), leaf(rng))),
        (0..3, Value::Array(items)) => {
            let once = items.clone();
            for _ in 0..rng.below(300) {
                items.extend(once.iter().take(2).cloned());
            }
        }
        (0..3, Value::String(string)) => {
            let extra = rng.pick(TEXTS);
            string.push_str(&extra.repeat(1 + rng.below(400)));
        }
        (0..3, Value::Number(_)) => *node = number(rng),
        (3, _) => *node = donor.unwrap_or(Value::Null),
        (4, _) => *node = json!([node.take()]),
        (5, _) => *node = json!({ text(rng, MEMBERS): node.take() }),
        _ => *node = leaf(rng),
    }
}

fn leaf(rng: &mut Rng) -> Value {
    match rng.below(8) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => number(rng),
        3 => json!([]),
        4 => json!({}),
        5 => marker(rng.below(RAWS)).into(),
        _ => text(rng, TEXTS).into(),
    }
}

fn number(rng: &mut Rng) -> Value {
    match rng.below(6) {
        0 => json!(i64::MIN),
        1 => json!(u64::MAX),
        2 => json!(1e300),
        3 => json!(-0.5),
        4 => json!(rng.below(50_000)),
        _ => json!(-(rng.below(10) as i64)),
    }
}

/// Mostly one of these, sometimes one of the others, rarely a long one.
fn text(rng: &mut Rng, usual: &[&str]) -> String {
    match rng.below(12) {
        0 => (*rng.pick(TEXTS)).to_owned(),
        1 => rng.pick(TEXTS).repeat(1 + rng.below(2_000)),
        _ => (*rng.pick(usual)).to_owned(),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// A node in the order of its text.
fn nth<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, at)),
        Value::Object(members) => members.values_mut().find_map(|member| nth(member, at)),
        _ => None,
    }
}

pub(super) fn form(rng: &mut Rng, seed: &Seed, other: &Seed) -> Vec<u8> {
    let mut pairs = seed.parameters();
    for _ in 0..rng.below(4) {
        change_pairs(rng, &mut pairs, &other.parameters());
    }
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into_bytes()
}

fn change_pairs(rng: &mut Rng, pairs: &mut Vec<(String, String)>, other: &[(String, String)]) {
    if pairs.is_empty() {
        pairs.extend_from_slice(other);
    }
    let at = rng.below(pairs.len());
    let (name, value) = &mut pairs[at];
    match rng.below(14) {
        0 => drop(pairs.remove(at)),
        1 => {
            let pair = pairs[at].clone();
            pairs.extend(std::iter::repeat_n(pair, 1 + rng.below(20)));
        }
        2 => pairs.push(rng.pick(other).clone()),
        3 => *name = text(rng, MEMBERS),
        4 => name.push_str(&".1".repeat(1 + rng.below(9))),
        5 => name.push_str(&".x".repeat(DEPTH)),
        6 => *name = name.rsplit_once('.').map_or("", |(start, _)| start).to_owned(),
        7 => {
            let (start, count) = (name.split('.').next().unwrap_or_default().to_owned(), 6_000);
            let value = value.clone();
            let flood = (0..rng.below(count)).map(|n| (format!("{start}.{n}"), value.clone()));
            pairs.extend(flood);
        }
        8..11 => {
            let mut parts: Vec<_> = name.split('.').collect();
            let part = rng.below(parts.len() + 1).max(1);
            if part < parts.len() && !rng.one_in(4) {
                parts[part] = *rng.pick(NUMBERS);
            } else {
                parts.insert(part, *rng.pick(NUMBERS));
            }
            *name = parts.join(".");
        }
        11 => value.push_str(&rng.pick(TEXTS).repeat(1 + rng.below(400))),
        _ => *value = text(rng, TEXTS),
    }
}
