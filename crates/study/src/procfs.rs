//! What processes and the machine used, from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The unit of times in `/proc` (USER_HZ): 100 on every architecture that Linux runs servers on.
const TICKS_PER_S: f64 = 100.0;

/// A stretch of time, and the processor time that was used up to its beginning.
#[derive(Debug)]
pub(crate) struct Meter {
    pids: Vec<u32>,
    begin: Instant,
    ticks: Ticks,
}

/// What was used between two moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    pub(crate) elapsed: Duration,
    /// Of the given processes; `None` when none were given.
    pub(crate) server_cpu_s: Option<f64>,
    pub(crate) client_cpu_s: f64,
    /// Of everything else on the machine, the kernel's own work included.
    pub(crate) other_cpu_s: f64,
    /// Of the given processes, at the end.
    pub(crate) server_rss_mib: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Ticks {
    server: u64,
    client: u64,
    machine: u64,
}

impl Meter {
    pub(crate) fn start(pids: &[u32]) -> anyhow::Result<Self> {
        let ticks = Ticks::now(pids)?;
        Ok(Self { pids: pids.to_vec(), begin: Instant::now(), ticks })
    }

    pub(crate) fn stop(&self) -> anyhow::Result<Usage> {
        let elapsed = self.begin.elapsed();
        let now = Ticks::now(&self.pids)?;
        let seconds = |now: u64, then: u64| now.saturating_sub(then) as f64 / TICKS_PER_S;
        let server_cpu_s = seconds(now.server, self.ticks.server);
        let client_cpu_s = seconds(now.client, self.ticks.client);
        let machine_cpu_s = seconds(now.machine, self.ticks.machine);
        Ok(Usage {
            elapsed,
            server_cpu_s: (!self.pids.is_empty()).then_some(server_cpu_s),
            client_cpu_s,
            other_cpu_s: (machine_cpu_s - server_cpu_s - client_cpu_s).max(0.0),
            server_rss_mib: rss_mib(&self.pids)?,
        })
    }
}

/// Resident memory of the processes, in MiB; `None` when there are none.
pub(crate) fn rss_mib(pids: &[u32]) -> anyhow::Result<Option<f64>> {
    let mut kib = 0;
    for pid in pids {
        kib += read(&format!("/proc/{pid}/status"), rss_kib)?;
    }
    Ok((!pids.is_empty()).then_some(kib as f64 / 1024.0))
}

impl Ticks {
    fn now(pids: &[u32]) -> anyhow::Result<Self> {
        let mut server = 0;
        for pid in pids {
            server += read(&format!("/proc/{pid}/stat"), process_ticks)?;
        }
        Ok(Self {
            server,
            client: read("/proc/self/stat", process_ticks)?,
            machine: read("/proc/stat", machine_ticks)?,
        })
    }
}

fn read(path: &str, parse: fn(&str) -> Option<u64>) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    match parse(&text) {
        Some(value) => Ok(value),
        None => bail!("{path} is not understood"),
    }
}

/// User and system time of a process with all its threads, from its `stat`.
fn process_ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may contain blanks and parentheses: count from the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Everything but idle and waiting for disks, of all processors, from `/proc/stat`.
fn machine_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> =
        line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    // user, nice, system, (idle, iowait,) irq, softirq, steal; guests are part of user.
    [0, 1, 2, 5, 6, 7].into_iter().map(|index| fields.get(index).copied()).sum()
}

fn rss_kib(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_times_are_found_behind_any_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 731 269 0 0 20 0 9 0 5 6 7";
        assert_eq!(process_ticks(stat), Some(1000));
        assert_eq!(process_ticks("42 (a) S 1 2"), None);
    }

    #[test]
    fn machine_times_leave_out_idle_and_waiting() {
        let stat = "cpu  10 20 30 4000 5000 60 70 80 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(machine_ticks(stat), Some(270));
        assert_eq!(machine_ticks("cpu0 1 2"), None);
    }

    #[test]
    fn resident_memory_is_found() {
        assert_eq!(rss_kib("Name:\tx\nVmRSS:\t   2048 kB\nVmSwap: 0 kB\n"), Some(2048));
        assert_eq!(rss_kib("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_can_be_metered() {
        let meter = Meter::start(&[std::process::id()]).unwrap();
        let usage = meter.stop().unwrap();
        assert!(usage.server_rss_mib.unwrap() > 0.0);
        assert!(Meter::start(&[]).unwrap().stop().unwrap().server_cpu_s.is_none());
    }
}
