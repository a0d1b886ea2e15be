//! Real workers at a real queue.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use flotilla_autoscale::Policy;
use flotilla_client::{Caller, Endpoint};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::count::Counting;
use super::load::Load;
use super::seen::{Moment, Page, Seen, read_done};
use crate::worker::now_us;

const SAMPLE: Duration = Duration::from_millis(250);
/// Between two looks at what is due to be sent.
const SEND_EVERY: Duration = Duration::from_millis(20);
/// Longer than a message stays hidden whose worker was killed.
const PATIENCE: Duration = Duration::from_secs(90);
const VISIBILITY_TIMEOUT_S: u32 = 60;
const BATCH_MAX: u64 = 10;
const INSTANCES_MAX: u32 = 20;
const SCALE_OUT_COOLDOWN_S: f64 = 0.5;
const SCALE_IN_COOLDOWN_S: f64 = 4.0;
/// Between two readings of the queue.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);
const WORK_MS: u64 = 200;
const PEAK_PER_S: f64 = 40.0;
const RISE_S: f64 = 20.0;
const ACCEPTABLE_LATENCY_S: f64 = 5.0;

/// Who decides how many workers there are.
#[derive(Debug)]
pub(crate) enum Scaling {
    /// `flotilla autoscale`, which writes to this.
    Backlog(Stdio),
    /// The number of visible messages alone, which is to be what is right when it is busiest.
    Count,
}

/// The same, at work.
enum Scaler {
    Backlog { controller: Box<Child>, page: String },
    Count(Box<Counting>),
}

/// See [`observe`].
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LiveArgs {
    /// SQS endpoints, of one cluster.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:9324")]
    pub(super) endpoints: Vec<Endpoint>,
    /// The `flotilla` program.
    #[arg(long, default_value = "flotilla", value_name = "FILE")]
    flotilla: PathBuf,
    /// Where the chart and the table go.
    #[arg(long, default_value = "autoscale-study", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Milliseconds of work for each message.
    #[arg(long, default_value_t = WORK_MS)]
    work_ms: u64,
    /// Messages a second when it is busiest; all of the load is in proportion to it.
    #[arg(long, default_value_t = PEAK_PER_S)]
    peak: f64,
    /// Seconds that the rise takes; all of the load is in proportion to it.
    #[arg(long, default_value_t = RISE_S)]
    rise_s: f64,
    /// Seconds that a message may take.
    #[arg(long, default_value_t = ACCEPTABLE_LATENCY_S)]
    acceptable_latency_s: f64,
}

impl LiveArgs {
    /// What the command does without arguments.
    pub(crate) fn new(endpoints: Vec<Endpoint>, flotilla: PathBuf, out: PathBuf) -> Self {
        Self {
            endpoints,
            flotilla,
            out,
            work_ms: WORK_MS,
            peak: PEAK_PER_S,
            rise_s: RISE_S,
            acceptable_latency_s: ACCEPTABLE_LATENCY_S,
        }
    }

    /// A worker's command line.
    pub(super) fn worker(&self, queue: &str, done: &Path) -> anyhow::Result<Vec<OsString>> {
        let endpoints: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        let words = [
            "worker",
            "--queue",
            queue,
            "--endpoints",
            &endpoints.join(","),
            "--work-ms",
            &self.work_ms.to_string(),
            "--done",
        ];
        let mut line = vec![std::env::current_exe()?.into_os_string()];
        line.extend(words.map(OsString::from));
        line.push(done.as_os_str().to_owned());
        Ok(line)
    }

    /// The policy of both ways, as `flotilla autoscale` is told it.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            acceptable_latency: Duration::from_secs_f64(self.acceptable_latency_s),
            min: 1,
            max: INSTANCES_MAX,
            tolerance: 0.1,
            scale_out_cooldown: Duration::from_secs_f64(SCALE_OUT_COOLDOWN_S),
            scale_in_cooldown: Duration::from_secs_f64(SCALE_IN_COOLDOWN_S),
        }
    }

    pub(super) fn processing(&self) -> Duration {
        Duration::from_millis(self.work_ms)
    }

    /// What waits when it is busiest and each instance has what it may have.
    pub(super) fn busiest_count(&self) -> f64 {
        self.peak * self.acceptable_latency_s
    }

    /// The same in a third of the time, with half of the messages a second.
    pub(crate) fn short(self) -> Self {
        Self {
            peak: PEAK_PER_S / 2.0,
            rise_s: RISE_S / 3.0,
            acceptable_latency_s: ACCEPTABLE_LATENCY_S / 2.0,
            ..self
        }
    }
}

