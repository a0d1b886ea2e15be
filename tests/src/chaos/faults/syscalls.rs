//! System calls that fail, injected by strace into a node that runs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::machine::Strike;
use super::{FaultKind, LOOK_AGAIN, Nemesis};
use crate::PATIENCE;

/// strace, attached to all threads of a process; detached when dropped.
struct Injection(Child);

impl Injection {
    fn attach(process: u32, calls: &str, once: bool) -> Result<Self, String> {
        let when = if once { ":when=1" } else { "" };
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &process.to_string()])
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error=EIO{when}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.map(Self).map_err(|error| format!("strace: {error}"))
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // Both fail only if it has ended already, as it does with the process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The log is written by `pwrite64` past the cache, which is a write and its sync in one; the
/// other stores are synced by `fsync` and `fdatasync`.
pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let (calls, once) = match strike.kind {
        FaultKind::EioWriteOnce => ("pwrite64", true),
        FaultKind::EioWrite => ("pwrite64", false),
        FaultKind::EioSyncOnce => ("fsync,fdatasync", true),
        _ => ("fsync,fdatasync", false),
    };
    let mut injections = Vec::new();
    for id in &strike.nodes {
        injections.push(Injection::attach(nemesis.fleet.process(*id)?, calls, once)?);
    }
    let ended = until_ended(nemesis, &strike.nodes).await;
    drop(injections);
    if !ended {
        // It may just not have made such a call; it goes on as it is.
        return Err("the node did not meet the error".to_owned());
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    for id in &strike.nodes {
        nemesis.fleet.launch(*id);
    }
    Ok(())
}

/// What may have been acknowledged wrongly is found by the checker; that a node goes on after a sync
/// that failed, here.
async fn until_ended(nemesis: &mut Nemesis<'_>, nodes: &[u64]) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if nodes.iter().all(|id| nemesis.fleet.has_ended(*id)) {
            return true;
        }
        sleep(LOOK_AGAIN).await;
    }
    false
}

pub(super) fn available() -> Result<(), String> {
    let found = Command::new("strace").arg("--version").stdout(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => Ok(()),
        _ => Err("strace is not installed".to_owned()),
    }
}

/// Read-only: the kernel has given the disk up, and so must the node.
pub(super) async fn read_only(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    for id in &strike.nodes {
        let disk = nemesis.fleet.disk(*id)?;
        disk.make_read_only()?;
    }
    if !until_ended(nemesis, &strike.nodes).await {
        return Err("the node goes on without a disk".to_owned());
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    for id in &strike.nodes {
        let disk = nemesis.fleet.disk(*id)?;
        disk.unmount()?;
        sleep(Duration::ZERO).await;
        disk.mount()?;
        nemesis.fleet.launch(*id);
    }
    Ok(())
}
