//! The decoupling example under load, while its endpoint, its workers and the queue's nodes are killed: at any
//! moment, and at those between two steps of which one is done.

#![allow(clippy::print_stderr, reason = "what was killed is worth reading")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flotilla_tests::{Connection, Fleet, PATIENCE, binary, free_ports};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::sleep;

const CUSTOMERS: usize = 4;
const WORKERS: usize = 2;
const KILLS: usize = 7;
/// Between a kill and the next; long enough for work to go on.
const REST: Duration = Duration::from_millis(900);
/// One of so many is for a product that nobody knows.
const POISON_EVERY: usize = 25;
/// A message is hidden for this long if its worker is killed.
const VISIBILITY_TIMEOUT_S: u32 = 4;
/// A process crashes at one of the first so many times that it comes to a moment.
const CRASH_WITHIN: u32 = 5;
/// Longer than a message is hidden: what a crash leads to is there by then.
const TRACE: Duration = Duration::from_secs(15);
/// Times that a crash is tried until its trace is there: what was sent twice may be for an unknown product, and
/// is never booked.
const CRASHES: usize = 5;
const PAID_AGAIN: &str = "a payment came once more";
const SENT_AGAIN: &str = "a sale came once more, and is booked already times=1";
const CAME_AGAIN: &str = "a sale came once more, and is booked already times=2";
/// Counts that do not become right by then never do.
const SETTLED: Duration = Duration::from_secs(120);

/// The example's processes.
struct Example {
    program: PathBuf,
    /// The same, and it can be told to crash.
    crashing: PathBuf,
    endpoints: String,
    data: PathBuf,
    port: u16,
    listen: String,
    endpoint: Option<Child>,
    workers: Vec<Option<Child>>,
}

