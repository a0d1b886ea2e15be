//! What can be asked for.

use std::fmt;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};
use flotilla_client::Endpoint;

use crate::sqs::VISIBILITY_TIMEOUT_S;

/// Puts load on an SQS endpoint, measures it, and checks that every acknowledged message comes back.
///
/// Prints one JSON line for each measurement, and a table on standard error. Exit code 3: a
/// message was lost or damaged.
#[derive(Debug, Parser)]
#[command(name = "flotilla-bench", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for every workload.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// Endpoints, workers take them in turn.
    #[arg(long, global = true, value_delimiter = ',', default_value = "http://127.0.0.1:9324")]
    pub(crate) endpoints: Vec<Endpoint>,
    /// Process ids of the server on this machine, for its processor time and memory.
    #[arg(long, global = true, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// Seconds of every timed phase.
    #[arg(long, global = true, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Leave out the final check that everything acknowledged comes back.
    #[arg(long, global = true)]
    pub(crate) no_verify: bool,
    /// Seconds without anything new after which what is missing is lost. The default is longer
    /// than a message stays hidden whose receiver never saw it.
    #[arg(long, global = true, default_value_t = VISIBILITY_TIMEOUT_S + 15)]
    pub(crate) patience: u32,
    /// A FIFO queue in high throughput mode, and messages of so many groups in turn.
    #[arg(long, global = true, value_parser = messages())]
    pub(crate) groups: Option<u64>,
    /// A name for what is measured, for the table.
    #[arg(long, global = true)]
    pub(crate) label: Option<String>,
}

/// A workload, or a summary of earlier ones.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Producers send, nobody receives.
    Send(Send),
    /// Producers send while consumers receive and delete.
    Mixed(Mixed),
    /// Consumers empty a filled queue.
    Drain(Drain),
    /// Messages at a fixed rate, whether or not answers come; timed from when each was due.
    Latency(Latency),
    /// Single messages for consumers that wait in long polls.
    IdleLongpoll(IdleLongpoll),
    /// Rates and latencies of an empty queue and of a deep one.
    Deep(Deep),
    /// A table of medians from files of JSON lines.
    Summary {
        /// What runs have printed.
        files: Vec<PathBuf>,
    },
}

/// See [`Command::Send`].
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Send {
    #[arg(long, default_value_t = 32, value_parser = workers())]
    pub(crate) producers: usize,
    #[arg(long, default_value_t = 1, value_parser = batch())]
    pub(crate) batch: usize,
}

/// See [`Command::Mixed`].
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Mixed {
    #[arg(long, default_value_t = 16, value_parser = workers())]
    pub(crate) producers: usize,
    #[arg(long, default_value_t = 16, value_parser = workers())]
    pub(crate) consumers: usize,
    #[arg(long, default_value_t = 1, value_parser = batch())]
    pub(crate) batch: usize,
    /// Messages that are sent and not received, at most.
    #[arg(long, default_value_t = 500, value_parser = RangedU64ValueParser::<usize>::new().range(10..=1_000_000))]
    pub(crate) window: usize,
}

/// See [`Command::Drain`].
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Drain {
    #[arg(long, default_value_t = 8, value_parser = workers())]
    pub(crate) consumers: usize,
    #[arg(long, default_value_t = 10, value_parser = batch())]
    pub(crate) batch: usize,
    #[arg(long, default_value_t = 30_000, value_parser = messages())]
    pub(crate) messages: u64,
}

/// See [`Command::Latency`].
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Latency {
    /// Messages a second.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Requests that can be under way; more wait for one of them.
    #[arg(long, default_value_t = 64, value_parser = workers())]
    pub(crate) producers: usize,
    #[arg(long, default_value_t = 8, value_parser = workers())]
    pub(crate) consumers: usize,
}

/// See [`Command::IdleLongpoll`].
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct IdleLongpoll {
    #[arg(long, default_value_t = 1, value_parser = workers())]
    pub(crate) consumers: usize,
    #[arg(long, default_value_t = 60, value_parser = messages())]
    pub(crate) messages: u64,
}

/// See [`Command::Deep`].
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Deep {
    /// How many messages the queue is filled with.
    #[arg(long, default_value_t = 1_000_000, value_parser = messages())]
    pub(crate) messages: u64,
    #[arg(long, default_value_t = 16, value_parser = workers())]
    pub(crate) producers: usize,
    #[arg(long, default_value_t = 16, value_parser = workers())]
    pub(crate) consumers: usize,
    #[arg(long, default_value_t = 10, value_parser = batch())]
    pub(crate) batch: usize,
}

fn workers() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=4096)
}

fn batch() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=10)
}

fn messages() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=1_000_000_000)
}

/// The name of a workload in tables: its arguments, so that different ones are told apart.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(Send { producers, batch }) => {
                write!(f, "send --producers {producers} --batch {batch}")
            }
            Self::Mixed(Mixed { producers, consumers, batch, window }) => write!(
                f,
                "mixed --producers {producers} --consumers {consumers} --batch {batch} \
                 --window {window}"
            ),
            Self::Drain(Drain { consumers, batch, messages }) => {
                write!(f, "drain --consumers {consumers} --batch {batch} --messages {messages}")
            }
            Self::Latency(Latency { rate, producers, consumers }) => {
                write!(f, "latency --rate {rate} --producers {producers} --consumers {consumers}")
            }
            Self::IdleLongpoll(IdleLongpoll { consumers, messages }) => {
                write!(f, "idle-longpoll --consumers {consumers} --messages {messages}")
            }
            Self::Deep(Deep { messages, producers, consumers, batch }) => write!(
                f,
                "deep --messages {messages} --producers {producers} --consumers {consumers} \
                 --batch {batch}"
            ),
            Self::Summary { .. } => f.write_str("summary"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_given_back_as_arguments() {
        for line in [
            "send --producers 3 --batch 2",
            "mixed --producers 1 --consumers 2 --batch 3 --window 40",
            "drain --consumers 5 --batch 4 --messages 7",
            "latency --rate 9 --producers 8 --consumers 3",
            "idle-longpoll --consumers 2 --messages 3",
            "deep --messages 100 --producers 2 --consumers 3 --batch 4",
        ] {
            let words = std::iter::once("flotilla-bench").chain(line.split(' '));
            let args = Args::try_parse_from(words).unwrap();
            assert_eq!(args.command.to_string(), line);
        }
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let args = Args::try_parse_from([
            "flotilla-bench",
            "send",
            "--endpoints",
            "http://a:1,http://b:2",
            "--pids",
            "3,4",
        ])
        .unwrap();
        assert_eq!(args.settings.endpoints.len(), 2);
        assert_eq!(args.settings.pids, [3, 4]);
    }

    #[test]
    fn what_the_protocol_does_not_allow_is_refused() {
        for wrong in ["--batch=0", "--batch=11", "--producers=0", "--endpoints=x", "--seconds=0"] {
            assert!(Args::try_parse_from(["flotilla-bench", "send", wrong]).is_err(), "{wrong}");
        }
    }
}
