//! Everything that is logged: what the network did is counted, and all of it can be written down, so that
//! two runs of a seed can be held against each other line by line.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::machine;

/// Of the simulated network.
const NETWORK: &str = "turmoil";

static SENT: AtomicU64 = AtomicU64::new(0);
static DELIVERED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicU64 = AtomicU64::new(0);

/// Messages between hosts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Messages {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    /// Lost on their way because a link was cut.
    pub(crate) dropped: u64,
    /// Put off because a link stood still.
    pub(crate) held: u64,
}

/// What the network has done so far.
pub(crate) fn messages() -> Messages {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (sent, delivered) = (of(&SENT), of(&DELIVERED));
    Messages { sent, delivered, dropped: of(&DROPPED), held: of(&HELD) }
}

/// What is kept of what is said.
pub(crate) enum Keep {
    /// Nothing but counts.
    Nothing,
    /// What this level asks for, of the nodes, on standard error.
    Told(Level),
    /// Everything, in a file.
    All(PathBuf),
}

/// Begins to listen. Once in a process.
///
/// # Errors
/// When the file cannot be made.
pub(crate) fn begin(keep: &Keep) -> anyhow::Result<()> {
    let ear = match keep {
        Keep::Nothing => Ear { level: None, file: None },
        Keep::Told(level) => Ear { level: Some(*level), file: None },
        Keep::All(path) => Ear { level: Some(Level::DEBUG), file: Some(open(path)?) },
    };
    set_global_default(ear)?;
    Ok(())
}

fn open(path: &Path) -> std::io::Result<Mutex<BufWriter<File>>> {
    Ok(Mutex::new(BufWriter::new(File::create(path)?)))
}

struct Ear {
    /// Up to which others than the network are listened to.
    level: Option<Level>,
    /// `None`: standard error.
    file: Option<Mutex<BufWriter<File>>>,
}

impl Ear {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let is_network = metadata.target() == NETWORK;
        let is_heard = self.level.is_some_and(|level| *metadata.level() <= level);
        metadata.is_event() && (is_network || is_heard)
    }

    fn write(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line(String::new());
        let at_us = machine::now().as_micros();
        let _ = write!(line.0, "{at_us} {} {}:", metadata.level(), metadata.target());
        event.record(&mut line);
        line.0.push('\n');
        let written = match &self.file {
            Some(file) => file.lock().write_all(line.0.as_bytes()),
            None => std::io::stderr().write_all(line.0.as_bytes()),
        };
        written.expect("what is said can be written");
    }
}

impl Subscriber for Ear {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let is_network = event.metadata().target() == NETWORK;
        if is_network {
            let mut what = What::default();
            event.record(&mut what);
            what.count();
        }
        if self.file.is_some() || (self.level.is_some() && !is_network) {
            self.write(event);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// What is said of a message.
#[derive(Default)]
struct What {
    happened: Word,
    protocol: Word,
}

impl Visit for What {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let word = match field.name() {
            "message" => &mut self.happened,
            "protocol" => &mut self.protocol,
            _ => return,
        };
        // Longer than any that is looked for.
        if write!(word, "{value:?}").is_err() {
            *word = Word::default();
        }
    }
}

impl What {
    fn count(&self) {
        let counter = match self.happened.bytes() {
            // It goes another way than all others, and is said to be sent and not to be delivered.
            b"Send" if self.protocol.bytes() == b"TCP SYN-ACK" => return,
            b"Send" => &SENT,
            b"Delivered" => &DELIVERED,
            b"Drop" => &DROPPED,
            b"Hold" => &HELD,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The beginning of a text; longer ones are none that is looked for.
#[derive(Default)]
struct Word {
    text: [u8; 11],
    length: usize,
}

impl Word {
    fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

impl fmt::Write for Word {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.text.get_mut(self.length..self.length + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

impl Ear {
    fn flush(&self) {
        if let Some(file) = &self.file {
            file.lock().flush().expect("what was said can be written");
        }
    }
}

/// Makes sure that everything is in the file.
pub(crate) fn end() {
    tracing::dispatcher::get_default(|dispatch| {
        if let Some(ear) = dispatch.downcast_ref::<Ear>() {
            ear.flush();
        }
    });
}
