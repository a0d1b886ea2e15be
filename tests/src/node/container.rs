//! A node in a container of the compose cluster.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::cgroup::count;
use crate::compose::{Compose, docker};
use crate::filter::Filter;
use crate::node::Ended;

/// Of a processor, in microseconds of each 100 ms.
const CPU_PERIOD_US: &str = "100000";
/// More than any machine has: a limit of memory cannot be taken back.
const MEMORY_NONE: &str = "1024g";

/// See the module.
#[derive(Debug)]
pub(crate) struct Container {
    compose: Arc<Compose>,
    id: u64,
    service: String,
    is_up: bool,
    /// `docker stop`, while it waits for the end.
    stopping: Option<Child>,
    /// How often docker had started it again by itself when its memory was limited.
    restarts: u64,
}

impl Container {
    /// One that was started with its project.
    pub(crate) fn new(compose: Arc<Compose>, id: u64) -> Self {
        let service = format!("node{id}");
        Self { compose, id, service, is_up: true, stopping: None, restarts: 0 }
    }

    fn name(&self) -> Result<String, String> {
        let found = self.compose.container(&self.service)?;
        found.ok_or_else(|| format!("{} has no container", self.service))
    }

    fn inspect(&self, what: &str) -> Result<String, String> {
        docker(&["inspect", "--format", &format!("{{{{{what}}}}}"), &self.name()?])
    }

    pub(crate) fn is_up(&self) -> bool {
        self.is_up
    }

    pub(crate) fn start(&mut self) {
        let started = match self.compose.container(&self.service) {
            Ok(Some(container)) => docker(&["start", &container]).map(drop),
            _ => self.compose.create(&self.service),
        };
        started.expect("a container that was there can be started again");
        self.is_up = true;
    }

    pub(crate) fn kill(&mut self) {
        if self.is_up {
            let killed = self.name().and_then(|name| docker(&["kill", &name]));
            // It fails only if it is gone already.
            drop(killed);
        }
        self.is_up = false;
    }

    /// Asks it to end, and does not wait for it.
    pub(crate) fn terminate(&mut self) {
        let name = self.name().expect("only a running node is signalled");
        let stop = Command::new("docker").args(["stop", &name]).stdout(Stdio::null()).spawn();
        self.stopping = Some(stop.expect("docker can be started"));
    }

