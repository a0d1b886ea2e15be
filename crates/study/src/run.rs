//! One run: a queue of its own, the ledger, and what was measured.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::sync::{Notify, Semaphore};

use crate::args::Settings;
use crate::histogram::Histogram;
use crate::ledger::{Ledger, Receipt, Verdict};
use crate::message::{RunId, Stamp};
use crate::sqs::{Client, QueueUrl, Received};

const VISIBLE_EVERYWHERE_WITHIN: Duration = Duration::from_secs(10);

/// What the workers of a run share.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) settings: Settings,
    pub(crate) queue: QueueUrl,
    name: String,
    begin: Instant,
    ledger: RefCell<Ledger>,
    latencies: RefCell<Latencies>,
    sending: Cell<bool>,
    progress: Cell<Instant>,
    completed: Notify,
    /// Told at every first receipt.
    pub(crate) received: Notify,
    window: Option<Semaphore>,
    errors: Cell<u64>,
    last_error: RefCell<Option<String>>,
}

/// Durations of one phase of a run.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) send: Histogram,
    /// Of receive requests that brought something.
    pub(crate) receive: Histogram,
    pub(crate) end_to_end: Histogram,
}

impl Run {
    /// Creates the queue and waits until every endpoint knows it. At most `window` messages are
    /// sent and not received at any time, if it is given.
    pub(crate) async fn create(
        settings: &Settings,
        window: Option<usize>,
    ) -> anyhow::Result<Rc<Self>> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is wrong")?;
        let id = since.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_right(16);
        let suffix = if settings.groups.is_some() { ".fifo" } else { "" };
        let name = format!("bench-{id:016x}{suffix}");
        let endpoint = &settings.endpoints[0];
        let queue = Client::new(endpoint, settings.groups)
            .create_queue(&name)
            .await
            .with_context(|| format!("{endpoint} cannot create a queue"))?;
        let begin = Instant::now();
        let run = Rc::new(Self {
            settings: settings.clone(),
            queue,
            name,
            begin,
            ledger: RefCell::new(Ledger::new(RunId(id))),
            latencies: RefCell::default(),
            sending: Cell::new(true),
            progress: Cell::new(begin),
            completed: Notify::new(),
            received: Notify::new(),
            window: window.map(Semaphore::new),
            errors: Cell::new(0),
            last_error: RefCell::default(),
        });
        for index in 0..settings.endpoints.len() {
            run.client(index).await?;
        }
        Ok(run)
    }

    /// A connected client of worker `index`; workers take the endpoints in turn.
    pub(crate) async fn client(&self, index: usize) -> anyhow::Result<Client> {
        let endpoint = &self.settings.endpoints[index % self.settings.endpoints.len()];
        let mut client = Client::new(endpoint, self.settings.groups);
        let deadline = Instant::now() + VISIBLE_EVERYWHERE_WITHIN;
        loop {
            match client.find_queue(&self.name).await {
                Ok(_) => return Ok(client),
                Err(_) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("{endpoint} lacks the queue"));
                }
            }
        }
    }

    pub(crate) async fn delete_queue(&self) -> anyhow::Result<()> {
        let mut client = self.client(0).await?;
        Ok(client.delete_queue(&self.queue).await?)
    }

    /// Waits until a window has room for `messages` more; not longer than `deadline`.
    pub(crate) async fn wait_for_room(&self, messages: usize, deadline: Instant) -> bool {
        let Some(window) = &self.window else {
            return true;
        };
        let permits = window.acquire_many(messages as u32);
        match tokio::time::timeout_at(deadline.into(), permits).await {
            Ok(Ok(permits)) => {
                permits.forget();
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Makes room for messages that came, or that were not taken by the server after all.
    pub(crate) fn make_room(&self, messages: usize) {
        if let Some(window) = &self.window {
            window.add_permits(messages);
        }
    }

    /// New messages that say they were to be sent at `moment`.
    pub(crate) fn issue(&self, messages: usize, moment: Instant, stamps: &mut Vec<Stamp>) {
        let moment_us = self.microseconds(moment);
        let mut ledger = self.ledger.borrow_mut();
        stamps.clear();
        stamps.extend((0..messages).map(|_| ledger.issue(moment_us)));
    }

    pub(crate) fn note_sent(&self, since: Instant, accepted: impl Iterator<Item = Stamp>) {
        self.latencies.borrow_mut().send.record(since.elapsed());
        let mut ledger = self.ledger.borrow_mut();
        accepted.for_each(|stamp| ledger.acknowledge(stamp.sequence));
    }

    pub(crate) fn note_received(&self, since: Instant, messages: &[Received]) {
        let now = Instant::now();
        let now_us = self.microseconds(now);
        let mut latencies = self.latencies.borrow_mut();
        latencies.receive.record(now - since);
        let mut ledger = self.ledger.borrow_mut();
        for message in messages {
            let receipt = ledger.receive(message.stamp);
            if let (Receipt::First, Some(stamp)) = (receipt, message.stamp) {
                latencies.end_to_end.record_us(now_us.saturating_sub(stamp.moment_us));
                self.progress.set(now);
                self.received.notify_one();
                self.make_room(1);
            }
        }
        drop(ledger);
        self.tell_if_complete();
    }

    pub(crate) fn note_error(&self, error: String) {
        self.errors.set(self.errors.get() + 1);
        *self.last_error.borrow_mut() = Some(error);
    }

    /// No more is sent: from now on consumers may find that they are done.
    pub(crate) fn end_sending(&self) {
        self.sending.set(false);
        self.progress.set(Instant::now());
        self.tell_if_complete();
    }

    pub(crate) fn begin_sending(&self) {
        self.sending.set(true);
    }

    /// Nothing more is sent, and everything that was acknowledged has come back.
    pub(crate) fn is_complete(&self) -> bool {
        !self.sending.get() && self.verdict().missing == 0
    }

    pub(crate) async fn wait_until_complete(&self) {
        // A notice may be left from an earlier phase.
        while !self.is_complete() {
            self.completed.notified().await;
        }
    }

    /// Nothing more is sent, and what is missing will not come any more.
    pub(crate) fn is_hopeless(&self) -> bool {
        let patience = Duration::from_secs(u64::from(self.settings.patience));
        !self.sending.get() && self.progress.get().elapsed() > patience
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.ledger.borrow().verdict()
    }

    /// What was measured since the last call.
    pub(crate) fn take_latencies(&self) -> Latencies {
        self.latencies.take()
    }

    pub(crate) fn errors(&self) -> (u64, Option<String>) {
        (self.errors.get(), self.last_error.borrow().clone())
    }

    fn microseconds(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.begin).as_micros() as u64
    }

    fn tell_if_complete(&self) {
        if self.is_complete() {
            self.completed.notify_one();
        }
    }
}
