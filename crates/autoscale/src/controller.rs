//! The loop: reads the queue, decides, and has it done.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use flotilla_client::{Endpoint, Signing};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::args::{AutoscaleArgs, SettingsError};
use crate::backlog::{Backlog, Count, QueueReader};
use crate::keda::{ScalerService, backlog_s};
use crate::mean::MeanProcessing;
use crate::metrics::{Drive, Metrics};
use crate::policy::Policy;
use crate::scaler::{Observed, Scaler};
use crate::slots::{Order, Slots};
use crate::statsd;
use crate::workers::{Ended, LiveWorkers, Workers};

/// A reading that takes longer counts as failed: later ones would be more use.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// Why a controller cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See there.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Somebody else has it, or it is not this machine's.
    #[error("the address for processing times cannot be had: {0}")]
    Measure(std::io::Error),
}

/// See the module.
#[derive(Debug)]
pub struct Controller {
    policy: Policy,
    count: Count,
    interval: Duration,
    drive: Drive,
    drives: bool,
    begin: Instant,
    reader: Option<QueueReader>,
    scaler: Scaler,
    slots: Slots,
    workers: Workers,
    mean: Arc<Mutex<MeanProcessing>>,
    statsd: Option<UdpSocket>,
    metrics: Arc<Metrics>,
}

impl Controller {
    /// As `args` say. Listens for processing times at once, so that workers find somebody there.
    ///
    /// # Errors
    /// When that is impossible.
    pub async fn new(args: &AutoscaleArgs) -> Result<Self, StartError> {
        let policy = args.policy()?;
        let is_unsigned = |endpoint: &Endpoint| {
            endpoint.is_secure() && Signing::from_environment(endpoint).is_none()
        };
        if args.endpoints.iter().any(is_unsigned) {
            tracing::warn!("requests are not signed: AWS_ACCESS_KEY_ID or its secret is not set");
        }
        let statsd = match args.measure {
            Some(address) => Some(UdpSocket::bind(address).await.map_err(StartError::Measure)?),
            None => None,
        };
        let address = statsd.as_ref().map(UdpSocket::local_addr).transpose();
        let address = address.map_err(StartError::Measure)?;
        Ok(Self {
            policy,
            count: args.count(),
            interval: args.interval_ms,
            drive: args.drive(),
            drives: args.drives(),
            begin: Instant::now(),
            reader: Some(QueueReader::new(&args.endpoints, &args.queue)),
            scaler: Scaler::new(policy, Duration::ZERO),
            slots: Slots::new(args.supervision(), 2 * policy.max as usize),
            workers: Workers::new(args.command.clone(), address, args.grace_s),
            mean: Arc::new(Mutex::new(MeanProcessing::new(args.processing_ms))),
            statsd,
            metrics: Arc::new(Metrics::new(&args.queue, args.drive())),
        })
    }

    /// What Prometheus may ask for while the controller runs.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// The workers, for an end that does not wait for them.
    pub fn workers(&self) -> LiveWorkers {
        self.workers.live()
    }

    /// The service for KEDA, with this controller's settings for all that a trigger leaves open.
    pub fn keda(&self, args: &AutoscaleArgs) -> ScalerService {
        ScalerService::new(args, self.mean.clone())
    }

