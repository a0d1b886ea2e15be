//! Requests that are nearly valid, and their distant relatives: every one gets an answer that its
//! protocol has, none a 5xx, none keeps its caller waiting.
//!
//! `FLOTILLA_FUZZ_SEED` and `FLOTILLA_FUZZ_CASES` choose other requests, and more of them;
//! `FLOTILLA_FUZZ_SECONDS` draws a seed, prints it, and goes on for so long.

#![expect(clippy::print_stderr, reason = "the seed is for whoever runs the test")]

mod answer;
mod corpus;
mod large;
mod mutate;
mod requests;
pub(crate) mod seeds;
mod words;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use corpus::{Request, World};
use mutate::Rng;

use crate::client::{Answer, Connection};
use answer::Verdict;

const SEED: u64 = 1;
const CASES: u64 = 8_000;
/// How many requests meet the leavings of those before.
const CASES_PER_WORLD: u64 = 500;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a failed request that are shown.
const SHOWN_BYTES_MAX: usize = 4_096;

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(format!("FLOTILLA_FUZZ_{name}")).ok()?;
    Some(text.parse().expect("a whole number"))
}

/// Several threads: on a single one, a request that never ends would also stop the clock.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    format!("{} bytes: {}", bytes.len(), start.escape_ascii())
}

/// One request and its answer; the connection only if it can be used again.
async fn exchange(
    world: &World,
    connection: Option<Connection>,
    bytes: Vec<u8>,
) -> Result<(Connection, Answer), String> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => Connection::open(&world.server.address).await,
    };
    // A task, so that the end of the connection is told with the request that was its cause.
    let answered = tokio::spawn(async move {
        connection.write(&bytes).await;
        let answer = connection.read().await;
        (connection, answer)
    });
    match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
        Ok(Ok(answered)) => Ok(answered),
        Ok(Err(error)) => Err(format!("no answer: {error}")),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn open_world() -> World {
    let world = World::new().await;
    let fake = world.server.fake.clone();
    // Long polls end.
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if fake.receiving.load(Ordering::SeqCst) > 0 {
                fake.advance(20);
            }
        }
    });
    world
}

/// # Errors
/// The first request whose answer is none.
async fn fuzz(seed: u64, goes_on: impl Fn(u64) -> bool) -> Result<[u64; 3], String> {
    let mut verdicts = [0; 3];
    let mut world = open_world().await;
    let mut connection = None;
    for case in (0..).take_while(|case| goes_on(*case)) {
        if case > 0 && case % CASES_PER_WORLD == 0 {
            world = open_world().await;
            connection = None;
        }
        world.server.fake.advance(61);
        let mut rng = Rng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ case << 32);
        let request = requests::request(&mut rng, &world);
        let bytes = world.wire(&request);
        let report = |why: String| format!("seed {seed}, case {case}: {why}\n{}", shown(&bytes));
        let exchanged = exchange(&world, connection.take(), bytes.clone()).await;
        let (open, answer) = exchanged.map_err(report)?;
        let checked = answer::check(&request, &answer);
        let verdict = checked.map_err(|why| {
            let body = answer.body.as_bytes();
            report(format!("{why}: {} {:?} {}", answer.status, answer.headers, shown(body)))
        })?;
        verdicts[verdict as usize] += 1;
        connection = (!answer::ends_connection(&answer)).then_some(open);
    }
    Ok(verdicts)
}

#[test]
fn mutated_requests_are_answered() {
    let seconds = from_env("SECONDS");
    let drawn = || if seconds.is_some() { rand::random() } else { SEED };
    let seed = from_env("SEED").unwrap_or_else(drawn);
    let (begin, cases) = (Instant::now(), from_env("CASES").unwrap_or(CASES));
    let runtime = runtime();
    let outcome = runtime.block_on(async {
        match seconds {
            Some(seconds) => {
                eprintln!("fuzzing requests for {seconds} s from seed {seed}");
                fuzz(seed, |_| begin.elapsed().as_secs() < seconds).await
            }
            None => fuzz(seed, |case| case < cases).await,
        }
    });
    // A request that never ends would keep the runtime from ending, too.
    runtime.shutdown_background();
    let [done, refused, not_http] = outcome.unwrap_or_else(|why| panic!("{why}"));
    // Were nearly all refused, or nearly none, little would have been tested.
    let cases = done + refused + not_http;
    let enough = |count: u64| count * 10 >= cases || cases < 1_000;
    assert!(enough(done) && enough(refused), "{done} {refused} {not_http}");
}

#[test]
fn seeds_are_valid_in_both_protocols() {
    let runtime = runtime();
    let of_json = |seed: &seeds::Seed| Request::json(seed.action, seed.body.to_string().into());
    let encoded = |seed: &seeds::Seed| {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(seed.parameters()).finish().into_bytes()
    };
    let ways: [&dyn Fn(&seeds::Seed) -> Request; 3] =
        [&of_json, &|seed| Request::form(encoded(seed)), &|seed| Request::get(&encoded(seed))];
    for way in ways {
        runtime.block_on(async {
            let world = open_world().await;
            let mut actions = BTreeSet::new();
            for seed in &world.seeds {
                let request = way(seed);
                let answer = world.server.raw(&world.wire(&request)).await;
                assert_eq!(answer.status, 200, "{}: {answer:?}", seed.action);
                assert_eq!(answer::check(&request, &answer), Ok(Verdict::Done), "{answer:?}");
                assert!(!answer.body.contains("Failed") && !answer.body.contains("ErrorEntry"));
                actions.insert(seed.action);
            }
            assert_eq!(actions.len(), 23);
        });
    }
}
