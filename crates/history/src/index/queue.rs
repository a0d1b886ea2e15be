//! Queues: what their attributes may have been at a time, and what was done to them as a whole.

use std::collections::BTreeMap;

use crate::index::{Known, Lost, NEVER, Span};

/// A value that is written now and then: which values it may have had.
#[derive(Clone, Debug)]
pub(crate) struct Register<T> {
    writes: Vec<(Span, bool, T)>,
}

impl<T: Clone> Register<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { writes: vec![(Span { inv: 0, ret: 0 }, true, value)] }
    }

    pub(crate) fn write(&mut self, at: Span, certain: bool, value: T) {
        self.writes.push((at, certain, value));
    }

    /// Every value that it may have had at some moment of the span.
    pub(crate) fn possible(&self, during: Span) -> impl Iterator<Item = &T> {
        // What some certain write certainly replaced before the span is gone.
        let from = match self.writes.len() {
            1 => 0,
            _ => {
                let done = self.writes.iter().filter(|it| it.1 && it.0.ret < during.inv);
                done.map(|it| it.0.inv).max().unwrap_or(0)
            }
        };
        self.writes
            .iter()
            .filter(move |it| it.0.ret >= from && it.0.inv <= during.ret)
            .map(|it| &it.2)
    }

    /// Every value that was ever written.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.writes.iter().map(|it| &it.2)
    }
}

impl Register<u64> {
    pub(crate) fn min(&self, during: Span) -> u64 {
        self.possible(during).copied().min().unwrap_or(0)
    }

    pub(crate) fn max(&self, during: Span) -> u64 {
        self.possible(during).copied().max().unwrap_or(NEVER)
    }
}

/// Whether a queue is there: what was done about that.
#[derive(Clone, Debug)]
pub(crate) struct Existence {
    pub(crate) record: u32,
    pub(crate) at: Span,
    pub(crate) outcome: Known,
    pub(crate) creates: bool,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) code: String,
}

/// What a request saw of a queue: that it is there, or that it is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) record: u32,
    pub(crate) node: u32,
    pub(crate) at: Span,
    pub(crate) there: bool,
}

/// An acknowledged or unknown purge or deletion of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Clearing {
    pub(crate) record: u32,
    pub(crate) at: Span,
    pub(crate) deletes_queue: bool,
    /// Nodes that may not have heard of the deletion, and until when.
    pub(crate) late: Vec<(u32, u64)>,
}

impl Clearing {
    /// When it was over for whoever asks this node.
    pub(crate) fn over_at(&self, node: u32) -> u64 {
        let late = self.late.iter().filter(|it| it.0 == node);
        late.map(|it| it.1).max().unwrap_or(0).max(self.at.ret)
    }

    /// When it was over for everybody.
    pub(crate) fn over(&self) -> u64 {
        self.late.iter().map(|it| it.1).max().unwrap_or(0).max(self.at.ret)
    }
}

/// Attributes that were written or read.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) record: u32,
    pub(crate) node: u32,
    pub(crate) at: Span,
    pub(crate) writes: bool,
    /// Only of writes.
    pub(crate) certain: bool,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A redrive policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Redrive {
    pub(crate) target: u32,
    pub(crate) receives_max: u32,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) fifo: bool,
    pub(crate) visibility_us: Register<u64>,
    pub(crate) delay_us: Register<u64>,
    pub(crate) retention_us: Register<u64>,
    pub(crate) wait_us: Register<u64>,
    pub(crate) redrive: Register<Option<Redrive>>,
    pub(crate) dedup_by_content: Register<bool>,
    pub(crate) dedup_by_group: bool,
    pub(crate) clearings: Vec<Clearing>,
    pub(crate) existence: Vec<Existence>,
    pub(crate) accesses: Vec<Access>,
    pub(crate) probes: Vec<Probe>,
    /// Receives that may have hidden messages that nobody got, in order of their starts.
    pub(crate) lost_receives: Vec<Lost>,
    /// A creation was acknowledged.
    pub(crate) created: bool,
}

const SECOND_US: u64 = 1_000_000;

