//! Clients of every kind on queues of every kind while nodes fail, judged by everything that a queue
//! service must hold.
//!
//! Start with [`run()`]: it creates queues, lets producers, consumers and mixed clients loose on them
//! through all nodes, makes faults, heals them, drains the queues until nothing can be hidden any
//! more, and hands the history to [`flotilla_history`].
//!
//! Invariants:
//! - Every request is written down with what is exactly known of its outcome, and a client makes no
//!   other request before that; no client repeats anything without writing it down again.
//! - A fault is written down when it was seen to be there. A run in which one was not there three
//!   times under load, or in which a rule had nothing to examine, is no pass.
//!
//! A verdict that is no pass comes with its evidence: the history (one line of JSON for each
//! request; `flotilla-check FILE` judges it again, and again the same), a page with the requests
//! around each finding (`FILE.timeline.html`), the verdict in JSON, and the nodes' logs. Read the
//! report from its top: the doubts say why a run without findings proves too little; a finding
//! names its rule (`S1`, `F2`, ...: the modules of `flotilla-history`'s `invariants` say what
//! each is, and when it cannot be decided) and the records that prove it, whose times are those of
//! the timeline. `cargo run -p flotilla-history --bin flotilla-check -- FILE` builds the judge.
//! A seed repeats what clients and faults choose, not the interleaving.
//!
//! Deliberately not here: faults inside a process (the crates have those).

mod actor;
mod admin;
mod answer;
mod book;
mod clients;
mod corners;
mod crash;
mod crowd;
mod dense;
mod faults;
mod matrix;
mod probing;
mod queues;
pub(crate) mod remains;
mod run;
mod totals;
mod waiting;

pub use crash::found;
pub use faults::{FaultKind, Ground, Possible, Unavailable};
pub use matrix::{Cell, Matrix};
pub use probing::Deed;
pub use queues::Work;
pub use run::{Judged, Plan, run};
pub use totals::Totals;