impl Example {
    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&self.program, arguments)
    }

    fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--endpoints").arg(&self.endpoints).arg("--data").arg(&self.data);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// One that ends by itself, and what it says.
    async fn run(&self, arguments: &[&str]) -> String {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {log}");
        eprint!("{log}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn spawn(&self, mut command: Command) -> Child {
        let log = File::options().create(true).append(true).open(self.data.join("log.txt"));
        command.stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap()
    }

    /// One that crashes at this moment.
    fn spawn_crashing(&self, moment: &str, arguments: &[&str]) -> Child {
        let mut command = self.command_of(&self.crashing, arguments);
        command.env("DECOUPLING_CRASH", moment);
        self.spawn(command)
    }

    fn start(&mut self) {
        if self.endpoint.is_none() {
            self.endpoint = Some(self.spawn(self.command(&self.endpoint_line())));
        }
        for index in 0..self.workers.len() {
            if self.workers[index].is_none() {
                self.workers[index] = Some(self.spawn(self.command(&WORKER_LINE)));
            }
        }
    }

    fn endpoint_line(&self) -> [&str; 3] {
        ["endpoint", "--listen", &self.listen]
    }

    async fn report(&self) -> BTreeMap<String, i64> {
        let text = self.run(&["report"]).await;
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    async fn status(&self, id: &str) -> String {
        let mut connection = Connection::new(self.listen.clone());
        let answer = connection.get(&format!("/requests/{id}")).await.unwrap();
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        answer["status"].as_str().unwrap().to_owned()
    }

    /// Waits until what is reported is as it should be.
    async fn until(&self, what: &str, holds: impl Fn(&BTreeMap<String, i64>) -> bool) {
        let begin = Instant::now();
        loop {
            let report = self.report().await;
            if holds(&report) {
                return;
            }
            assert!(begin.elapsed() < SETTLED, "{what}: {report:?}\n{}", self.log());
            sleep(Duration::from_millis(300)).await;
        }
    }

    fn log(&self) -> String {
        let log = self.whole_log();
        log.lines().rev().take(40).collect::<Vec<_>>().join("\n")
    }

    fn whole_log(&self) -> String {
        std::fs::read_to_string(self.data.join("log.txt")).unwrap_or_default()
    }

    /// Whether this comes to be said more often than so many times.
    async fn says_again(&self, words: &str, before: usize) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < TRACE {
            if self.whole_log().matches(words).count() > before {
                return true;
            }
            sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

const WORKER_LINE: [&str; 3] = ["worker", "--retry-s", "1"];

/// Until it has crashed by itself: then it came to the moment.
async fn crashed(mut child: Child, moment: &str) {
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            kill9(&mut Some(child));
            panic!("nobody comes to {moment}");
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.signal(), Some(6), "{moment}: {status}");
    eprintln!("crashed at {moment}");
}

fn kill9(child: &mut Option<Child>) {
    let mut child = child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

impl Drop for Example {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain([&mut self.endpoint]) {
            if child.is_some() {
                kill9(child);
            }
        }
    }
}

/// What one customer paid: the ids of the requests, and the cents.
#[derive(Default)]
struct Paid {
    requests: Vec<String>,
    cents: i64,
    poison: i64,
    poison_cents: i64,
}

/// Pays until told to stop; each payment again and again until it is answered.
async fn customer(port: u16, number: usize, stop: Arc<AtomicBool>) -> Paid {
    let mut paid = Paid::default();
    let mut connection = Connection::new(format!("127.0.0.1:{port}"));
    for payment in 0.. {
        if stop.load(Ordering::Relaxed) {
            return paid;
        }
        let poison = payment % POISON_EVERY == POISON_EVERY - 1;
        let product = if poison { "travel" } else { ["home", "life", "motor"][payment % 3] };
        let cents = 100 + payment as i64;
        let body = json!({
            "customer": format!("customer {number}"), "product": product, "amount_cents": cents,
        });
        let head = format!(
            "POST /payments HTTP/1.1\r\ncontent-type: application/json\r\n\
             idempotency-key: {number}-{payment}"
        );
        let begin = Instant::now();
        let id = loop {
            let answer = connection.request(&head, &body.to_string(), PATIENCE).await;
            if let Ok(answer) = answer
                && answer.status == 202
            {
                let answer: Value = serde_json::from_str(&answer.body).unwrap();
                break answer["requestId"].as_str().unwrap().to_owned();
            }
            assert!(begin.elapsed() < PATIENCE, "a payment is not taken");
            sleep(Duration::from_millis(50)).await;
        };
        paid.requests.push(id);
        paid.cents += cents;
        paid.poison += i64::from(poison);
        paid.poison_cents += if poison { cents } else { 0 };
        sleep(Duration::from_millis(15)).await;
    }
    paid
}

/// Kills one after the other, in an order that chance decides; everything is killed at least once.
async fn kill(fleet: &mut Fleet, example: &mut Example, chance: &mut StdRng) {
    let nodes = fleet.ids();
    let first = chance.random_range(0..4);
    for round in 0..KILLS {
        sleep(REST).await;
        match (first + round) % 4 {
            0 => {
                eprintln!("kill the endpoint");
                kill9(&mut example.endpoint);
            }
            1 => {
                let worker = chance.random_range(0..WORKERS);
                eprintln!("kill worker {worker}");
                kill9(&mut example.workers[worker]);
            }
            2 => {
                let node = nodes[chance.random_range(0..nodes.len())];
                eprintln!("kill node {node}");
                fleet.kill9(node);
                sleep(REST).await;
                fleet.launch(node);
                fleet.ready().await;
            }
            _ => {
                eprintln!("kill all workers and the endpoint");
                example.workers.iter_mut().for_each(kill9);
                kill9(&mut example.endpoint);
            }
        }
        sleep(Duration::from_millis(100)).await;
        example.start();
    }
}

/// Lets each process crash at each of its moments, until what must follow from it is seen.
async fn crash(example: &mut Example, chance: &mut StdRng) {
    for (moment, trace) in [
        ("accepted", Some(PAID_AGAIN)),
        ("sent", Some(SENT_AGAIN)),
        ("received", None),
        ("booked", Some(CAME_AGAIN)),
    ] {
        let mut seen = false;
        for _ in 0..CRASHES {
            let before = trace.map_or(0, |words| example.whole_log().matches(words).count());
            let at = format!("{moment}@{}", chance.random_range(1..=CRASH_WITHIN));
            let child = if matches!(moment, "accepted" | "sent") {
                kill9(&mut example.endpoint);
                example.spawn_crashing(&at, &example.endpoint_line())
            } else {
                kill9(&mut example.workers[0]);
                example.spawn_crashing(&at, &WORKER_LINE)
            };
            crashed(child, &at).await;
            example.start();
            seen = match trace {
                Some(words) => example.says_again(words, before).await,
                None => true,
            };
            if seen {
                break;
            }
        }
        assert!(seen, "nothing follows from a crash at {moment}:\n{}", example.log());
    }
}

/// Crashes while what was put aside is moved back, begins again, and kills a node meanwhile.
async fn redrive(fleet: &mut Fleet, example: &Example, chance: &mut StdRng) {
    for moment in ["retried@1", "moving@1"] {
        crashed(example.spawn_crashing(moment, &["redrive"]), moment).await;
    }
    let nodes = fleet.ids();
    let node = nodes[chance.random_range(0..nodes.len())];
    let after = Duration::from_millis(chance.random_range(0..400));
    eprintln!("redrive, and kill node {node} after {after:?}");
    let begin = Instant::now();
    let killed = async {
        sleep(after).await;
        fleet.kill9(node);
    };
    let (said, ()) = tokio::join!(example.run(&["redrive"]), killed);
    eprintln!("{} in {:?}", said.trim(), begin.elapsed());
    fleet.launch(node);
    fleet.ready().await;
}

async fn start(fleet: &Fleet, data: &Path) -> Example {
    let program = binary().with_file_name("flotilla-decoupling");
    let crashing = binary().with_file_name("flotilla-decoupling-crash");
    for needed in [&program, &crashing] {
        assert!(needed.is_file(), "{} is missing: build flotilla-decoupling", needed.display());
    }
    let endpoints: Vec<String> =
        fleet.ids().into_iter().map(|id| format!("http://{}", fleet.endpoint(id))).collect();
    let port = free_ports(1)[0];
    let mut example = Example {
        program,
        crashing,
        endpoints: endpoints.join(","),
        data: data.to_owned(),
        port,
        listen: format!("127.0.0.1:{port}"),
        endpoint: None,
        workers: (0..WORKERS).map(|_| None).collect(),
    };
    let timeout = VISIBILITY_TIMEOUT_S.to_string();
    example.run(&["setup", "--visibility-timeout-s", &timeout, "--receives", "4"]).await;
    example.start();
    example
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_become_sales_exactly_once_whatever_is_killed() {
    let seed = std::env::var("DECOUPLING_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    eprintln!("DECOUPLING_SEED={seed} repeats what is chosen");
    let chance = &mut StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::start(3).await;
    let data = tempfile::tempdir().unwrap();
    let mut example = start(&fleet, data.path()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let customers: Vec<_> = (0..CUSTOMERS)
        .map(|number| tokio::spawn(customer(example.port, number, stop.clone())))
        .collect();
    kill(&mut fleet, &mut example, chance).await;
    crash(&mut example, chance).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Paid::default();
    for customer in customers {
        let paid = customer.await.unwrap();
        all.requests.extend(paid.requests);
        all.cents += paid.cents;
        all.poison += paid.poison;
        all.poison_cents += paid.poison_cents;
    }
    let payments = all.requests.len() as i64;
    let poison = all.poison;
    eprintln!("{payments} payments, {poison} for an unknown product");
    assert!(poison > 0);

    // Of everything, something is booked or put aside. More than that may be put aside: what was received by
    // workers that were killed again and again, and messages that a killed relay sent twice.
    example
        .until("everything is booked or put aside", |report| {
            report["outbox"] == 0
                && report["queued"] == 0
                && report["sales"] + report["put-aside"] >= payments
        })
        .await;
    let report = example.report().await;
    assert_eq!((report["payments"], report["payments-cents"]), (payments, all.cents));
    assert_eq!(report["customers-cents"], all.cents);
    assert!(report["put-aside"] >= poison, "{report:?}");
    assert!(report["sales-cents"] <= all.cents - all.poison_cents, "{report:?}");

    // The reason is gone, and what was put aside comes back.
    example.run(&["add-product", "travel"]).await;
    redrive(&mut fleet, &example, chance).await;
    example
        .until("everything is booked", |report| {
            report["sales"] == payments && report["put-aside"] == 0 && report["queued"] == 0
        })
        .await;
    let report = example.report().await;
    assert_eq!((report["booked"], report["sales-cents"]), (payments, all.cents), "{report:?}");
    for id in &all.requests {
        assert_eq!(example.status(id).await, "booked", "{id}");
    }
}

/// It waited for the other half for ever, and every further signal was caught and forgotten.
#[tokio::test]
async fn a_second_signal_ends_the_endpoint_whoever_holds_half_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
    let mut endpoint = Command::new(binary().with_file_name("flotilla-decoupling"))
        .args(["--endpoints", "http://127.0.0.1:9", "--data"])
        .arg(dir.path())
        .args(["endpoint", "--listen", &listen])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let mut half = loop {
        match std::net::TcpStream::connect(&listen) {
            Ok(stream) => break stream,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    half.write_all(b"POST /payments HTTP/1.1\r\n").unwrap();
    // Each is heard by itself: the first one only asks it to finish what was begun.
    while endpoint.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < PATIENCE, "it does not end");
        let pid = endpoint.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(endpoint.wait().unwrap().code(), Some(130));
}
