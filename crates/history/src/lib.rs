//! What clients saw of a queue service, written down: one clock, three-valued outcomes.
//!
//! Start with [`record`] (what is written down of a request) and [`Recorder`].

pub mod content;
pub mod file;
mod invariant;
mod options;
pub mod record;
mod recorder;

pub use content::{Content, Digests, MessageKey};
pub use file::{Header, ReadError, Reader, Tail};
pub use invariant::Invariant;
pub use options::{Bounds, Expect, OldHandles, Options, Promises};
pub use record::{Op, Outcome, Record};
pub use recorder::{Clock, Recorder};