    /// Runs until `stop` turns true, and until all workers have ended then.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        // One that nobody has looked at is enough: a newer one says more.
        let (seen, mut sightings) = mpsc::channel(1);
        let reader = self.reader.take().expect("a controller runs once");
        let reading =
            tokio::spawn(read_again_and_again(reader, self.interval, self.metrics.clone(), seen));
        let measuring = self.statsd.take().map(|socket| {
            let mean = self.mean.clone();
            tokio::spawn(measure(socket, mean))
        });
        while !*stop.borrow() {
            self.carry_out(self.scaler.instances());
            let deadline = self.deadline();
            tokio::select! {
                Some(backlog) = sightings.recv() => self.decide(backlog),
                Some(ended) = self.workers.ended() => self.note_end(&ended),
                () = until(deadline) => {}
                _ = stop.changed() => {}
            }
        }
        reading.abort();
        self.end_all().await;
        if let Some(measuring) = measuring {
            measuring.abort();
        }
    }

    fn decide(&mut self, backlog: Option<Backlog>) {
        self.metrics.read(backlog);
        let mean_processing = self.mean.lock().mean();
        let messages = backlog.map(|backlog| backlog.messages(self.count));
        let acceptable = self.policy.acceptable_backlog(mean_processing);
        let latency = self.policy.acceptable_latency;
        let seconds =
            messages.map_or(f64::NAN, |messages| backlog_s(latency, mean_processing, messages));
        self.metrics.backlog(seconds, acceptable, mean_processing);
        if self.drive == Drive::Elsewhere {
            // Whoever starts the workers decides.
            return;
        }
        let observed = messages.map(|backlog| Observed { backlog, mean_processing });
        let before = self.scaler.instances();
        let decision = self.scaler.decide(self.now(), observed);
        self.metrics.instances.decided(decision, messages);
        if decision.instances != before {
            tracing::info!(
                reason = decision.reason.word(),
                before,
                instances = decision.instances,
                messages,
                acceptable_backlog = format_args!("{acceptable:.1}"),
                mean_processing = ?mean_processing,
                dry_run = !self.drives,
                "decided"
            );
        }
    }

    fn carry_out(&mut self, instances: u32) {
        if !self.drives {
            // As if they ran: whoever looks at a dry run wants to see what would be.
            self.metrics.instances.count(instances as usize, 0);
            return;
        }
        for order in self.slots.plan(self.now(), instances) {
            if let Order::Kill(id) = order {
                tracing::warn!(worker = id.0, "killed: it did not end in time");
                self.metrics.instances.kills.inc();
            }
            self.workers.carry_out(order);
        }
        self.metrics.instances.count(self.slots.running(), self.slots.stopping());
    }

    fn note_end(&mut self, ended: &Ended) {
        let how = match &ended.how {
            Ok(status) => status.to_string(),
            Err(error) => format!("it could not be started: {error}"),
        };
        if self.slots.ended(self.now(), ended.id) {
            tracing::warn!(worker = ended.id.0, how, "a worker ended without being asked to");
            self.metrics.instances.crashes.inc();
        } else {
            tracing::debug!(worker = ended.id.0, how, "a worker ended");
        }
    }

    async fn end_all(&mut self) {
        if !self.drives {
            return;
        }
        tracing::info!(running = self.slots.running(), "ending all workers");
        self.carry_out(0);
        while !self.slots.is_empty() {
            let deadline = self.deadline();
            tokio::select! {
                Some(ended) = self.workers.ended() => self.note_end(&ended),
                () = until(deadline) => {}
            }
            self.carry_out(0);
        }
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn deadline(&self) -> Option<Instant> {
        self.slots.next_deadline().map(|deadline| self.begin + deadline)
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// `None` whenever the queue could not be read. Ends when nobody listens.
async fn read_again_and_again(
    mut reader: QueueReader,
    every: Duration,
    metrics: Arc<Metrics>,
    seen: mpsc::Sender<Option<Backlog>>,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = true;
    loop {
        ticks.tick().await;
        let failure = match timeout(READ_PATIENCE.max(every), reader.read()).await {
            Ok(Ok(backlog)) => {
                if !known {
                    tracing::info!("the queue can be read again");
                }
                known = true;
                if seen.send(Some(backlog)).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        metrics.read_failures.inc();
        if known {
            tracing::warn!(failure, "the queue cannot be read: nothing changes until it can");
        }
        known = false;
        if seen.send(None).await.is_err() {
            return;
        }
    }
}

async fn measure(socket: UdpSocket, mean: Arc<Mutex<MeanProcessing>>) {
    let mut datagram = vec![0; statsd::DATAGRAM_BYTES_MAX];
    loop {
        match socket.recv(&mut datagram).await {
            Ok(len) => {
                let mut mean = mean.lock();
                for timing in statsd::timings(&datagram[..len]) {
                    mean.report(timing.duration, timing.weight);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "processing times cannot be received");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
