//! One node: a process of this machine, or a container of the compose cluster.

mod container;
mod process;

use std::fmt;

pub(crate) use container::Container;
pub(crate) use process::{Process, fake_clock};

pub use process::binary;

/// The ports of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    pub(crate) peer: u16,
    pub(crate) admin: u16,
}

/// Of a cluster whose settings do not say.
pub(crate) const SHARDS: usize = 4;

/// How a node ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) is_success: bool,
    /// In words.
    pub(crate) how: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.how)
    }
}

/// One node of a fleet, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u64,
    /// `host:port` of its SQS endpoint.
    pub(crate) api: String,
    /// The same of its admin port.
    pub(crate) admin: String,
    pub(crate) body: Body,
}

/// What it runs in.
#[derive(Debug)]
pub(crate) enum Body {
    Process(Process),
    Container(Container),
}

impl Node {
    /// # Panics
    /// When it is a container, which has nothing that can be asked for here.
    pub(crate) fn process(&self) -> &Process {
        match &self.body {
            Body::Process(process) => process,
            Body::Container(_) => panic!("node {} is a container", self.id),
        }
    }

    pub(crate) fn process_mut(&mut self) -> &mut Process {
        match &mut self.body {
            Body::Process(process) => process,
            Body::Container(_) => panic!("node {} is a container", self.id),
        }
    }

    pub(crate) fn container(&mut self) -> Option<&mut Container> {
        match &mut self.body {
            Body::Process(_) => None,
            Body::Container(container) => Some(container),
        }
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.body {
            Body::Process(process) => process.pid(),
            Body::Container(container) => container.process(),
        }
    }

    /// Everything it logged, over all its lives.
    pub(crate) fn log(&self) -> String {
        match &self.body {
            Body::Process(process) => process.log(),
            Body::Container(container) => container.log(),
        }
    }

    /// What it logged of panics, over all its lives.
    pub(crate) fn panics(&self) -> Vec<String> {
        let log = self.log();
        log.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect()
    }

    /// Its ends by signals that nobody sent. A container's supervisor tells of none.
    pub(crate) fn accidents(&self) -> &[String] {
        match &self.body {
            Body::Process(process) => process.accidents(),
            Body::Container(_) => &[],
        }
    }

    pub(crate) fn spawn(&mut self) {
        match &mut self.body {
            Body::Process(process) => process.spawn(&[]),
            Body::Container(container) => container.start(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        match &self.body {
            Body::Process(process) => process.is_up(),
            Body::Container(container) => container.is_up(),
        }
    }

    /// Whether it ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        match &mut self.body {
            Body::Process(process) => process.ended(),
            Body::Container(container) => container.ended(),
        }
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) {
        match &mut self.body {
            Body::Process(process) => process.signal("TERM"),
            Body::Container(container) => container.terminate(),
        }
    }

    pub(crate) fn pause(&self) {
        match &self.body {
            Body::Process(process) => process.signal("STOP"),
            Body::Container(container) => container.pause(),
        }
    }

    pub(crate) fn resume(&self) {
        match &self.body {
            Body::Process(process) => process.signal("CONT"),
            Body::Container(container) => container.resume(),
        }
    }

    /// Whether the kernel says that it stands still.
    pub(crate) fn is_paused(&self) -> bool {
        match &self.body {
            Body::Process(process) => process.is_paused(),
            Body::Container(container) => container.is_paused(),
        }
    }

    /// SIGKILL; it is gone when this returns.
    pub(crate) fn kill(&mut self) {
        match &mut self.body {
            Body::Process(process) => process.kill(),
            Body::Container(container) => container.kill(),
        }
    }
}
