//! Fuzz targets: the readers of requests and of handles, for as long as `scripts/fuzz` says.
//!
//! Inputs are valid requests, changed. Which of them are changed further is not decided by coverage
//! (that would take another build of everything) but by answers: an input that is answered as none
//! before is kept. All follows from a seed, which is drawn anew each time and printed.
//!
//! `FLOTILLA_FUZZ_SECONDS`: how long each target runs; without it, for a few inputs from a seed that
//! is always the same. `FLOTILLA_FUZZ_SEED`: that seed. `FLOTILLA_FUZZ_INPUT`: this file's bytes only.

#![expect(clippy::print_stderr, reason = "seeds and failures are for whoever runs the test")]

use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_cluster::api::Receipt;
use flotilla_types::ids::{GroupId, QueueId, Seq, TaskId};
use parking_lot::Mutex;
use serde::Deserialize;

use self::mutate::{Rng, damage};
use self::seeds::Seed;
use crate::action::ActionName;
use crate::actions::{self as a, batch, task_handle};
use crate::error::ApiError;
use crate::query::Form;
use crate::receipt::Sealer;
use crate::{json, query};

#[path = "../tests/api/fuzz/mutate.rs"]
mod mutate;
#[path = "../tests/api/fuzz/seeds.rs"]
mod seeds;
#[path = "../tests/api/fuzz/words.rs"]
#[expect(dead_code, reason = "some of it is for tests over HTTP")]
mod words;

/// Inputs of each target when no time is given.
const CASES: u64 = 1_000;
const SEED: u64 = 1;
/// Inputs that are kept to be changed further.
const KEPT_MAX: usize = 4_096;
const INPUT_BYTES_MAX: usize = 100_000;
/// A longer request is not read as one of every action.
const LONG_BYTES: usize = 2_000;
/// An error repeats some of what it refuses, but stays small.
const ERROR_BYTES_MAX: usize = 16 * 1_024;
/// An input that takes longer never ends.
const INPUT_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a failed input that are shown; all are in a file.
const SHOWN_BYTES_MAX: usize = 1_024;

/// Something that reads bytes from outside.
struct Target<D, R> {
    name: &'static str,
    /// Valid inputs.
    valid: Vec<Vec<u8>>,
    /// A new input, made with a knowledge of its structure.
    draw: D,
    /// Reads an input and says what came of it: what is different is worth going on with. Panics
    /// when something is wrong.
    read: R,
}

/// The input that is being read, and since when.
type Current = Arc<Mutex<Option<(Vec<u8>, Instant)>>>;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(format!("FLOTILLA_FUZZ_{name}")).ok()?;
    Some(text.parse().expect("a whole number"))
}