impl Queue {
    /// With SQS's defaults.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            fifo: name.ends_with(".fifo"),
            visibility_us: Register::new(30 * SECOND_US),
            delay_us: Register::new(0),
            retention_us: Register::new(345_600 * SECOND_US),
            wait_us: Register::new(0),
            redrive: Register::new(None),
            dedup_by_content: Register::new(false),
            dedup_by_group: false,
            clearings: Vec::new(),
            existence: Vec::new(),
            accesses: Vec::new(),
            probes: Vec::new(),
            lost_receives: Vec::new(),
            created: false,
        }
    }

    /// What a new queue has where nothing else is said, as far as the checker looks at it.
    pub(crate) fn default_attributes() -> BTreeMap<String, String> {
        let defaults = [
            ("VisibilityTimeout", "30"),
            ("DelaySeconds", "0"),
            ("MessageRetentionPeriod", "345600"),
            ("ReceiveMessageWaitTimeSeconds", "0"),
            ("RedrivePolicy", ""),
            ("ContentBasedDeduplication", "false"),
        ];
        defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The receives that may have hidden something unseen at some moment of a span.
    pub(crate) fn lost_in(&self, during: Span) -> impl Iterator<Item = &Lost> {
        let begun = self.lost_receives.partition_point(|it| it.inv <= during.ret);
        self.lost_receives[..begun].iter().filter(move |it| it.until >= during.inv)
    }

    /// Takes attributes as they were set; `queue_of` numbers the queue of a dead letter ARN.
    pub(crate) fn set(
        &mut self,
        at: Span,
        certain: bool,
        attributes: &BTreeMap<String, String>,
        queue_of: &mut dyn FnMut(&str) -> u32,
    ) {
        let seconds = [
            ("VisibilityTimeout", &mut self.visibility_us),
            ("DelaySeconds", &mut self.delay_us),
            ("MessageRetentionPeriod", &mut self.retention_us),
            ("ReceiveMessageWaitTimeSeconds", &mut self.wait_us),
        ];
        for (name, register) in seconds {
            let value = attributes.get(name).and_then(|text| text.parse::<f64>().ok());
            if let Some(value) = value {
                register.write(at, certain, (value * SECOND_US as f64) as u64);
            }
        }
        if let Some(text) = attributes.get("RedrivePolicy") {
            self.redrive.write(at, certain, redrive(text, queue_of));
        }
        if let Some(text) = attributes.get("ContentBasedDeduplication") {
            self.dedup_by_content.write(at, certain, text == "true");
        }
        if let Some(text) = attributes.get("DeduplicationScope") {
            self.dedup_by_group |= text == "messageGroup";
        }
        if attributes.get("FifoQueue").is_some_and(|text| text == "true") {
            self.fifo = true;
        }
    }
}

fn redrive(text: &str, queue_of: &mut dyn FnMut(&str) -> u32) -> Option<Redrive> {
    let policy: serde_json::Value = serde_json::from_str(text).ok()?;
    let target = policy.get("deadLetterTargetArn")?.as_str()?;
    let count = policy.get("maxReceiveCount")?;
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    let name = target.rsplit(':').next().unwrap_or(target);
    Some(Redrive { target: queue_of(name), receives_max: u32::try_from(count).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(inv: u64, ret: u64) -> Span {
        Span { inv, ret }
    }

    #[test]
    fn a_register_has_what_may_have_been_written_last() {
        let mut register = Register::new(1);
        register.write(span(10, 20), true, 2);
        register.write(span(15, 25), true, 3);
        register.write(span(30, NEVER), false, 4);
        let at = |inv, ret| register.possible(span(inv, ret)).copied().collect::<Vec<u64>>();
        assert_eq!(at(5, 6), [1]);
        assert_eq!(at(12, 12), [1, 2]);
        assert_eq!(at(26, 27), [2, 3], "either may have been the later one");
        assert_eq!(at(90, 91), [2, 3, 4], "the unknown one may come at any time");
        let mut register = register.clone();
        register.write(span(40, 50), true, 5);
        assert_eq!(register.possible(span(90, 91)).copied().collect::<Vec<_>>(), [4, 5]);
        assert_eq!((register.min(span(90, 91)), register.max(span(90, 91))), (4, 5));
    }
}