/// Creates a queue, starts a controller and puts the load on; until everything is done and the
/// controller has ended. `tell` is told how far it is.
///
/// # Errors
/// When nothing can be sent or the controller fails. That messages are lost is for the caller to see.
pub(crate) async fn observe(
    args: &LiveArgs,
    scaling: Scaling,
    tell: &dyn Fn(&str),
) -> anyhow::Result<Seen> {
    std::fs::create_dir_all(&args.out)?;
    let begin_us = now_us()?;
    let queue = format!("autoscale-{}-{}", std::process::id(), begin_us % 1_000_000);
    let done = args.out.join(format!("{queue}.done"));
    let mut sender = Sender { args, next: 0, caller: Caller::new(&args.endpoints[0]) };
    let attributes = json!({ "VisibilityTimeout": VISIBILITY_TIMEOUT_S.to_string() });
    let input = json!({ "QueueName": queue, "Attributes": attributes });
    let created = sender.caller.ask("CreateQueue", &input).await;
    let created = created.context("no queue can be created")?;
    let url = created["QueueUrl"].as_str().context("the new queue has no URL")?.to_owned();
    let mut scaler = match scaling {
        Scaling::Backlog(log) => {
            let page = free_address()?;
            let controller = Box::new(start(args, log, &queue, &done, &page)?);
            Scaler::Backlog { controller, page }
        }
        Scaling::Count => Scaler::Count(Box::new(Counting::new(args, &queue, &done)?)),
    };
    let driven = drive(args, &mut sender, &url, &mut scaler, &done, tell).await;
    let ended = scaler.end().await;
    // Another error says more than that this queue is left.
    let _ = sender.caller.ask("DeleteQueue", &json!({ "QueueUrl": url })).await;
    let mut seen = driven?;
    ended?;
    // With what was finished while workers were asked to end.
    seen.done = read_done(&done)?;
    std::fs::remove_file(&done)?;
    Ok(seen)
}

fn load(args: &LiveArgs) -> Load {
    let (rise, peak) = (args.rise_s, args.peak);
    Load::new(&[
        (rise / 2.0, 0.1 * peak, 0.1 * peak, 0),
        (rise, 0.1 * peak, peak, 0),
        (rise / 2.0, peak, peak, 0),
        (rise / 2.0, peak, peak, (4.0 * peak) as u32),
        (rise / 2.0, peak, 0.1 * peak, 0),
        (rise, 0.05 * peak, 0.05 * peak, 0),
    ])
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn start(
    args: &LiveArgs,
    log: Stdio,
    queue: &str,
    done: &Path,
    page: &str,
) -> anyhow::Result<Child> {
    let endpoints = args.endpoints.iter().flat_map(|it| ["--endpoint".to_owned(), it.to_string()]);
    let mut command = Command::new(&args.flotilla);
    command
        .args(["autoscale", "--queue", queue, "--listen", page])
        .args(endpoints)
        .args(["--processing-ms", &args.work_ms.to_string(), "--measure", "127.0.0.1:0"])
        .args(["--acceptable-latency-s", &args.acceptable_latency_s.to_string()])
        .args(["--min", "1", "--max", &INSTANCES_MAX.to_string()])
        .args(["--interval-ms", &INTERVAL.as_millis().to_string()])
        .args(["--scale-out-cooldown-s", &SCALE_OUT_COOLDOWN_S.to_string()])
        .args(["--scale-in-cooldown-s", &SCALE_IN_COOLDOWN_S.to_string(), "--"])
        .args(args.worker(queue, done)?)
        .stdin(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    command.spawn().with_context(|| format!("{} cannot be started", args.flotilla.display()))
}

impl Scaler {
    /// `Err` while it is not there yet.
    async fn at(&mut self, at_s: f64) -> anyhow::Result<Moment> {
        match self {
            Self::Backlog { page, .. } => Ok(read_page(page).await?.at(at_s)),
            Self::Count(counting) => counting.at(at_s).await,
        }
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Backlog { controller, .. } => end(controller).await,
            Self::Count(counting) => counting.end().await,
        }
    }
}

/// In order, with the workers.
pub(super) async fn end(controller: &mut Child) -> anyhow::Result<()> {
    terminate(controller)?;
    let status = tokio::time::timeout(PATIENCE, controller.wait()).await;
    let status = status.context("a process does not end")??;
    ensure!(status.success(), "a process ended with {status}");
    Ok(())
}

/// Asks it to end.
pub(super) fn terminate(child: &Child) -> anyhow::Result<()> {
    if let Some(id) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        kill_process(id, Signal::TERM)?;
    }
    Ok(())
}

