//! What clients saw of a queue service, written down, and whether the service may behave so.
//!
//! Start with [`record`] (what is written down of a request) and [`Recorder`]; then [`check`] and
//! [`Invariant`] (what is judged), whose modules under `invariants` each say what they check, which
//! rule that comes from and what makes it undecidable. [`check_file`] does everything for a file.
//!
//! Invariants:
//! - One clock for all clients. A request took effect between its start and its answer, or, when its
//!   outcome is not known, at any time after its start or never; only what holds for every such
//!   moment is a finding. A clean history is never flagged.
//! - Each attempt is a record of its own (retries of an SDK are switched off), and what was not
//!   provably refused may have happened.
//! - A verdict is *pass* only when something was looked at: what the run declares as expected and
//!   was not seen makes it *unknown*, which is as bad as a failure.
//! - One pass over the records, some hundred bytes kept of each, n log n at most (but for creations,
//!   deletions and attributes of queues, whose orders are searched within bounds).
//!
//! Not here: making requests, causing faults, sockets, async; the state of replicas (agreement of
//! logs and state machines is for whoever can see inside).

pub mod around;
mod check;
pub mod content;
pub mod file;
mod hash;
mod index;
mod invariant;
mod invariants;
mod linear;
mod options;
pub mod record;
mod recorder;
mod report;
mod run;
mod sum;
mod timeline;
pub mod verdict;
mod words;

pub use check::{Checker, check, check_reader};
pub use content::{Content, Digests, MessageKey};
pub use file::{Header, ReadError, Reader, Tail};
pub use invariant::Invariant;
pub use options::{Bounds, Expect, OldHandles, Options, Promises};
pub use record::{Op, Outcome, Record};
pub use recorder::{Clock, Recorder};
pub use report::report;
pub use run::{Checked, RunError, check_file};
pub use sum::{Seen, Sum};
pub use timeline::timeline;
pub use verdict::{Answer, FaultsSeen, Finding, Tally, Verdict, Wakes};
