//! Valid requests made into others: all that a seed says, and nothing else, decides how.

use super::corpus::{Request, World};
use super::mutate::{Rng, damage, form, json_body};
use super::words::{ACTIONS, CONTENT_TYPES, FORM, TARGETS};

/// A longer target is no HTTP, and other tests know that.
const TARGET_BYTES_MAX: usize = 60_000;
/// Larger bodies take time, and are in a test of their own.
const BODY_BYTES_MAX: usize = 300_000;

/// A request that is some mutations away from a seed; from none to many.
pub(super) fn request(rng: &mut Rng, world: &World) -> Request {
    let (seed, other) = (world.seed(rng), world.seed(rng));
    let mut request = match rng.below(5) {
        0 => Request::get(&form(rng, seed, other)),
        1 => Request::form(form(rng, seed, other)),
        _ => Request::json(seed.action, json_body(rng, seed, other)),
    };
    if rng.one_in(3) {
        let other = other.body.to_string().into_bytes();
        for _ in 0..=rng.below(3) {
            match request.method {
                "GET" => damage(rng, &mut request.target, &other),
                _ => damage(rng, &mut request.body, &other),
            }
        }
    }
    if rng.one_in(8) {
        change_head(rng, &mut request);
    }
    request.target.truncate(TARGET_BYTES_MAX);
    request.body.truncate(BODY_BYTES_MAX);
    for byte in &mut request.target {
        *byte = if *byte <= b' ' || *byte == 0x7f { b'_' } else { *byte };
    }
    for byte in request.content_type.iter_mut().chain(&mut request.action) {
        *byte = if *byte < b' ' || *byte == 0x7f { b'_' } else { *byte };
    }
    request
}

fn change_head(rng: &mut Rng, request: &mut Request) {
    match rng.below(6) {
        0 => request.content_type = (*rng.pick(CONTENT_TYPES)).into(),
        1 => request.action = (*rng.pick(ACTIONS)).into(),
        2 => request.target = (*rng.pick(TARGETS)).into(),
        3 => damage(rng, &mut request.action, b"AmazonSQS.ListQueues"),
        4 => damage(rng, &mut request.content_type, FORM.as_bytes()),
        _ => request.method = *rng.pick(&["POST", "GET", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    }
}