    /// Whether it has ended, and how. One that docker is starting again has not.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        if !self.is_up {
            return None;
        }
        let state =
            self.inspect(".State.Running}} {{.State.Restarting}} {{.State.ExitCode").ok()?;
        let mut words = state.split(' ');
        let (running, restarting) = (words.next()? == "true", words.next()? == "true");
        if running || restarting {
            return None;
        }
        if let Some(mut stopping) = self.stopping.take() {
            // It ends with the container.
            let _ = stopping.wait();
        }
        self.is_up = false;
        let code = words.next().unwrap_or_default().to_owned();
        Some(Ended { is_success: code == "0", how: format!("exit code {code}") })
    }

    pub(crate) fn pause(&self) {
        self.name().and_then(|name| docker(&["pause", &name])).expect("a running node is paused");
    }

    pub(crate) fn resume(&self) {
        self.name().and_then(|name| docker(&["unpause", &name])).expect("a paused node goes on");
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.inspect(".State.Paused").is_ok_and(|is| is == "true")
    }

    /// The first process in it, as this machine's kernel knows it.
    pub(crate) fn process(&self) -> Option<u32> {
        self.inspect(".State.Pid").ok()?.parse().ok().filter(|process| *process != 0)
    }

    pub(crate) fn log(&self) -> String {
        let Ok(name) = self.name() else { return String::new() };
        let output = Command::new("docker").args(["logs", &name]).output();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        output.map(|it| text(&it.stdout) + &text(&it.stderr)).unwrap_or_default()
    }

    /// Its container and its volume are gone.
    pub(crate) fn lose_disk(&mut self) -> Result<(), String> {
        self.is_up = false;
        self.compose.lose_disk(&self.service, self.id)
    }

    fn network(&self) -> Result<String, String> {
        self.inspect("range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end")
    }

    /// Its only link is gone, which it notices; returns the network's name.
    pub(crate) fn disconnect(&self) -> Result<String, String> {
        let network = self.network()?;
        docker(&["network", "disconnect", &network, &self.name()?])?;
        Ok(network)
    }

    /// The others know it by its service's name.
    pub(crate) fn connect(&self, network: &str) -> Result<(), String> {
        docker(&["network", "connect", "--alias", &self.service, network, &self.name()?]).map(drop)
    }

    /// Whether it is on a network.
    pub(crate) fn is_connected(&self) -> bool {
        self.network().is_ok_and(|network| !network.is_empty())
    }

    /// Its address on the project's network.
    pub(crate) fn address(&self) -> Result<Ipv4Addr, String> {
        let text = self.inspect("range .NetworkSettings.Networks}}{{.IPAddress}}{{end")?;
        text.parse().map_err(|_| format!("{} has no address: {text}", self.service))
    }

    /// What decides about the packets that come to it.
    pub(crate) fn filter(&self) -> Result<Filter, String> {
        let process = self.process().ok_or("it does not run")?.to_string();
        Ok(Filter::within(&["nsenter", "--net", "--target", &process]))
    }

    /// Gives it so much of a processor in each 100 ms; none: as much as there is.
    pub(crate) fn limit_cpu(&self, us: Option<u64>) -> Result<(), String> {
        let quota = us.map_or_else(|| "-1".to_owned(), |us| us.to_string());
        let update =
            ["update", "--cpu-period", CPU_PERIOD_US, "--cpu-quota", &quota, &self.name()?];
        docker(&update).map(drop)
    }

    /// Gives it so much memory beyond what it has; none: as much as there is.
    pub(crate) fn limit_memory(&mut self, more_bytes: Option<u64>) -> Result<(), String> {
        self.restarts = self.times_restarted()?;
        let limit = match more_bytes {
            Some(more) => {
                let files = ["memory.current", "memory/memory.usage_in_bytes"];
                let has: u64 =
                    self.control_file(&files)?.trim().parse().map_err(|_| "no number")?;
                (has + more).to_string()
            }
            None => MEMORY_NONE.to_owned(),
        };
        let update = ["update", "--memory", &limit, "--memory-swap", &limit, &self.name()?];
        docker(&update).map(drop)
    }

    /// How often it had to wait for a processor.
    pub(crate) fn throttled(&self) -> Result<u64, String> {
        let files = ["cpu.stat", "cpu/cpu.stat", "cpu,cpuacct/cpu.stat"];
        self.control_file(&files).map(|text| count(&text, "nr_throttled"))
    }

    fn times_restarted(&self) -> Result<u64, String> {
        self.inspect(".RestartCount")?.parse().map_err(|_| "no number".to_owned())
    }

    /// Whether docker has started it again since its memory was limited, or is about to.
    pub(crate) fn was_started_again(&self) -> Result<bool, String> {
        let is_killed = self.inspect(".State.OOMKilled")? == "true";
        Ok(is_killed || self.times_restarted()? > self.restarts)
    }

    /// How often it was refused memory.
    pub(crate) fn memory_refusals(&self) -> Result<u64, String> {
        let first = self.control_file(&["memory/memory.failcnt"]).map(|text| count(&text, ""));
        first.or_else(|_| self.control_file(&["memory.events"]).map(|text| count(&text, "max")))
    }

    /// One of these files of its control group, as it sees them itself.
    fn control_file(&self, files: &[&str]) -> Result<String, String> {
        let name = self.name()?;
        let mut error = "no file".to_owned();
        for file in files {
            match docker(&["exec", &name, "cat", &format!("/sys/fs/cgroup/{file}")]) {
                Ok(text) => return Ok(text),
                Err(why) => error = why,
            }
        }
        Err(error)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(mut stopping) = self.stopping.take() {
            // The container goes with its project.
            let _ = stopping.kill();
            let _ = stopping.wait();
        }
    }
}
