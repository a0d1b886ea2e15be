//! System calls that fail, injected by strace into a node that runs.

use std::process::{Child, Command, Stdio};

use rand::RngExt as _;
use tempfile::NamedTempFile;

use super::evidence::within;
use super::machine::Strike;
use super::{FaultKind, Nemesis};
use crate::PATIENCE;
use crate::http::Connection;

/// strace, attached to all threads of a process; detached when dropped.
struct Injection {
    strace: Child,
    /// What it did, a line for each call.
    trace: NamedTempFile,
}

impl Injection {
    fn attach(process: u32, calls: &str, once: bool) -> Result<Self, String> {
        let trace = NamedTempFile::new().map_err(|error| error.to_string())?;
        let when = if once { ":when=1" } else { "" };
        let child = Command::new("strace")
            .args(["-f", "-qq", "-p", &process.to_string(), "-o"])
            .arg(trace.path())
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error=EIO{when}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let strace = child.map_err(|error| format!("strace: {error}"))?;
        Ok(Self { strace, trace })
    }

    /// Whether a call has failed.
    fn has_struck(&self) -> bool {
        let trace = std::fs::read(self.trace.path()).unwrap_or_default();
        String::from_utf8_lossy(&trace).contains("(INJECTED)")
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // Both fail only if it has ended already, as it does with the process.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// The log is written by `pwrite64` past the cache, which is a write and its sync in one; the
/// other stores are synced by `fsync` and `fdatasync`, and read by `pread64`.
pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let (calls, once) = match strike.kind {
        FaultKind::EioReadOnce => return reads(nemesis, strike, true).await,
        FaultKind::EioRead => return reads(nemesis, strike, false).await,
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
    let struck = injections.iter().all(Injection::has_struck);
    drop(injections);
    if !struck {
        // It may just not have made such a call; it goes on as it is.
        return Err("the node did not meet the error".to_owned());
    }
    if !ended {
        return Err("the node goes on after an error of its disk".to_owned());
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
    within(PATIENCE, async || nodes.iter().all(|id| nemesis.fleet.has_ended(*id))).await
}

/// A node reads little while it runs, so it is asked to read everything, or begins anew. Who only asked
/// for a copy need not be the end of a node; whoever must know what it holds is.
async fn reads(nemesis: &mut Nemesis<'_>, strike: &Strike, once: bool) -> Result<(), String> {
    let begins = nemesis.dice.random_range(0..2) == 0;
    for id in &strike.nodes {
        // So that there is something to read.
        nemesis.fleet.stop(*id).await;
        nemesis.fleet.launch(*id);
        if !begins {
            nemesis.fleet.whole().await;
        }
        let injection = Injection::attach(nemesis.fleet.process(*id)?, "pread64", once)?;
        let admin = nemesis.fleet.admin(*id);
        let has_struck = within(PATIENCE / 2, async || {
            let mut connection = Connection::new(admin.as_str());
            // Whether and what it answers says nothing.
            let _ = connection.request("GET /digest HTTP/1.1", "", PATIENCE / 10).await;
            injection.has_struck() || nemesis.fleet.has_ended(*id)
        });
        let has_struck = has_struck.await && injection.has_struck();
        if !has_struck {
            return Err("the node read nothing".to_owned());
        }
        nemesis.fired(strike);
        nemesis.hold_for_long().await;
    }
    Ok(())
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
        disk.mount()?;
        nemesis.fleet.launch(*id);
    }
    Ok(())
}
