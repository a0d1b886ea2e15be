//! A worker as one is written for a queue: long polls, one message at a time, and an orderly end.

use std::fs::File;
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use flotilla_client::{Caller, Endpoint};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Short enough to end soon when asked to while nothing comes.
const WAIT_S: u32 = 5;
/// After an error. The cluster may be electing a leader.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes messages from a queue, works on each for some time, and deletes it.
///
/// SIGTERM: finishes the message that it has, gives back what comes meanwhile, and ends. Says how
/// long each took where STATSD_HOST and STATSD_PORT point.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// SQS endpoints; another is taken after an error.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:9324")]
    endpoints: Vec<Endpoint>,
    /// Name of the queue.
    #[arg(long)]
    queue: String,
    /// Milliseconds of work for each message.
    #[arg(long, default_value_t = 50)]
    work_ms: u64,
    /// Where a line is added for each message that was worked on: its body, and when that was (in
    /// microseconds since 1970).
    #[arg(long)]
    done: Option<PathBuf>,
}

struct Worker<'a> {
    args: &'a WorkerArgs,
    next: usize,
    caller: Caller,
    url: Option<String>,
    done: Option<File>,
    statsd: Option<UdpSocket>,
}

/// Works until asked to end.
pub(crate) async fn work(args: &WorkerArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
    });
    let done = args.done.as_ref().map(|path| File::options().create(true).append(true).open(path));
    let mut worker = Worker {
        args,
        next: std::process::id() as usize,
        caller: Caller::new(&args.endpoints[0]),
        url: None,
        done: done.transpose().context("the file of what is done cannot be opened")?,
        statsd: statsd(),
    };
    worker.turn();
    while !*stopped.borrow() {
        if let Err(error) = worker.one(&stopped).await {
            tell(&format!("{error:#}"));
            worker.turn();
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

impl Worker<'_> {
    /// To the next endpoint.
    fn turn(&mut self) {
        self.next += 1;
        self.caller = Caller::new(&self.args.endpoints[self.next % self.args.endpoints.len()]);
    }

    async fn one(&mut self, stopped: &watch::Receiver<bool>) -> anyhow::Result<()> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => {
                let input = json!({ "QueueName": self.args.queue });
                let found = self.caller.ask("GetQueueUrl", &input).await?;
                let url = found["QueueUrl"].as_str().context("no URL")?.to_owned();
                self.url.insert(url).clone()
            }
        };
        let input = json!({
            "QueueUrl": url, "MaxNumberOfMessages": 1, "WaitTimeSeconds": WAIT_S,
        });
        // Waited for even if asked to end meanwhile: whoever hangs up does not know whether a message was
        // on its way, and that one would be hidden from everybody for its whole timeout.
        let answer = self.caller.ask("ReceiveMessage", &input).await?;
        for message in answer["Messages"].as_array().into_iter().flatten() {
            let handle = &message["ReceiptHandle"];
            if *stopped.borrow() {
                let input =
                    json!({ "QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 0 });
                self.caller.ask("ChangeMessageVisibility", &input).await?;
                continue;
            }
            let begin = Instant::now();
            tokio::time::sleep(Duration::from_millis(self.args.work_ms)).await;
            self.note(message)?;
            let input = json!({ "QueueUrl": url, "ReceiptHandle": handle });
            self.caller.ask("DeleteMessage", &input).await?;
            self.report(begin.elapsed());
        }
        Ok(())
    }

    /// Before the deletion: what is deleted must have been done.
    fn note(&mut self, message: &Value) -> anyhow::Result<()> {
        let Some(done) = &mut self.done else { return Ok(()) };
        let body = message["Body"].as_str().unwrap_or_default();
        // One write, so that lines of several workers do not mix.
        done.write_all(format!("{body} {}\n", now_us()?).as_bytes())?;
        Ok(())
    }

    fn report(&self, took: Duration) {
        if let Some(statsd) = &self.statsd {
            let line = format!("processing:{:.3}|ms", took.as_secs_f64() * 1_000.0);
            // Nobody may be listening; measuring is not worth an error.
            let _ = statsd.send(line.as_bytes());
        }
    }
}

fn statsd() -> Option<UdpSocket> {
    let host = std::env::var("STATSD_HOST").ok()?;
    let port: u16 = std::env::var("STATSD_PORT").ok()?.parse().ok()?;
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect((host, port)).ok()?;
    Some(socket)
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> anyhow::Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is wrong")?.as_micros())
}

fn tell(what: &str) {
    // Nothing is left to be done if even this cannot be said.
    let _ = writeln!(std::io::stderr(), "worker: {what}");
}