impl<D: Fn(&mut Rng) -> Vec<u8>, R: Fn(&[u8]) -> String> Target<D, R> {
    fn run(&self) {
        if let Some(path) = std::env::var_os("FLOTILLA_FUZZ_INPUT") {
            let input = std::fs::read(path).expect("the file can be read");
            eprintln!("{}: {}", self.name, (self.read)(&input));
            return;
        }
        let seconds = setting("SECONDS");
        let drawn = || if seconds.is_some() { rand::random() } else { SEED };
        let seed = setting("SEED").unwrap_or_else(drawn);
        if let Some(seconds) = seconds {
            eprintln!("fuzzing {} for {seconds} s from seed {seed}", self.name);
        }
        let current = Current::default();
        let watched = std::thread::spawn({
            let (name, current) = (self.name, Arc::downgrade(&current));
            move || {
                while let Some(current) = current.upgrade() {
                    if let Some((input, since)) = &*current.lock()
                        && since.elapsed() > INPUT_TIMEOUT
                    {
                        report(name, seed, input, "it does not come to an end");
                        std::process::exit(1);
                    }
                    drop(current);
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        let (cases, kept) = self.read_many(seed, seconds, &current);
        if seconds.is_some() {
            eprintln!("{}: {cases} inputs, {kept} kept", self.name);
        }
        drop(current);
        watched.join().expect("the watch does not panic");
    }

    fn read_many(&self, seed: u64, seconds: Option<u64>, current: &Current) -> (u64, usize) {
        let mut rng = Rng::new(seed);
        let (begin, mut cases) = (Instant::now(), 0);
        let mut kept = self.valid.clone();
        let mut seen = HashSet::new();
        let hash = BuildHasherDefault::<DefaultHasher>::default();
        let goes_on = |cases| match seconds {
            Some(seconds) => begin.elapsed().as_secs() < seconds,
            None => cases < CASES,
        };
        while goes_on(cases) {
            let mut input = match rng.below(4) {
                0 => (self.draw)(&mut rng),
                _ => rng.pick(&kept).clone(),
            };
            let other = rng.pick(&kept).clone();
            for _ in 0..rng.below(4) {
                damage(&mut rng, &mut input, &other);
            }
            input.truncate(INPUT_BYTES_MAX);
            *current.lock() = Some((input.clone(), Instant::now()));
            let outcome = catch_unwind(AssertUnwindSafe(|| (self.read)(&input)));
            *current.lock() = None;
            let answer = outcome.unwrap_or_else(|_| {
                report(self.name, seed, &input, &format!("case {cases} panics"));
                panic!("{}: see above", self.name);
            });
            if seen.insert(hash.hash_one(&answer)) && kept.len() < KEPT_MAX {
                kept.push(input);
            }
            cases += 1;
        }
        (cases, kept.len())
    }
}

fn report(name: &str, seed: u64, input: &[u8], what: &str) {
    let path: PathBuf =
        std::env::temp_dir().join(format!("flotilla-fuzz-{name}-{}", std::process::id()));
    let kept = std::fs::write(&path, input);
    let shown = input[..input.len().min(SHOWN_BYTES_MAX)].escape_ascii();
    eprintln!("{name}, seed {seed}: {what}: {} bytes: {shown}", input.len());
    match kept {
        Ok(()) => eprintln!("to repeat it: scripts/fuzz --input {} {name}", path.display()),
        Err(error) => eprintln!("{} cannot be written: {error}", path.display()),
    }
    eprintln!("to repeat all: scripts/fuzz --seed {seed} {name}");
}

fn requests() -> Vec<Seed> {
    let handle = Sealer::new(&[7; 32]).seal(&receipt(3));
    seeds::all(&handle, &handle)
}

/// What became of a request, without what the caller wrote.
fn answer<T>(read: Result<T, ApiError>) -> String {
    match read {
        Ok(_) => "read".to_owned(),
        Err(error) => {
            assert!(error.message.len() <= ERROR_BYTES_MAX, "{} bytes", error.message.len());
            format!("{:?}: {:.60}", error.kind, error.message)
        }
    }
}

/// A reader of requests of every type.
trait Reader<'a>: Copy {
    fn read<T: Deserialize<'a>>(self) -> Result<T, ApiError>;
}

#[derive(Clone, Copy)]
struct Json<'a>(&'a [u8]);

impl<'a> Reader<'a> for Json<'a> {
    fn read<T: Deserialize<'a>>(self) -> Result<T, ApiError> {
        json::decode(self.0)
    }
}

#[derive(Clone, Copy)]
struct Parameters<'a>(&'a Form<'a>);

impl<'a> Reader<'a> for Parameters<'a> {
    fn read<T: Deserialize<'a>>(self) -> Result<T, ApiError> {
        query::decode(self.0)
    }
}