async fn drive(
    args: &LiveArgs,
    sender: &mut Sender<'_>,
    url: &str,
    scaler: &mut Scaler,
    done: &Path,
    tell: &dyn Fn(&str),
) -> anyhow::Result<Seen> {
    let begin = Instant::now();
    while scaler.at(0.0).await.is_err() {
        ensure!(begin.elapsed() < PATIENCE, "the controller does not begin");
        tokio::time::sleep(SAMPLE).await;
    }
    let load = load(args);
    let mut seen = Seen::new(load.clone(), args.work_ms as f64, args.acceptable_latency_s);
    seen.begin_us = now_us()?;
    let begin = Instant::now();
    let mut due_sample = Duration::ZERO;
    let mut quiet_since = None;
    loop {
        let now = begin.elapsed();
        let due = load.total(now.as_secs_f64()) as u64;
        while seen.sent < due {
            let count = (due - seen.sent).min(BATCH_MAX);
            sender.send(url, seen.sent, count, begin + PATIENCE.max(now * 2)).await?;
            seen.sent += count;
        }
        if now >= due_sample {
            due_sample = now + SAMPLE;
            let moment = scaler.at(now.as_secs_f64()).await?;
            tell(&progress(&moment, load.seconds()));
            seen.moments.push(moment);
        }
        if now.as_secs_f64() > load.seconds() {
            let since = *quiet_since.get_or_insert(now);
            let moment = seen.moments.last().context("there was a sample")?;
            let quiet = moment.running <= 1.0 && moment.unfinished == 0.0;
            if quiet && read_done(done)?.len() as u64 == seen.sent {
                return Ok(seen);
            }
            if now - since > PATIENCE {
                // What is missing is seen by whoever judges.
                return Ok(seen);
            }
        }
        tokio::time::sleep(SEND_EVERY).await;
    }
}

fn progress(moment: &Moment, seconds: f64) -> String {
    let Moment { at_s, running, unfinished, .. } = moment;
    format!(
        "{at_s:.0} s of {seconds:.0} and what is left: {running} workers, {unfinished} messages"
    )
}

struct Sender<'a> {
    args: &'a LiveArgs,
    next: usize,
    caller: Caller,
}

impl Sender<'_> {
    /// Again and again until it is acknowledged. What was sent more than once may be done more than
    /// once.
    async fn send(
        &mut self,
        url: &str,
        first: u64,
        count: u64,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        let mut missing: Vec<u64> = (first..first + count).collect();
        loop {
            let sent_us = now_us()?;
            let entry = |number: &u64| json!({ "Id": number.to_string(), "MessageBody": format!("{number} {sent_us}") });
            let entries: Vec<Value> = missing.iter().map(entry).collect();
            let input = json!({ "QueueUrl": url, "Entries": entries });
            let failure = match self.caller.ask("SendMessageBatch", &input).await {
                Ok(answer) => {
                    let sent: Vec<u64> = answer["Successful"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(|entry| entry["Id"].as_str()?.parse().ok())
                        .collect();
                    missing.retain(|number| !sent.contains(number));
                    if missing.is_empty() {
                        return Ok(());
                    }
                    format!("some messages are refused: {answer}")
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                bail!("messages cannot be sent: {failure}");
            }
            self.next += 1;
            self.caller = Caller::new(&self.args.endpoints[self.next % self.args.endpoints.len()]);
            tokio::time::sleep(SAMPLE).await;
        }
    }
}

async fn read_page(address: &str) -> anyhow::Result<Page> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Page::read(&text).context("a number is missing on the controller's page")
}