/// Reads a request as one of this action.
fn read_as<'a>(action: ActionName, from: impl Reader<'a>) -> String {
    use ActionName as N;
    macro_rules! of {
        ($action:ident) => {
            answer(from.read::<a::$action::Request<'_>>())
        };
    }
    match action {
        N::SendMessage => of!(send_message),
        N::ReceiveMessage => of!(receive_message),
        N::DeleteMessage => of!(delete_message),
        N::SendMessageBatch => {
            answer(from.read::<batch::Request<'_, a::send_message_batch::Entry<'_>>>())
        }
        N::DeleteMessageBatch => {
            answer(from.read::<batch::Request<'_, a::delete_message_batch::Entry<'_>>>())
        }
        N::ChangeMessageVisibility => of!(change_message_visibility),
        N::ChangeMessageVisibilityBatch => {
            answer(from.read::<batch::Request<'_, a::change_message_visibility_batch::Entry<'_>>>())
        }
        N::CreateQueue => of!(create_queue),
        N::GetQueueUrl => of!(get_queue_url),
        N::ListQueues => of!(list_queues),
        N::DeleteQueue => of!(delete_queue),
        N::GetQueueAttributes => of!(get_queue_attributes),
        N::SetQueueAttributes => of!(set_queue_attributes),
        N::PurgeQueue => of!(purge_queue),
        N::ListDeadLetterSourceQueues => of!(list_dead_letter_source_queues),
        N::TagQueue => of!(tag_queue),
        N::UntagQueue => of!(untag_queue),
        N::ListQueueTags => of!(list_queue_tags),
        N::AddPermission => of!(add_permission),
        N::RemovePermission => of!(remove_permission),
        N::StartMessageMoveTask => of!(start_message_move_task),
        N::CancelMessageMoveTask => of!(cancel_message_move_task),
        N::ListMessageMoveTasks => of!(list_message_move_tasks),
    }
}

/// Reads a request as one of each action; a long one only as some, another some for each length.
fn read_as_all<'a>(from: impl Reader<'a>, bytes: usize) -> String {
    let (first, step) = if bytes < LONG_BYTES { (0, 1) } else { (bytes % 6, 6) };
    let actions = ActionName::ALL.iter().skip(first).step_by(step);
    actions.map(|action| read_as(*action, from)).collect()
}

#[test]
fn json_requests() {
    let valid = requests().iter().map(|seed| seed.body.to_string().into_bytes()).collect();
    let seeds = requests();
    let draw = move |rng: &mut Rng| {
        let (seed, other) = (rng.pick(&seeds), rng.pick(&seeds));
        mutate::json_body(rng, seed, other)
    };
    let read = |input: &[u8]| read_as_all(Json(input), input.len());
    Target { name: "json", valid, draw, read }.run();
}

#[test]
fn query_requests() {
    let encoded = |seed: &Seed| {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(seed.parameters()).finish().into_bytes()
    };
    let valid = requests().iter().map(encoded).collect();
    let seeds = requests();
    let draw = move |rng: &mut Rng| {
        let (seed, other) = (rng.pick(&seeds), rng.pick(&seeds));
        mutate::form(rng, seed, other)
    };
    let read_form = |form: Result<Form<'_>, ApiError>, bytes| match form {
        Ok(form) => read_as_all(Parameters(&form), bytes),
        Err(error) => answer::<()>(Err(error)),
    };
    let read = move |input: &[u8]| {
        let in_body = read_form(Form::read("", input), input.len());
        // The same in a query string, where it can be one.
        if let Ok(query) = std::str::from_utf8(input) {
            assert_eq!(read_form(Form::read(query, b""), input.len()), in_body);
        }
        in_body
    };
    Target { name: "query", valid, draw, read }.run();
}

fn receipt(number: u64) -> Receipt {
    let (queue, shard) = (QueueId(number ^ 5), GroupId(number as u32));
    Receipt { queue, shard, seq: Seq(number << 7), receive: number as u32 % 9 }
}

#[test]
fn handles() {
    let arn = "arn:aws:sqs:us-east-1:000000000000:dead";
    let sealed = move |number: u64| {
        [Sealer::new(&[7; 32]).seal(&receipt(number)), task_handle::seal(TaskId([9; 16]), arn)]
    };
    let valid = (0..8).flat_map(sealed).map(String::into_bytes).collect();
    let draw = move |rng: &mut Rng| {
        let number = rng.below(1 << 20) as u64;
        sealed(number)[rng.below(2)].clone().into_bytes()
    };
    let sealer = Sealer::new(&[7; 32]);
    let read = move |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        let of_message = sealer.open(text);
        if let Ok(receipt) = of_message {
            assert_eq!(sealer.seal(&receipt), text, "another text for the same receipt");
        }
        let of_task = task_handle::open(text);
        if let Some((task, arn)) = &of_task {
            assert_eq!(task_handle::open(&task_handle::seal(*task, arn)), of_task);
        }
        let length = of_task.as_ref().map(|(_, arn)| arn.len().min(99));
        format!("{} {length:?} {}", of_message.is_ok(), text.len().min(99))
    };
    Target { name: "handles", valid, draw, read }.run();
}
